"""Masks with soft edges: two values and, between them, what antialiasing, resizing or JPEG made of the outline."""

from collections.abc import Sequence

import numpy as np

from .clusters import ASIDE
from .mask_values import SMALL_RANGE, MaskValues
from .values import Value, along, equal

NEAR = 1 / 8
"""A value belongs to an end of the range if it lies within this share of it."""
SHARE = 0.9
"""Share of a set's pixels that must be near one of the two ends."""
FILE_SHARE = 0.75
"""Share of a single file's pixels that must be so; thin structures are edges all over."""
_LEAST_VALUES = 6
"""Fewer values than this are clear values, however they lie."""
_SPIKE = 0.5
"""Share of the pixels between the ends that one value, or a sixteenth of the range, may hold at most."""
_LEAST_GRADED = 5
"""Fewer values than this are clear values in masks whose values between the ends lie on outlines alone."""
_GRADED = 0.9
"""Share of the pixels between the ends that must have a lower and a higher neighbour as outlines do, on average."""
_FILE_GRADED = 0.7
"""Share of these pixels in a single file, which may have a flat place."""
_OFF_LINE = 0.25
"""Share of the pixels between the ends that may lie far beside the line; JPEG blurs colour more than light."""
_VISIBLE = 0.01
"""Share of a mask's pixels that cannot be noise of its compression."""


def fits_soft(files: Sequence[MaskValues]) -> tuple[tuple[Value, Value], list[bool]] | None:
    """Whether a set has two values with soft edges.

    Args:
        files: Masks of one storage.

    Returns:
        The two ends and which files fit to them; None if the set as a whole does not.
    """
    values, counts = _together(files)
    low, high = soft_extremes(files)
    span = float(np.abs(np.subtract(low, high)).max())
    whole = files[0].storage != "float"
    if not np.isfinite(values).all() or low == high or files[0].storage == "palette":
        return None
    if not _on_outlines(files, values) and not _noise_or_shades(files, values, low, high):
        few = len(values) < _LEAST_VALUES and _beyond_classes(values, low, high)
        return ((low, high), [True] * len(files)) if whole and few and _is_trace(values, counts, low, high) else None
    fits = [_file_fits(file, low, high) for file in files]
    kept = [file for file, fit in zip(files, fits, strict=True) if fit]
    if not kept:
        return None
    values, counts = _together(kept)
    place, aside = along(values, low, high)
    near_low, near_high, between = _parts(place, aside)
    total, rest = counts.sum(), counts[between].sum()
    if rest > (1 - SHARE) * total or rest > 3 * counts[near_high].sum() or not counts[near_low].sum():
        return None
    third = counts[aside > ASIDE].sum()
    if third > max(_OFF_LINE * rest, 0.005 * total):
        return None  # a third colour
    noise = (span >= SMALL_RANGE or not whole) and min(near_low.sum(), near_high.sum()) >= 3
    if len(np.unique(np.rint(place[between] * 16))) < 3 and not noise:
        return None  # neither shades between the ends nor noise at both of them
    if rest > 0.005 * total:
        bins = np.bincount(np.clip(np.rint(place[between] * 16), 0, 16).astype(int), weights=counts[between])
        if max(bins.max(), counts[between].max()) > _SPIKE * rest:
            return None
    return (low, high), fits


def _on_outlines(files: Sequence[MaskValues], values: np.ndarray) -> bool:
    """Whether all values between the two ends of masks of a small range lie on outlines."""
    graded = [file.graded for file in files if len(file.values) > 2]
    if len(values) < _LEAST_GRADED or not graded:
        return False
    return sum(graded) >= _GRADED * len(graded) and min(graded) >= _FILE_GRADED


def _noise_or_shades(files: Sequence[MaskValues], values: np.ndarray, low: Value, high: Value) -> bool:
    """Whether the values, however they lie, could be of soft edges, and not numbers of classes."""
    if files[0].storage != "float" and not _beyond_classes(values, low, high):
        return False
    numbers = [len(file.values) for file in files]
    few = sum(2 < number < _LEAST_VALUES for number in numbers)
    return len(values) >= _LEAST_VALUES and few <= sum(number >= _LEAST_VALUES for number in numbers)


def _beyond_classes(values: np.ndarray, low: Value, high: Value) -> bool:
    """Whether whole numbers have too large a range for numbers of classes, or compression has gone beyond the ends."""
    span = float(np.abs(np.subtract(low, high)).max())
    return span >= SMALL_RANGE or (span >= 16 and bool(values.max() > max(high)))


def _is_trace(values: np.ndarray, counts: np.ndarray, low: Value, high: Value) -> bool:
    """Whether values lie within two of both ends, and few pixels beside them: what JPEG of the best quality leaves."""
    beside = [(np.abs(values - np.asarray(end)).max(axis=1) <= 2) & ~equal(values, end) for end in (low, high)]
    at_ends = equal(values, low) | equal(values, high)
    few = counts[~at_ends].sum() < 0.1 * min(counts[equal(values, low)].sum(), counts[equal(values, high)].sum())
    return bool(few and all(one.any() for one in beside) and (at_ends | beside[0] | beside[1]).all())


def soft_extremes(files: Sequence[MaskValues]) -> tuple[Value, Value]:
    """The two values that a set is made of: the most frequent, and the one that is frequent and far from it."""
    values, counts = _together(files)
    first = values[counts.argmax()]
    distance = ((values - first) ** 2).sum(1)
    second = values[(counts * distance).argmax()]
    low, high = sorted([tuple(first.tolist()), tuple(second.tolist())])
    return low, high


def _file_fits(file: MaskValues, low: Value, high: Value) -> bool:
    place, aside = along(file.values, low, high)
    between = _parts(place, aside)[2]
    total = file.counts.sum()
    if file.counts[between].sum() > (1 - FILE_SHARE) * total:
        return False
    one_side = not (place > 0.5).any() or not (place <= 0.5).any()
    if file.storage in ("16 bit", "32 bit") and len(file.values) > 2:
        # Files of that depth are hardly ever JPEG: their two ends are exact, and the most frequent values, unlike ids.
        ends = {tuple(one) for one in file.values[np.argsort(file.counts)[-2:]].tolist()}
        if ends != {low, high} and not one_side:
            return False
    # Several values that the cut would make one of: another convention, unless they are a trace of noise.
    return not (one_side and len(file.values) > 1 and total - file.counts.max() > _VISIBLE * total)


def _parts(place: np.ndarray, aside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which values are near the low end, near the high one, and neither."""
    straight = aside < 2 * NEAR
    near_low = straight & (place < NEAR) & (place > -2 * NEAR)
    near_high = straight & (place > 1 - NEAR) & (place < 1 + 2 * NEAR)
    return near_low, near_high, ~(near_low | near_high)


def _together(files: Sequence[MaskValues]) -> tuple[np.ndarray, np.ndarray]:
    values = np.concatenate([file.values for file in files])
    counts = np.concatenate([file.counts for file in files])
    unique, at = np.unique(values, axis=0, return_inverse=True)
    return unique, np.bincount(at.ravel(), weights=counts, minlength=len(unique))
