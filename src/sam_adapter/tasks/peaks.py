"""Peaks of a surface, as tall as is asked: h-maxima (Soille, *Morphological image analysis*, 2003)."""

from itertools import pairwise

import cv2
import numpy as np

from .label_maps import number_parts

DILATIONS = 32
"""After which a reconstruction goes on in sweeps: most objects are narrower, and small arrays dilate faster."""
_SQUARE = np.ones((3, 3), dtype=np.uint8)
_ROW = np.ones((1, 3), dtype=np.uint8)


def number_peaks(height: np.ndarray, rise: float) -> np.ndarray:
    """Number the h-maxima of a surface: what of a peak lies less than ``rise`` under its top.

    Args:
        height: ``(H, W)`` float32.
        rise: By which a peak rises above the pass to a higher one.

    Returns:
        ``(H, W)`` int32, 0 outside of peaks; the numbers have gaps.
    """
    above = height - _reconstructed(height - np.float32(rise), height)
    domes = number_parts(above > 0)
    tall = np.zeros(int(domes.max(initial=0)) + 1, dtype=bool)
    tall[domes[above > 0.999 * rise]] = True
    domes[~tall[domes]] = 0
    return domes


def _reconstructed(marker: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The reconstruction of a surface by dilation: each value of a marker flows on as far as the surface is as high.

    Dilations bring a value one pixel on, sweeps over all rows and columns as far as it gets without turning back; the
    time grows with the turns of the longest way, not with its length. Both end in what scikit-image's has, which sorts
    all pixels.

    Args:
        marker: ``(H, W)`` float32, nowhere above ``height``.
        height: ``(H, W)`` float32.

    Returns:
        ``(H, W)`` float32.
    """
    filled = marker
    for _ in range(DILATIONS // 8):
        before = filled
        for _ in range(8):
            filled = cv2.min(cv2.dilate(filled, _SQUARE), height)
        if np.array_equal(filled, before):
            return filled
    across = np.ascontiguousarray(height.T)
    while True:
        before = filled.copy()
        _sweep(filled, height)
        turned = np.ascontiguousarray(filled.T)
        _sweep(turned, across)
        filled = np.ascontiguousarray(turned.T)
        if np.array_equal(filled, before):
            return filled


def _sweep(filled: np.ndarray, height: np.ndarray) -> None:
    """Let values flow from each row ``(H, W)`` to the next, down and up again, in place."""
    rows = range(len(filled))
    for order in (rows, rows[::-1]):
        for above, row in pairwise(order):
            flowing = cv2.dilate(filled[above : above + 1], _ROW)[0]
            np.minimum(np.maximum(filled[row], flowing), height[row], out=filled[row])
