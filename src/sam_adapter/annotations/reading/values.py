"""What the values of mask files mean: one table for a whole set, value to background, foreground or void."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

Value = tuple[float, ...]
"""A mask value as it is in the file: ``(v,)``, or ``(red, green, blue)``."""

Storage = Literal["1 bit", "8 bit", "16 bit", "32 bit", "float", "palette", "colour", "alpha"]
"""How a mask file holds its values. Each storage has values of its own: 255 is white in 8 bits and nothing in 16."""

BACKGROUND, FOREGROUND, VOID, UNKNOWN = 0, 1, 2, 3

ROW_BLOCK = 1 << 20
"""Pixels that are taken at a time where a wider copy of them is made, so that it stays small beside the picture."""


def row_blocks(pixels: np.ndarray) -> list[slice]:
    """Slices of rows that hold about `ROW_BLOCK` pixels each; of an array ``(H, W)`` or ``(H, W, C)``."""
    rows = max(ROW_BLOCK // max(pixels.shape[1], 1), 1)
    return [slice(start, start + rows) for start in range(0, pixels.shape[0], rows)]


def looked_up(table: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """``table[pixels]``, some rows at a time: NumPy turns indices into eight bytes each."""
    result = np.empty((*pixels.shape, *table.shape[1:]), table.dtype)
    for rows in row_blocks(pixels):
        result[rows] = table[pixels[rows]]
    return result


def shown(value: Value) -> str:
    """A value as users write it: ``255``, or ``128,0,0``."""
    return ",".join(f"{one:g}" for one in value)


@dataclass(frozen=True, kw_only=True)
class ValueTable:
    """What the values of one storage mean.

    Attributes:
        storage: The files it is for.
        rule: ``values``: exactly ``low`` is background and ``high`` foreground. ``half``: cut half way from ``low`` to
            ``high`` (of colours along the line between them). ``nonzero``: all but 0 (or black) is foreground.
        low: Background; None if no file has any, or the rule does not need it.
        high: Foreground; the same.
        void: Values that count neither as background nor as foreground.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    storage: Storage
    rule: Literal["values", "half", "nonzero"]
    low: Value | None = None
    high: Value | None = None
    void: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(value) for value in (self.low, self.high, *self.void) if value is not None}
        if not sizes <= {1, 3}:
            raise ValueError("a mask value has one number, or three of a colour")
        if self.rule == "half" and (
            self.low is None or self.high is None or self.low == self.high or len(self.low) != len(self.high)
        ):
            raise ValueError("rule half needs two different values, low and high")

    def meanings(self, values: np.ndarray) -> np.ndarray:
        """What each of some values means.

        Args:
            values: ``(N, C)``, C 1 or 3.

        Returns:
            ``(N,)`` uint8: `BACKGROUND`, `FOREGROUND`, `VOID` or `UNKNOWN`.
        """
        if self.rule == "nonzero":
            result = (values != 0).any(1).astype(np.uint8)
            result[np.isnan(values).any(1)] = UNKNOWN
        elif self.rule == "half":
            assert self.low is not None
            assert self.high is not None
            result = (along(values, self.low, self.high)[0] > 0.5).astype(np.uint8)
        else:
            result = np.full(len(values), UNKNOWN, np.uint8)
            for meaning, value in ((BACKGROUND, self.low), (FOREGROUND, self.high)):
                if value is not None:
                    result[equal(values, value)] = meaning
        for value in self.void:
            result[equal(values, value)] = VOID
        return result

    def described(self) -> dict[str, str]:
        """Value or range as text to its meaning."""
        void = {shown(value): "void" for value in self.void}
        if self.rule == "nonzero":
            return {"0": "background", "other": "foreground", **void}
        if self.rule == "half":
            assert self.low is not None
            assert self.high is not None
            if len(self.low) != 1 or len(self.high) != 1:
                return {f"nearer {shown(self.low)}": "background", f"nearer {shown(self.high)}": "foreground", **void}
            (low,), (high,) = self.low, self.high
            middle = (low + high) / 2
            if self.storage == "float":
                return {f"{low:g}-{middle:g}": "background", f"{middle:g}-{high:g}": "foreground", **void}
            cut = int(np.floor(middle))
            return {f"{low:g}-{cut}": "background", f"{cut + 1}-{high:g}": "foreground", **void}
        pairs = ((self.low, "background"), (self.high, "foreground"))
        return {shown(value): meaning for value, meaning in pairs if value is not None} | void


@dataclass(frozen=True, kw_only=True)
class MaskTable:
    """What the values of all mask files of a set mean.

    Attributes:
        tables: One for each storage that the files have.
        inverted: Foreground and background are exchanged after the tables.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    tables: tuple[ValueTable, ...]
    inverted: bool = False

    def for_storage(self, storage: Storage) -> ValueTable | None:
        """The table for files of a storage, if the set has any."""
        return next((table for table in self.tables if table.storage == storage), None)

    def meanings(self, table: ValueTable, values: np.ndarray) -> np.ndarray:
        """`ValueTable.meanings` of one of the tables, exchanged if this is inverted."""
        result = table.meanings(values)
        return _EXCHANGED[result] if self.inverted else result

    def applied(self, table: ValueTable, pixels: np.ndarray) -> np.ndarray:
        """What each pixel means.

        Args:
            table: That of the file's storage.
            pixels: ``(H, W)`` or ``(H, W, 3)``.

        Returns:
            ``(H, W)`` uint8, see `ValueTable.meanings`.
        """
        if pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16):
            every = np.arange(np.iinfo(pixels.dtype).max + 1)[:, None]
            return looked_up(self.meanings(table, every), pixels)
        result = np.empty(pixels.shape[:2], np.uint8)
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        for rows in row_blocks(pixels):
            block = self.meanings(table, pixels[rows].reshape(-1, channels))
            result[rows] = block.reshape(result[rows].shape)
        return result

    def described(self) -> dict[str, str]:
        """Value as text to meaning, with the storage before it where the set has several."""
        swap = {"background": "foreground", "foreground": "background"} if self.inverted else {}
        several = len(self.tables) > 1
        return {
            f"{table.storage}: {value}" if several else value: swap.get(meaning, meaning)
            for table in self.tables
            for value, meaning in table.described().items()
        }


_EXCHANGED = np.array([FOREGROUND, BACKGROUND, VOID, UNKNOWN], np.uint8)


def distinct(values: np.ndarray) -> np.ndarray:
    """The different ones of ``(N, C)`` values, sorted; NaN is one value, which NumPy does not find in rows."""
    unique = np.unique(values, axis=0)
    gone = np.isnan(unique).any(axis=1)
    return np.concatenate([unique[~gone], unique[gone][:1]])


def equal(values: np.ndarray, value: Value) -> np.ndarray:
    """Which of ``(N, C)`` values are this one; NaN equals NaN."""
    if any(np.isnan(value)):
        return np.asarray(np.isnan(values).any(axis=1))
    if len(value) != values.shape[1]:
        # A grey of colour files, or a colour that no grey file has.
        if len(value) > 1 and len(set(value)) > 1:
            return np.zeros(len(values), bool)
        value = value[:1]
    return np.asarray((values == np.asarray(value)).all(axis=1))


def along(values: np.ndarray, low: Value, high: Value) -> tuple[np.ndarray, np.ndarray]:
    """Where values lie on the line from ``low`` (0) to ``high`` (1), and how far from it, in lengths of the line.

    Args:
        values: ``(N, C)``.
        low: ``C`` numbers.
        high: ``C`` numbers, others than ``low``.

    Returns:
        Two ``(N,)`` float32.
    """
    start = np.asarray(low, np.float32)
    line = np.asarray(high, np.float32) - start
    length = float(line @ line)
    offset = values.astype(np.float32) - start
    place = offset @ line / length
    if len(line) == 1:
        return place, np.zeros_like(place)
    aside = np.linalg.norm(offset - place[:, None] * line, axis=1) / np.sqrt(length)
    return place, aside
