"""The prediction command."""
