"""The check command."""
