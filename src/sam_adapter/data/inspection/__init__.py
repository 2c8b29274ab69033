"""The data doctor: every file looked at before work starts."""
