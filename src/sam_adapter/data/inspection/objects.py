"""What one mask holds: how many objects, how small they are, and how well one box stands for all of them."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from ...annotations.reading.values import row_blocks
from ...config.labels import VOID
from ...tasks.label_maps import boxes_of

MOST_PIXELS = 4_000_000
"""Larger masks are joined into blocks before their parts are found; parts less than a block apart become one."""
SPECK = 0.05
"""A part counts as an object if it has at least this share of the largest one's area."""
CELL = 4
"""SAM decodes one mask value for a square of this many pixels a side of its input."""
TINY_CELLS = 2
"""A part that covers fewer cells than this is lost in SAM's mask."""
_MOST_AREAS = 256
_BAND_PIXELS = 1 << 22


@dataclass(frozen=True)
class Objects:
    """Numbers of the connected parts of a mask, in pixels of the picture.

    Attributes:
        parts: All of them.
        count: Those that are no specks beside the largest.
        box_fill: Share of the box around all foreground that is foreground; 0 without foreground.
        areas: Areas of the 256 smallest parts, in order; of all objects that are told apart: their median is asked for.
        extent: Longest side of the box around the part that extends farthest; a block too long at most in large masks.
        touching: Pairs of objects that touch, over corners too; connected parts never do.
    """

    parts: int = 0
    count: int = 0
    box_fill: float = 0.0
    areas: tuple[int, ...] = ()
    extent: int = field(default=0, compare=False)
    touching: int = 0

    def tiny(self, *, longest_side: int, image_size: int, cells: int = TINY_CELLS) -> int:
        """Number of parts that are lost in SAM's mask.

        Args:
            longest_side: Of the picture.
            image_size: Side of the square that the encoder sees.
            cells: Of the mask; parts that cover fewer are counted.
        """
        limit = tiny_area(longest_side=longest_side, image_size=image_size, cells=cells)
        return sum(area < limit for area in self.areas)

    def has_tiny_objects(self, *, longest_side: int, image_size: int) -> bool:
        """Whether parts lost in SAM's mask are what is to be found, not a speck or two beside it."""
        tiny = self.tiny(longest_side=longest_side, image_size=image_size)
        return tiny > 0 and (tiny == self.parts or (tiny >= 3 and 2 * tiny >= self.parts))


class ClassLook(NamedTuple):
    """What one picture has of one class.

    Attributes:
        label: Of the class.
        pixels: Of its area.
        objects: As annotated; of masks the parts that hang together.
    """

    label: int
    pixels: int
    objects: int


def tiny_area(*, longest_side: int, image_size: int, cells: int = TINY_CELLS) -> float:
    """The area in pixels of the picture below which a part is lost in SAM's mask; that of some cells of it."""
    return cells * (CELL * longest_side / image_size) ** 2


def objects_in(mask: np.ndarray) -> Objects:
    """Find the parts of a mask that hang together, over corners too.

    Args:
        mask: ``(H, W)`` bool.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Objects()
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    areas, extent = _areas(inside)
    areas = np.sort(areas)
    count = int((areas >= SPECK * areas[-1]).sum())
    fill = float(np.count_nonzero(inside)) / inside.size
    return Objects(len(areas), count, fill, tuple(int(area) for area in areas[:_MOST_AREAS]), extent)


def objects_of_instances(labels: np.ndarray) -> Objects:
    """The objects of a label map ``(H, W)`` int32, in which each has a number."""
    areas = np.zeros(max(int(labels.max(initial=0)), VOID) + 1, np.int64)
    for rows in row_blocks(labels):
        areas += np.bincount(labels[rows].ravel(), minlength=len(areas))
    areas[[0, VOID]] = 0
    areas = np.sort(areas[areas > 0])
    if not len(areas):
        return Objects()
    extent = max(side.stop - side.start for box in boxes_of(labels).values() for side in box)
    return Objects(len(areas), len(areas), 1.0, tuple(areas.tolist()), extent, touching_pairs(labels))


def touching_pairs(labels: np.ndarray) -> int:
    """How many pairs of objects of a label map ``(H, W)`` int32 touch, over corners too; void is no object."""
    rows = max(_BAND_PIXELS // max(labels.shape[1], 1), 1)
    found = np.zeros(0, np.int64)
    for top in range(0, labels.shape[0], rows):
        band = labels[top : top + rows + 1]
        for here, there in (
            (band[:, :-1], band[:, 1:]),
            (band[:-1], band[1:]),
            (band[:-1, :-1], band[1:, 1:]),
            (band[:-1, 1:], band[1:, :-1]),
        ):
            apart = (here != there) & (here > 0) & (there > 0) & (here != VOID) & (there != VOID)
            one, other = here[apart].astype(np.int64), there[apart].astype(np.int64)
            found = np.union1d(found, np.minimum(one, other) << 32 | np.maximum(one, other))
    return len(found)


def _areas(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Area of each connected part, exact for what is joined into blocks too; and the longest side of a part's box."""
    block = math.ceil(math.sqrt(mask.size / MOST_PIXELS))
    if block <= 1:
        statistics = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)[2]
        return statistics[1:, cv2.CC_STAT_AREA], _extent(statistics)
    starts = np.arange(0, mask.shape[1], block)
    bands = range(0, mask.shape[0], block)
    held = np.stack([np.add.reduceat(mask[top : top + block].sum(axis=0, dtype=np.int64), starts) for top in bands])
    joined = (held > 0).astype(np.uint8)
    labels, statistics = cv2.connectedComponentsWithStats(joined, connectivity=8, ltype=cv2.CV_32S)[1:3]
    areas = np.bincount(labels.ravel(), weights=held.ravel())[1:].astype(np.int64)
    return areas, min(block * _extent(statistics), max(mask.shape))


def _extent(statistics: np.ndarray) -> int:
    """Longest side of a box, of the parts that OpenCV has found."""
    return int(statistics[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max())
