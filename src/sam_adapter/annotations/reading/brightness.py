"""One scale from the numbers in pictures of more than 8 bits to brightness 0-255, for a whole set.

It follows from percentiles over all pictures together, so that single hot pixels and values that stand for missing data
change nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .values import row_blocks

Span = tuple[float, float]
"""The values that become 0 and 255; what lies outside is cut off."""

LOWEST, HIGHEST = 0.005, 0.995
"""Shares of all pixels of a set, between which its scale is looked for."""
_SAMPLE = 1024
"""Numbers that are kept of each picture, evenly over its sorted pixels."""
_GAP = 10.0
"""A value is taken for missing data if it lies this many ranges of all others away from them."""
_CUSTOMARY = (-99.0, -999.0, -9999.0, -32767.0, -32768.0, -99999.0)
"""Values that often stand for missing data; these need only lie one range away."""
_PADDING = (-2000.0, -2048.0, -3000.0, -3024.0)
"""What CT scanners write around the round field of view; these need lie only a fifth of a range below the others."""
_HOT_SHARE = 0.005
"""Missing data at the upper end must fill this share of a picture; less is hot pixels."""
_FILL = 20
"""Zero fills the border of pictures below zero, such as radar in decibel, if it is so much more frequent."""
_BEYOND = 1e9
"""Floating point beyond this is no brightness, however few pixels have it."""
_ABSURD = 1e30


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """The scale of a set; pictures of 8 bits are taken as they are.

    Attributes:
        integer: For integers of more than 8 bits; None if the set has none.
        floating: For floating point; the same.
        no_data: Values that stand for missing pixels; they become black, as NaN and infinities do.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    integer: Span | None = None
    floating: Span | None = None
    no_data: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for span in (self.integer, self.floating):
            if span is not None and not (np.isfinite(span).all() and span[0] < span[1]):
                raise ValueError(f"expected two finite numbers, the second larger, got {span}")

    def span(self, dtype: np.dtype[Any]) -> Span | None:
        """The scale for pixels of a type; None for 8 bits, and if the set had none of that type."""
        if dtype.kind == "f":
            return self.floating
        return None if dtype == np.uint8 else self.integer

    def to_8_bit(self, pixels: np.ndarray, no_data: float | None = None) -> np.ndarray:
        """Scale pixels.

        Args:
            pixels: ``(H, W)`` or ``(H, W, 3)`` of a type that this has a span for.
            no_data: One more value that stands for missing pixels.

        Returns:
            The same shape in uint8.
        """
        span = self.span(pixels.dtype)
        assert span is not None
        low, high = span
        missing = {*self.no_data, *(() if no_data is None else (no_data,))}
        result = np.empty(pixels.shape, np.uint8)
        for rows in row_blocks(pixels):
            block = pixels[rows].astype(np.float32)
            gone = ~np.isfinite(block) | (np.abs(block) > _ABSURD)
            for value in missing:
                gone |= block == np.float32(value)
            block[gone] = low
            scaled = (np.clip(block, low, high) - low) * (255 / max(high - low, 1e-12))
            result[rows] = np.rint(scaled)
        return result

    def completed_by(self, other: "Brightness | None") -> "Brightness":
        """This scale, with that of another set where this has none."""
        if other is None:
            return self
        return Brightness(
            integer=self.integer or other.integer,
            floating=self.floating or other.floating,
            no_data=tuple(sorted({*self.no_data, *other.no_data})),
        )

    def described(self) -> str:
        """The scale in words."""
        spans = (("whole numbers of more than 8 bits", self.integer), ("floating point", self.floating))
        texts = [f"{name}, {low:g} to {high:g} become 0 to 255" for name, span in spans if span for low, high in [span]]
        missing = f" Missing data: {', '.join(f'{value:g}' for value in self.no_data)}." if self.no_data else ""
        return f"Brightness of the set: {'; '.join(texts)}.{missing}"


@dataclass(frozen=True, kw_only=True)
class Depth:
    """What the scale of a set needs to know of one picture of more than 8 bits.

    Attributes:
        floating: Whether it is in floating point.
        pixels: Number of its pixels that are not missing.
        sample: Some of them, ``(n,)``, evenly over the sorted ones.
        highest: The largest of all.
        missing: Share of its pixels that are missing.
        no_data: Values that stand for missing ones; NaN and infinities are not listed.
    """

    floating: bool
    pixels: int
    sample: np.ndarray
    highest: float
    missing: float = 0.0
    no_data: tuple[float, ...] = ()


def depth_of(pixels: np.ndarray, no_data: float | None = None) -> Depth | None:
    """Look at the pixels of one picture.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``.
        no_data: The value that the file declares as missing.

    Returns:
        None for a picture of 8 bits.
    """
    if pixels.dtype == np.uint8:
        return None
    values, counts = _counted(pixels)
    total = int(counts.sum())
    usable = np.isfinite(values) & (np.abs(values) <= _ABSURD)
    declared = () if no_data is None or not np.isfinite(no_data) else (no_data,)
    for value in declared:
        usable &= values != np.float32(value)
    values, counts = values[usable], counts[usable]
    values, counts, guessed = _without_outliers(values, counts, total, floating=pixels.dtype.kind == "f")
    if _filled_with_zero(values, counts) and _share_of_zero_at_border(pixels) > _HOT_SHARE:
        guessed.append(0.0)
        values, counts = values[values != 0], counts[values != 0]
    left = int(counts.sum())
    if left == 0:
        values, counts, left = np.zeros(1, np.float32), np.ones(1, np.int64), 1
        missing = 1.0
    else:
        missing = 1 - left / total
    at = np.searchsorted(np.cumsum(counts), (np.arange(_SAMPLE) + 0.5) / _SAMPLE * left, side="right")
    sample = values[np.minimum(at, len(values) - 1)]
    return Depth(
        floating=pixels.dtype.kind == "f",
        pixels=left,
        sample=sample.astype(np.float32),
        highest=float(values[-1]),
        missing=missing,
        no_data=tuple(sorted({*declared, *guessed})),
    )


def scale_of(depths: Iterable[Depth]) -> Brightness | None:
    """The scale of a set.

    Args:
        depths: Of all its pictures of more than 8 bits.

    Returns:
        None if there are none.
    """
    depths = list(depths)
    if not depths:
        return None
    integer = [depth for depth in depths if not depth.floating]
    floating = [depth for depth in depths if depth.floating]
    no_data = sorted({value for depth in depths for value in depth.no_data})
    return Brightness(
        integer=_integer_span(*_percentiles(integer)) if integer else None,
        floating=_floating_span(*_percentiles(floating)) if floating else None,
        no_data=tuple(no_data),
    )


def _counted(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values as float32 and how often each occurs; of large floating pictures, of every n-th row and column."""
    if pixels.dtype in (np.uint16, np.int16):
        counts = np.zeros(65536, np.int64)
        for rows in row_blocks(pixels):
            counts += np.bincount(pixels[rows].ravel().view(np.uint16), minlength=65536)
        values = np.arange(65536, dtype=np.uint16).view(pixels.dtype)
        order = np.argsort(values[counts > 0], kind="stable")
        return values[counts > 0][order].astype(np.float32), counts[counts > 0][order]
    step = max(int((pixels.shape[0] * pixels.shape[1] / 1e6) ** 0.5), 1)
    values, counts = np.unique(pixels[::step, ::step].astype(np.float32), return_counts=True)
    return values, counts


def _without_outliers(
    values: np.ndarray, counts: np.ndarray, total: int, *, floating: bool
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Take single values away at the ends that lie far from all others, such as -9999 below pictures from 0 to 1."""
    gone: list[float] = []
    while len(values) > 2:
        first, last = float(values[0]), float(values[-1])
        below = (float(values[1]) - first) / max(last - float(values[1]), 1e-6)
        above = (last - float(values[-2])) / max(float(values[-2]) - first, 1e-6)
        customary = (first in _CUSTOMARY and below > 1) or (first in _PADDING and below > 0.2)
        if first < 0 and (below > _GAP or customary):
            gone.append(first)
            values, counts = values[1:], counts[1:]
        elif above > _GAP and (counts[-1] >= _HOT_SHARE * total or (floating and last > _BEYOND)):
            gone.append(last)
            values, counts = values[:-1], counts[:-1]
        else:
            break
    return values, counts, gone


def _filled_with_zero(values: np.ndarray, counts: np.ndarray) -> bool:
    """Whether zero, which would be bright among values below it, fills up what a picture does not cover.

    A picture that was cut off at zero has many zeros too, but none above it and no gap below.
    """
    zero, below, above = values == 0, values < 0, values > 0
    if not zero.any() or below.sum() < 2:
        return False
    filled, others = int(counts[zero].sum()), counts[~zero]
    if counts[below].sum() < 0.9 * others.sum() or filled < max(_HOT_SHARE * counts.sum(), _FILL * others.mean()):
        return False
    highest = float(values[below][-1])
    return bool(above.any()) or -highest > 0.05 * (highest - float(values[0]))


def _share_of_zero_at_border(pixels: np.ndarray) -> float:
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    return float(np.mean(np.concatenate(edges) == 0))


def _percentiles(depths: Sequence[Depth]) -> Span:
    """The values at `LOWEST` and `HIGHEST` of all pixels together."""
    values = np.concatenate([depth.sample for depth in depths])
    weights = np.concatenate([np.full(len(depth.sample), depth.pixels / len(depth.sample)) for depth in depths])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    low, high = np.searchsorted(reached, [LOWEST, HIGHEST])
    return float(values[order][low]), float(values[order][min(high, len(values) - 1)])


def _integer_span(low: float, high: float) -> Span:
    """From 0 to the largest number of as many bits as hold the pictures; their own range if that would waste it."""
    if low >= 0 and high < 65536 and low <= 0.75 * high:
        bits = next(bits for bits in range(8, 17) if high < 2**bits)
        return 0.0, float(2**bits - 1)
    return low, max(high, low + 1)


def _floating_span(low: float, high: float) -> Span:
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0
