"""Adapters, foreign checkpoints and kept embeddings on disk."""
