"""Which part of a picture one step of training shows: tiles that hold something, and a share that hold nothing."""

from dataclasses import dataclass

import numpy as np

from ..batch import Size, Window
from ..config.labels import VOID

TRIES = 64
"""Places that are tried for a tile without foreground."""


@dataclass(frozen=True, kw_only=True)
class TrainingWindows:
    """Draws tiles for training.

    Attributes:
        tile: Side in pixels of the picture.
        empty_share: Chance to show a tile without foreground.
        by_class: See `draw_window`.
    """

    tile: int
    empty_share: float = 0.1
    by_class: bool = False

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> Window:
        """A tile of the picture with a label map; see `draw_window`."""
        return draw_window(labels, self.tile, rng, empty_share=self.empty_share, by_class=self.by_class)


def draw_window(
    labels: np.ndarray, tile: int, rng: np.random.Generator, *, empty_share: float, by_class: bool = False
) -> Window:
    """A tile of a picture for training, inside the picture; all of it along sides that are not longer than a tile.

    Args:
        labels: ``(H, W)`` uint8 label map.
        tile: Side of the tile in pixels.
        rng: Source of randomness.
        empty_share: Chance to show a tile without foreground, where one is found.
        by_class: Whether all classes that the picture has are equally likely to be shown, instead of all pixels.

    Returns:
        A tile with a random pixel of the foreground at a random place of it; one without any; or, where the picture
        has no foreground, any tile of which some pixel counts.
    """
    size = (labels.shape[0], labels.shape[1])
    window = (min(tile, size[0]), min(tile, size[1]))
    empty = rng.random() < empty_share
    pixel = _foreground_pixel(labels, rng, by_class=by_class)
    if empty or pixel is None:
        for _ in range(TRIES):
            place = _anywhere(size, window, rng)
            seen = labels[place.top : place.top + window[0], place.left : place.left + window[1]]
            if not ((seen != 0) & (seen != VOID)).any() and (seen != VOID).any():
                return place
    if pixel is None:
        return _anywhere(size, window, rng)
    starts = [
        int(np.clip(at - rng.integers(side), 0, whole - side))
        for at, side, whole in zip(pixel, window, size, strict=True)
    ]
    return Window(starts[0], starts[1], *window)


def _anywhere(size: Size, window: Size, rng: np.random.Generator) -> Window:
    top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(size, window, strict=True))
    return Window(top, left, *window)


def _foreground_pixel(labels: np.ndarray, rng: np.random.Generator, *, by_class: bool) -> tuple[int, int] | None:
    """Row and column of a pixel of the foreground; None if there is none."""
    if by_class:
        there = [label for label in np.unique(labels).tolist() if label not in (0, VOID)]
        if not there:
            return None
        wanted = labels == there[int(rng.integers(len(there)))]
    else:
        wanted = (labels != 0) & (labels != VOID)
    counts = np.count_nonzero(wanted, axis=1)
    total = int(counts.sum())
    if not total:
        return None
    chosen = int(rng.integers(total))
    ends = np.cumsum(counts)
    row = int(np.searchsorted(ends, chosen, side="right"))
    column = int(np.flatnonzero(wanted[row])[chosen - int(ends[row] - counts[row])])
    return row, column
