"""The training command."""
