"""Colours that lossy compression has blurred: the few clusters that masks of several classes leave in JPEG."""

from collections.abc import Sequence

import numpy as np

from .mask_values import MaskValues
from .values import Value, along

_STEPS = 16
"""Cells into which the range of the values is divided."""
_REACH = 2
"""Cells around its most frequent one that a cluster takes in."""
_LEAST = 0.01
"""Share of all pixels that a cluster must have."""
_TOGETHER = 0.85
"""Share of all pixels that all clusters must have."""
_PEAKED = 0.6
"""Share of the pixels within three cells that must lie within one: shades between two colours are spread evenly."""
_PEAKED_BLEND = 0.85
"""Share of these pixels for blends of two colours: JPEG makes some, as it stores colour at half the size of light."""
_BLURRED = 4
"""Different values for each cluster that a file must have at least; numbers of classes and plain colours have one."""

ASIDE = 0.5
"""Colours that lie so many lengths of the line between two others beside it are no blend of those."""

Cluster = tuple[Value, float]
"""The most frequent value, and the share of all pixels."""


def blurred_clusters(files: Sequence[MaskValues]) -> list[Cluster]:
    """The colours that blurred masks are made of.

    Args:
        files: Masks of one storage.

    Returns:
        Three or more, the largest first; nothing if the masks are not blurred, or of other values.
    """
    values = np.concatenate([file.values for file in files])
    counts = np.concatenate([file.counts for file in files]).astype(float)
    low, span = values.min(), float(np.ptp(values)) if np.isfinite(values).all() else 0.0
    if span < 64 or files[0].storage not in ("8 bit", "colour"):
        return []
    cells = np.rint((values - low) * (_STEPS / span)).astype(np.intp)
    held, at = np.unique(cells, axis=0, return_inverse=True)
    mass = np.bincount(at.ravel(), weights=counts)
    found: list[Cluster] = []
    centres: list[np.ndarray] = []
    for index in np.argsort(-mass):
        apart = np.abs(held - held[index]).max(axis=1)
        if mass[index] < mass[apart <= _REACH].max() or mass[index] == 0:
            continue  # on the slope of a larger one
        near = mass[apart <= _REACH].sum()
        peak = mass[apart <= 1].sum() / mass[apart <= _REACH + 1].sum()
        if near < _LEAST * mass.sum() or peak < _needed_peak(held[index], centres):
            continue
        if any(np.abs(held[index] - other).max() <= _REACH + 1 for other in centres):
            continue  # what compression made of a larger one
        centres.append(held[index])
        inside = np.flatnonzero(apart[at.ravel()] <= 1)
        found.append((_mode(values[inside], counts[inside]), float(near / mass.sum())))
    several = [file for file in files if len(file.values) > 1]
    blurred = sum(len(file.values) >= _BLURRED * len(found) for file in several)
    if len(found) < 3 or sum(share for _, share in found) < _TOGETHER or blurred < 0.5 * len(several):
        return []
    found.sort(key=lambda cluster: -cluster[1])
    large = [cluster for cluster in found if cluster[1] >= 2 * _LEAST]  # smaller ones may be blends of these
    return large if len(large) >= 3 else found


def _needed_peak(cell: np.ndarray, centres: Sequence[np.ndarray]) -> float:
    """How peaked a cluster must be; a narrow one of a third colour, which is no blend of two, leaves no peak."""
    if len(centres) < 2:
        return _PEAKED
    first, second = (tuple(one.tolist()) for one in centres[:2])
    if along(cell[None], first, second)[1][0] > ASIDE:
        return 0.0
    return _PEAKED if len(cell) == 1 else _PEAKED_BLEND


def _mode(values: np.ndarray, counts: np.ndarray) -> Value:
    unique, at = np.unique(values, axis=0, return_inverse=True)
    return tuple(np.rint(unique[np.bincount(at.ravel(), weights=counts).argmax()]).tolist())
