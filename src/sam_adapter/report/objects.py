"""Separate objects drawn on pictures: their outlines, and which of them were found."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .drawing import Colour, contrasting_colour
from .figures import LONGEST_SIDE


class Drawn(NamedTuple):
    """Some objects of a label map in one colour.

    Attributes:
        labels: ``(H, W)`` int32.
        numbers: Which ones, ``(n,)``.
        colour: Of all of them.
    """

    labels: np.ndarray
    numbers: np.ndarray
    colour: Colour


def fitted(pixels: np.ndarray) -> np.ndarray:
    """A picture ``(H, W, 3)`` uint8 or label map ``(H, W)`` at the size at which pages show it.

    Lines drawn on it stay a pixel wide. Small ones are enlarged by a whole number.
    """
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        times = int(scale)
        return pixels.repeat(times, axis=0).repeat(times, axis=1)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    if pixels.ndim == 3:
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return cv2.resize(pixels.astype(np.float64), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)


def outlined(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The picture ``(H, W, 3)`` uint8 with the inner outline of each object of a label map ``(H, W)``."""
    drawn = image.copy()
    drawn[_edges(labels)] = contrasting_colour(image)
    return drawn


def object_map(image: np.ndarray, objects: Sequence[Drawn]) -> np.ndarray:
    """The picture in dark grey, and over it objects, later ones over earlier ones, with dark lines between them.

    The outline of objects that others cover stays in their colour, so that what was missed is seen below what is wrong.

    Args:
        image: ``(H, W, 3)`` uint8.
        objects: With label maps of the same size.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    grey = (image.astype(np.float32).mean(axis=2) * 0.3).round().astype(np.uint8)
    drawn = np.repeat(grey[:, :, None], 3, axis=2)
    covered = np.full(image.shape[:2], -1, np.int64)
    for at, one in enumerate(objects):
        inside = np.isin(one.labels, one.numbers)
        drawn[inside] = one.colour
        drawn[inside & _edges(one.labels)] = 0
        covered[inside] = at
    for at, one in enumerate(objects):
        below = np.isin(one.labels, one.numbers) & (covered > at)
        drawn[below & _edges(one.labels)] = one.colour
    return drawn


def _edges(labels: np.ndarray) -> np.ndarray:
    """Pixels of objects beside another value, ``(H, W)`` bool."""
    edges = np.zeros(labels.shape, bool)
    for here, there in (
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = labels[here] != labels[there]
        edges[here] |= differs
        edges[there] |= differs
    return edges & (labels > 0)
