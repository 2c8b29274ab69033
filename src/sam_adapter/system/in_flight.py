"""How many pictures may be in memory at once: bounded by their pixels, not by the number of threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIXELS = 24_000_000
"""Pixels that are held at once; a single picture may have more."""


class InFlight:
    """A budget of pixels that threads share.

    Args:
        pixels: Its size; what is larger waits until it is alone.
    """

    def __init__(self, pixels: int = PIXELS) -> None:
        self._free = self._all = pixels
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels are free, and take them meanwhile."""
        taken = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
