"""Networks that the project exists for."""
