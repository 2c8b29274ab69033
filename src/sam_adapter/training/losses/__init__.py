"""Losses on mask logits at original size; one line in the registry a loss."""
