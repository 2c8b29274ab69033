"""Sizes and parts of pictures."""

from typing import NamedTuple

Size = tuple[int, int]
"""Height and width in pixels."""


class Window(NamedTuple):
    """The part of a picture such as the one that a sample shows, in pixels of the picture."""

    top: int
    left: int
    height: int
    width: int
