"""Files to pixels, and mask values to background, foreground and void, under one set of rules."""
