"""The classes of a set, and which values of mask files stand for them: one table for the whole set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...config.labels import VOID
from ...errors import DataError
from .raster import Raster
from .values import Value, looked_up, row_blocks, shown

MOST_CLASSES = 253
"""Labels are bytes, of which three are background, unknown and void."""
UNKNOWN = 254
"""Label of values that no class has."""
COLOURS: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Okabe & Ito, 2008: orange, sky blue, green, yellow, blue, vermilion and purple, which the colour-blind tell apart."""

_HUES = 0.618034
"""Turn of the colour circle between two classes whose colours nobody gave: the golden ratio keeps them apart."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of a set; the class at position i has the label i + 1 in label maps.

    Attributes:
        names: Without a background.
        values: The values of mask files that stand for each class; none where annotations name the classes.
        background: Values that stand for none of them; without ``values`` all that no object covers is background.
        void: Values about which the masks say nothing.
        colours: RGB of each class in pictures of answers.
        has_background: Whether a pixel may belong to no class; else answers are the class with the highest probability.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    names: tuple[str, ...]
    values: tuple[Value, ...] = ()
    background: tuple[Value, ...] = ()
    void: tuple[Value, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    has_background: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise ValueError(f"expected 1 to {MOST_CLASSES} classes, got {len(self.names)}")
        if len(set(self.names)) < len(self.names):
            raise ValueError("two classes have one name")
        if self.values and len(self.values) != len(self.names):
            raise ValueError(f"{len(self.names)} classes but {len(self.values)} values")
        if len({len(value) for value in (*self.values, *self.background, *self.void)} - {1, 3}):
            raise ValueError("a mask value has one number, or three of a colour")
        if len(self.colours) != len(self.names):
            object.__setattr__(self, "colours", tuple(spread_colours(len(self.names))))

    @property
    def in_colour(self) -> bool:
        """Whether mask files tell classes by colour, not by number."""
        return any(len(value) == 3 for value in self.values)

    def label_of(self, name: str) -> int | None:
        """The label of a class by its name, None if there is no such class."""
        return self.names.index(name) + 1 if name in self.names else None

    def labels(self, values: np.ndarray) -> np.ndarray:
        """The label of each of some mask values ``(N, C)``, C 1 or 3: ``(N,)`` uint8, `UNKNOWN` where none has it."""
        keys = _keys(values)
        result = np.full(len(values), UNKNOWN, np.uint8)
        named = [(value, label) for label, value in enumerate(self.values, start=1)]
        for value, label in [*((one, 0) for one in self.background), *named, *((one, VOID) for one in self.void)]:
            # A grey is the same number or colour; a colour is no number.
            if len(value) == values.shape[1] or len(value) == 1:
                own = np.asarray([value * values.shape[1] if len(value) == 1 else value], np.float64)
                result[keys == _keys(own)[0]] = label
        return result

    def of_raster(self, path: Path, raster: Raster) -> np.ndarray:
        """The label map of a mask file, ``(H, W)`` uint8 with `VOID`.

        Raises:
            DataError: If it has a value that no class has, or colours where numbers are expected.
        """
        pixels = class_pixels(path, raster, in_colour=self.in_colour)
        if pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16):
            every = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)[:, None]
            result = looked_up(self.labels(every), pixels)
        else:
            result = np.empty(pixels.shape[:2], np.uint8)
            channels = pixels.shape[2] if pixels.ndim == 3 else 1
            for rows in row_blocks(pixels):
                block = pixels[rows].reshape(-1, channels)
                unique, at = np.unique(block, axis=0, return_inverse=True)
                result[rows] = self.labels(unique.astype(np.float64))[at.reshape(-1)].reshape(result[rows].shape)
        if (result == UNKNOWN).any():
            row, column = np.argwhere(result == UNKNOWN)[0].tolist()
            value = shown(tuple(np.atleast_1d(pixels[row, column]).tolist()))
            raise DataError(f"{path}: has the value {value}, which no class has. Run 'sam-adapter check' again.")
        return result

    def described(self) -> dict[str, str]:
        """Value as text to its class, ``background`` or ``void``; only names where annotations name the classes."""
        if not self.values:
            return {name: name for name in self.names}
        named = {shown(value): name for value, name in zip(self.values, self.names, strict=True)}
        ground = {shown(value): "background" for value in self.background}
        return ground | named | {shown(value): "void" for value in self.void}


def class_pixels(path: Path, raster: Raster, *, in_colour: bool) -> np.ndarray:
    """The pixels of a mask file whose values stand for classes.

    Args:
        path: The file, for errors.
        raster: What was decoded from it. Of a palette the *index* is the value, unless classes are told by colour.
        in_colour: Whether classes are told by colour.

    Returns:
        ``(H, W)``, or ``(H, W, 3)`` in colour.

    Raises:
        DataError: If the file has colours, and classes are told by number.
    """
    values = raster.values
    if in_colour:
        if raster.palette is not None:
            return looked_up(raster.palette, values)
        return np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values
    if values.ndim == 2:
        return values
    grey = all(np.array_equal(values[rows, :, 0], values[rows, :, at]) for at in (1, 2) for rows in row_blocks(values))
    if not grey:
        raise DataError(
            f"{path}: holds colours, but classes are told by number. Give colours as '[r, g, b]' in --classes, or save "
            "the mask as one channel."
        )
    return np.ascontiguousarray(values[:, :, 0])


def spread_colours(count: int) -> Sequence[tuple[int, int, int]]:
    """So many colours that are easily told apart, the first ones for the colour-blind too."""
    known = list(COLOURS)
    for at in range(len(known), count):
        hue, light = (at * _HUES) % 1 * 6, (0.95, 0.7)[at % 2]
        rising = [max(min(abs((hue - shift) % 6 - 3) - 1, 1), 0) for shift in (0, 2, 4)]
        red, green, blue = (round(255 * light * (0.25 + 0.75 * one)) for one in rising)
        known.append((red, green, blue))
    return known[:count]


def _keys(values: np.ndarray) -> np.ndarray:
    """One number for each of ``(N, C)`` values."""
    if values.shape[1] == 1:
        return values[:, 0].astype(np.float64)
    return values.astype(np.float64) @ np.array([2.0**32, 2.0**16, 1.0])
