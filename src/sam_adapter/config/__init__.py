"""Options of the commands: one attribute an option, checked together."""
