"""Label maps ``(H, W)`` int32: connected parts, their sizes and boxes; large ones a band of rows at a time."""

import cv2
import numpy as np

from ..config.labels import VOID

BAND_PIXELS = 1 << 22
"""Pixels of the rows of a large map that are counted or looked up at once."""


def number_parts(mask: np.ndarray) -> np.ndarray:
    """Number the connected parts of a mask, over corners too.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        ``(H, W)`` int32, 0 outside the mask and 1..N inside.
    """
    return cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]


def large_parts(labels: np.ndarray, least_area: int) -> np.ndarray:
    """Leave out small parts and number the others from 1 without gaps, in place; ``(H, W)`` int32."""
    areas = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int64)
    for band in bands_of(labels.shape):
        areas += np.bincount(labels[band].ravel(), minlength=len(areas))
    large = areas >= max(least_area, 1)
    large[0] = False
    numbers = np.where(large, np.cumsum(large, dtype=np.int32), np.int32(0))
    for band in bands_of(labels.shape):
        labels[band] = numbers[labels[band]]
    return labels


def boxes_of(labels: np.ndarray, *, void: int | None = VOID) -> dict[int, tuple[slice, slice]]:
    """Rows and columns around each object of a label map ``(H, W)`` int32, by number; without the value of void."""
    from scipy.ndimage import find_objects

    found = find_objects(labels)
    return {number: box for number, box in enumerate(found, start=1) if box is not None and number != void}


def bands_of(shape: tuple[int, ...]) -> list[slice]:
    """Rows of one band after another, so that no array of 64-bit numbers is made of a whole large picture."""
    rows = max(BAND_PIXELS // max(shape[1], 1), 1)
    return [slice(top, top + rows) for top in range(0, shape[0], rows)]
