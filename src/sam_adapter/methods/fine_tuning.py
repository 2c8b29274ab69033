"""Plain fine-tuning: the base's own parts are trained and nothing is added."""

from .base import Method


class DecoderMethod(Method):
    """The mask decoder alone."""

    name = "decoder"


class FullMethod(Method):
    """The whole model."""

    name = "full"
