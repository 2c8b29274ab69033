"""Objects as annotation files outline them: by polygons, run lengths, or a mask file each."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .run_lengths import runs_of


@dataclass(frozen=True, eq=False, kw_only=True)
class AnnotatedObject:
    """One object of an image; polygons, run lengths and mask file exclude one another.

    Attributes:
        class_name: As the annotation names it.
        polygons: ``(n, 2)`` float64 XY pixels each, the corner of the first pixel being (0, 0); their union is the
            object.
        run_lengths: What ``pycocotools.mask`` decodes: ``{"size": [H, W], "counts": bytes}``.
        file: A mask of the object alone, at the image's size; the set's table of mask values says what is foreground.
        void: The annotation says nothing about what lies in it.
        entry: Where it stands in its file, for errors: ``annotations[3] (id 17)``.
    """

    class_name: str
    polygons: tuple[np.ndarray, ...] = ()
    run_lengths: dict[str, Any] | None = None
    file: Path | None = None
    void: bool = False
    entry: str = ""

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Where the object is, as COCO's own code fills polygons.

        Args:
            size: ``(H, W)`` of the image.

        Returns:
            ``(H, W)`` bool; of an object without `file`.

        Raises:
            DataError: If the run lengths are of another size.
        """
        whole = np.zeros(size, dtype=bool)
        window, inside = self.region(size)
        whole[window] = inside
        return whole

    def region(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """The part of `mask` that the object lies in: its cost follows from the object's size, not from the image's.

        Args:
            size: ``(H, W)`` of the image.

        Returns:
            Rows and columns of the image, and ``(h, w)`` bool in them; both empty if it has no pixel in the image.

        Raises:
            DataError: If the run lengths are of another size.
        """
        if self.run_lengths is None:
            return _unrolled(_filled(self.polygons, size), size[0])
        if tuple(self.run_lengths["size"]) != size:
            height, width = self.run_lengths["size"]
            raise DataError(
                f"{self.entry}: run lengths of {width}x{height} pixels for an image of {size[1]}x{size[0]}."
            )
        return _unrolled(self.run_lengths["counts"], size[0])


def label_map(objects: Iterable[AnnotatedObject], size: tuple[int, int], *, void: int) -> np.ndarray:
    """Number objects from 1 and paint them in their order, later ones over earlier ones.

    Args:
        objects: Of one image, none of them a mask file.
        size: ``(H, W)`` of the image.
        void: Value of what is void; such objects take no number.

    Returns:
        ``(H, W)`` int32, 0 where there is no object.
    """
    labels = np.zeros(size, dtype=np.int32)
    number = 0
    for one in objects:
        number += not one.void
        window, inside = one.region(size)
        labels[window][inside] = void if one.void else number
    return labels


def _filled(polygons: tuple[np.ndarray, ...], size: tuple[int, int]) -> bytes:
    """Compressed counts of the union of polygons."""
    from pycocotools import mask as coco

    flat: Any = [polygon.ravel().tolist() for polygon in polygons]
    encoded: Any = coco.frPyObjects(flat, *size)  # work along the outlines alone
    merged: Any = encoded[0] if len(encoded) == 1 else coco.merge(encoded)
    return merged["counts"]


def _unrolled(counts: bytes, height: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """Compressed counts within the box of their foreground."""
    edges = np.cumsum(runs_of(counts))
    starts, ends = edges[:-1:2], edges[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if len(starts) == 0:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    top, bottom = 0, height
    if (starts // height == (ends - 1) // height).all():  # no run goes on in the next column
        top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
        columns = starts // height
        starts, ends = ((edge - columns * height - top) + (columns - left) * (bottom - top) for edge in (starts, ends))
    else:
        starts, ends = starts - left * height, ends - left * height
    edges = np.stack([starts, ends], axis=1).ravel()
    lengths = np.diff(edges, prepend=0, append=(right - left) * (bottom - top))
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return (slice(top, bottom), slice(left, right)), inside.reshape(right - left, bottom - top).T
