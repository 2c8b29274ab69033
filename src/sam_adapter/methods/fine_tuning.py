"""Plain fine-tuning: the base's own parts are trained and nothing is added."""

from .base import Method


class FineTuning(Method):
    """Parts of the base; which ones, the registry and ``--parts`` say."""
