"""The values of mask files as they are in the files, counted; what a file's values are within its set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ...errors import DataError
from .raster import Raster
from .values import MaskTable, Storage, ValueTable, looked_up, row_blocks

MOST_VALUES = 4096
"""Different values that are kept of a file; those of files with more are rounded."""
SMALL_RANGE = 64
"""Range of whole numbers in which values between two ends may as well be numbers of classes."""
_PHOTOGRAPH = 256
"""Colours beside alpha that are no mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskValues:
    """The values of one mask file.

    Attributes:
        path: The file.
        storage: How it holds them.
        values: ``(n, C)`` float64, sorted, C 1 or 3.
        counts: ``(n,)`` pixels of each.
        rounded: Whether values were rounded, as there were too many.
        palette: ``(n, 3)`` colours of the values of a ``palette`` file.
        alpha: Values and counts of its alpha channel, if it has one.
        graded: Share of the pixels between its lowest and highest value that have a lower and a higher neighbour, as
            those of an antialiased outline have and the inside of an object has not; counted for ranges below
            `SMALL_RANGE`, 0 for others.
    """

    path: Path
    storage: Storage
    values: np.ndarray
    counts: np.ndarray
    rounded: bool = False
    palette: np.ndarray | None = None
    alpha: tuple[np.ndarray, np.ndarray] | None = None
    graded: float = 0.0

    @property
    def visible(self) -> np.ndarray:
        """``(n, C)`` values or the colours that they stand for."""
        return self.values if self.palette is None else self.palette

    @property
    def grey(self) -> bool:
        """Whether all its colours are shades of grey."""
        visible = self.visible
        return visible.shape[1] == 1 or bool((visible == visible[:, :1]).all())

    @property
    def in_alpha(self) -> bool:
        """Whether its alpha varies while all else is one colour, or a photograph that two values of it cut out."""
        if self.alpha is None or len(self.alpha[0]) < 2:
            return False
        return self.one_colour or (len(self.alpha[0]) == 2 and not self.grey and len(self.values) > _PHOTOGRAPH)

    @property
    def one_colour(self) -> bool:
        """Whether all that is visible is one colour."""
        return len(np.unique(self.visible, axis=0)) == 1

    def of_alpha(self) -> "MaskValues":
        """The same file by its alpha alone."""
        assert self.alpha is not None
        values, counts = self.alpha
        return replace(self, storage="alpha", values=values, counts=counts, palette=None, alpha=None, rounded=False)


def counted(path: Path, raster: Raster) -> MaskValues:
    """Count the values of a mask."""
    values, counts = _count(raster.values)
    rounded = len(values) > MOST_VALUES
    if rounded:
        values, counts = _merged(_rounded(values), counts)
    alpha = None
    if raster.alpha is not None:
        alpha = _count(raster.alpha)
        if len(alpha[0]) > MOST_VALUES:
            alpha = _merged(_rounded(alpha[0]), alpha[1])
    palette = None if raster.palette is None else raster.palette[values[:, 0].astype(np.intp)].astype(np.float64)
    return MaskValues(
        path=path,
        storage=raster.storage,
        values=values,
        counts=counts,
        rounded=rounded,
        palette=palette,
        alpha=alpha,
        graded=_graded(raster.values, values),
    )


def _graded(pixels: np.ndarray, values: np.ndarray) -> float:
    """See `MaskValues.graded`."""
    if pixels.ndim != 2 or not np.isfinite(values).all() or len(values) < 3 or np.ptp(values) >= SMALL_RANGE:
        return 0.0
    if pixels.dtype not in (np.uint8, np.uint16, np.int16):
        pixels = pixels.astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    edge = (cv2.erode(pixels, square) < pixels) & (pixels < cv2.dilate(pixels, square))
    between = (pixels > values.min()) & (pixels < values.max())
    return float(edge[between].mean())


def by_storage(files: Iterable[MaskValues]) -> dict[Storage, list[MaskValues]]:
    """Sort the files of a set by how their values are to be understood.

    Alpha counts where it alone varies. Palette indices are values of their own if one palette serves all files and has
    colours; else the colours, or the shades of grey, that they stand for are.
    """
    files = list(files)
    groups: dict[Storage, list[MaskValues]] = {}
    in_alpha = sum(file.in_alpha for file in files)
    in_colour = sum(file.alpha is not None and not file.in_alpha and not file.one_colour for file in files)
    if in_alpha > in_colour:
        groups["alpha"] = [file.of_alpha() for file in files if file.alpha is not None]
        files = [file for file in files if file.alpha is None]
    palettes = [file for file in files if file.palette is not None]
    colours = [file for file in files if file.storage == "colour"]
    by_index = _one_palette(palettes)
    for file in files:
        if file.palette is not None:
            if by_index:
                groups.setdefault("palette", []).append(file)
            elif all(one.grey for one in [*palettes, *colours]):
                groups.setdefault("8 bit", []).append(_as_grey(file))
            else:
                groups.setdefault("colour", []).append(_as_colour(file))
        elif file.storage == "colour" and all(one.grey for one in colours) and (by_index or _all_grey(palettes)):
            grey = _as_grey(file)
            groups.setdefault(grey.storage, []).append(grey)
        else:
            groups.setdefault(file.storage, []).append(file)
    return groups


def pixels_of(path: Path, raster: Raster, table: MaskTable) -> tuple[np.ndarray, ValueTable]:
    """The pixels of a mask that its set's table speaks of, and the part of the table for them.

    Raises:
        DataError: If the table knows no such file.
    """
    if raster.alpha is not None and (own := table.for_storage("alpha")):
        return raster.alpha, own
    values, storage = raster.values, raster.storage
    if raster.palette is not None:
        if own := table.for_storage("palette"):
            return values, own
        values = looked_up(raster.palette, values)
        storage = "colour"
    if storage == "colour":
        if own := table.for_storage("colour"):
            return values, own
        storage = _grey_storage(values)
        if _is_grey(values) and (own := table.for_storage(storage)):
            return np.ascontiguousarray(values[:, :, 0]), own
    elif own := table.for_storage(storage):
        return values, own
    known = ", ".join(one.storage for one in table.tables)
    raise DataError(f"{path}: holds its values as '{storage}', but the masks of this set as {known}. Save it as those.")


def _one_palette(files: Sequence[MaskValues]) -> bool:
    colours: dict[float, tuple[float, ...]] = {}
    for file in files:
        assert file.palette is not None
        for index, colour in zip(file.values[:, 0].tolist(), file.palette.tolist(), strict=True):
            if colours.setdefault(index, tuple(colour)) != tuple(colour):
                return False
    if not colours:
        return False
    return len(set(colours.values())) < len(colours) or not _all_grey(files)


def _all_grey(files: Sequence[MaskValues]) -> bool:
    return all(file.grey for file in files)


def _as_grey(file: MaskValues) -> MaskValues:
    values, counts = _merged(file.visible[:, :1], file.counts)
    storage: Storage = "16 bit" if values.max() > 255 else "8 bit"
    return replace(file, storage=storage, values=values, counts=counts, palette=None)


def _as_colour(file: MaskValues) -> MaskValues:
    values, counts = _merged(file.visible, file.counts)
    return replace(file, storage="colour", values=values, counts=counts, palette=None)


def _grey_storage(values: np.ndarray) -> Storage:
    return "16 bit" if values.dtype.itemsize > 1 and values.max() > 255 else "8 bit"


def _is_grey(pixels: np.ndarray) -> bool:
    """Whether the channels of ``(H, W, 3)`` are equal."""
    return all(
        np.array_equal(pixels[rows, :, 0], pixels[rows, :, other]) for other in (1, 2) for rows in row_blocks(pixels)
    )


def _count(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values ``(n, C)`` and counts of ``(H, W)`` or ``(H, W, 3)``, some rows at a time."""
    if pixels.ndim == 3:
        if _is_grey(pixels):
            values, counts = _count(pixels[:, :, 0])
            return np.repeat(values, 3, axis=1), counts
        return _count_colours(pixels)
    if pixels.dtype in (np.uint8, np.uint16):
        size = np.iinfo(pixels.dtype).max + 1
        every = np.zeros(size, np.int64)
        for rows in row_blocks(pixels):
            every += np.bincount(pixels[rows].ravel(), minlength=size)
        found = np.flatnonzero(every)
        return found[:, None].astype(np.float64), every[found]
    parts = [np.unique(pixels[rows], return_counts=True) for rows in row_blocks(pixels)]
    return _merged(np.concatenate([part[0] for part in parts])[:, None].astype(np.float64), _joined(parts))


def _count_colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for rows in row_blocks(pixels):
        block = pixels[rows].reshape(-1, 3).astype(np.uint64)
        packed = (block[:, 0] << np.uint64(32)) | (block[:, 1] << np.uint64(16)) | block[:, 2]
        parts.append(np.unique(packed, return_counts=True))
    packed = np.concatenate([part[0] for part in parts])
    channels = [(packed >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (32, 16, 0)]
    return _merged(np.stack(channels, axis=1).astype(np.float64), _joined(parts))


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([part[1] for part in parts])


def _merged(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal values once, sorted, with the sum of their counts."""
    unique, at = np.unique(values, axis=0, return_inverse=True)
    return unique, np.bincount(at.ravel(), weights=counts, minlength=len(unique)).astype(np.int64)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values on a grid of 1024 (colours: 16 a channel) steps; the smallest and largest stay."""
    finite = np.where(np.isfinite(values), values, 0)
    low, high = finite.min(), finite.max()
    step = max(float(high - low), 1e-12) / (1023 if values.shape[1] == 1 else 15)
    rounded = low + np.rint((finite - low) / step) * step
    return np.where(np.isfinite(values), rounded, values)
