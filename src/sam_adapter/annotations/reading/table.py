"""Decide what the mask values of a set mean: one table, chosen from all files, or what stands in the way of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config.choices import MaskRule
from .mask_values import MaskValues, by_storage
from .soft_edges import fits_soft, soft_extremes
from .troubles import MAJORITY, Trouble, contradiction, emptied, paths_of, third_value, unexplained
from .values import BACKGROUND, FOREGROUND, MaskTable, Storage, Value, ValueTable, distinct, equal, shown

_WEIGHTS = np.array([299.0, 587.0, 114.0])
"""Brightness of colours; weights that keep different colours apart."""
_LARGEST = (1.0, 255.0, 65535.0)
"""A mask of one of these values alone is foreground everywhere."""


@dataclass(frozen=True)
class Decision:
    """The table of a set, as far as it could be made.

    Attributes:
        table: What could be decided.
        troubles: What could not.
        shares: Foreground's share of what is not void in each file that the table reads.
        varied: Files that have several values which are not void.
    """

    table: MaskTable
    troubles: list[Trouble]
    shares: dict[Path, float]
    varied: set[Path]


def decide(
    files: Iterable[MaskValues],
    *,
    rule: MaskRule = "auto",
    ignore: Sequence[Value] = (),
    invert: bool = False,
) -> Decision:
    """Decide what the values of a set mean.

    Args:
        files: All its masks.
        rule: As `sam_adapter.config.commands.DataOptions.mask_rule`.
        ignore: Values that are void.
        invert: Exchange foreground and background.

    Returns:
        The table and what stands in the way of it.
    """
    groups = by_storage(files)
    tables: list[ValueTable] = []
    troubles: list[Trouble] = []
    varied: set[Path] = set()
    for storage, members in groups.items():
        void = tuple(value for value in ignore if any(equal(file.values, value).any() for file in members))
        kept = [_without(file, void) for file in members]
        kept = [file for file in kept if len(file.values)]
        table, found = _decide_storage(storage, kept, rule)
        troubles += found
        if table is not None:
            table = ValueTable(storage=storage, rule=table.rule, low=table.low, high=table.high, void=void)
        elif not kept:
            table = ValueTable(storage=storage, rule="values", void=void)
        if table is not None:
            tables.append(table)
        varied |= {file.path for file in kept if len(file.values) > 1}
    table = MaskTable(tables=tuple(tables), inverted=invert)
    troubled = {path for trouble in troubles for path in trouble.files}
    return Decision(table, troubles, _shares(groups, table, troubled), varied)


def _shares(groups: Mapping[Storage, Sequence[MaskValues]], table: MaskTable, troubled: set[Path]) -> dict[Path, float]:
    shares = {}
    for storage, members in groups.items():
        own = table.for_storage(storage)
        for file in members:
            if own is None or file.path in troubled:
                continue
            meanings = table.meanings(own, file.values)
            ground, figure = (int(file.counts[meanings == one].sum()) for one in (BACKGROUND, FOREGROUND))
            shares[file.path] = figure / max(ground + figure, 1)
    return shares


def _without(file: MaskValues, void: Sequence[Value]) -> MaskValues:
    if not void:
        return file
    kept = ~np.any([equal(file.values, value) for value in void], axis=0)
    return MaskValues(
        path=file.path, storage=file.storage, values=file.values[kept], counts=file.counts[kept], rounded=file.rounded,
        palette=None if file.palette is None else file.palette[kept],
    )  # fmt: skip


def _decide_storage(
    storage: Storage, files: Sequence[MaskValues], rule: MaskRule
) -> tuple[ValueTable | None, list[Trouble]]:
    if not files:
        return None, []
    every = distinct(np.concatenate([file.values for file in files]))
    if np.isnan(every).any():
        gone = [file for file in files if np.isnan(file.values).any()]
        return None, [third_value(gone, every)]
    if rule == "nonzero":
        table = ValueTable(storage=storage, rule="nonzero")
        return table, emptied(files, table)
    if len(every) <= 2:
        return _of_two(storage, files, every)
    if rule == "half":
        low, high = soft_extremes(files) if every.shape[1] > 1 else (tuple(every[0]), tuple(every[-1]))
        if len(every[0]) > 1 and _brightness(low) > _brightness(high):
            low, high = high, low
        table = ValueTable(storage=storage, rule="half", low=low, high=high)
        return table, emptied(files, table)
    return _of_many(storage, files, every)


def _of_two(
    storage: Storage, files: Sequence[MaskValues], every: np.ndarray
) -> tuple[ValueTable | None, list[Trouble]]:
    """At most two values in the whole set: the higher, or brighter, is foreground."""
    values = sorted((tuple(one) for one in every.tolist()), key=lambda value: _rank(value, files))
    if len(values) == 2:
        return ValueTable(storage=storage, rule="values", low=values[0], high=values[1]), []
    value = values[0]
    if not any(value):
        return ValueTable(storage=storage, rule="values", low=value), []
    if set(value) <= set(_LARGEST) or storage == "alpha":
        return ValueTable(storage=storage, rule="values", high=value), []
    text = f"all {storage} masks have the single value {shown(value)}; expected 0, 1 or 255"
    return None, [Trouble("mask_not_binary", paths_of(files), text)]


def _rank(value: Value, files: Sequence[MaskValues]) -> tuple[float, ...]:
    """Order from background to foreground; of palette indices, one that stands for black is background."""
    for file in files:
        if file.palette is not None and (at := equal(file.values, value)).any():
            return (float(file.palette[at][0].any()), value[0])
    return (_brightness(value),)


def _brightness(value: Value) -> float:
    return value[0] if len(value) == 1 else float(np.asarray(value) @ _WEIGHTS)


def _of_many(
    storage: Storage, files: Sequence[MaskValues], every: np.ndarray
) -> tuple[ValueTable | None, list[Trouble]]:
    """More than two values: find the rule that explains most files, and say what is with the others."""
    pair, by_pair = _best_pair(files)
    table = None if pair is None else _of_two(storage, files, np.array(pair))[0]
    explained = by_pair
    soft = fits_soft(files)
    if soft is not None and sum(soft[1]) > sum(explained):
        (low, high), explained = soft
        if _brightness(low) > _brightness(high):
            low, high = high, low
        table = ValueTable(storage=storage, rule="half", low=low, high=high)
    others = [file for file, fits in zip(files, explained, strict=True) if not fits]
    if not others:
        return table, []
    if table is not None and len(others) <= (1 - MAJORITY) * len(files):
        extra = _extra(others, table)
        third = table.rule == "values" and len(extra) == 1 and any(len(file.values) >= 3 for file in others)
        if third:
            return table, [third_value(others, every)]
        if not (_small_classes(table, extra) and len(others) > 1):
            return table, [contradiction(others, table)]
    return None, [unexplained(files, every)]


def _best_pair(files: Sequence[MaskValues]) -> tuple[tuple[Value, Value] | None, list[bool]]:
    """The two values that explain most files, and which."""
    counts: dict[tuple[Value, Value], int] = {}
    for file in files:
        if len(file.values) == 2:
            first, second = (tuple(one) for one in file.values.tolist())
            counts[first, second] = counts.get((first, second), 0) + 1
    if not counts:
        return None, [False] * len(files)
    pair = max(counts, key=lambda one: counts[one])
    return pair, [all(tuple(value) in pair for value in file.values.tolist()) for file in files]


def _extra(files: Sequence[MaskValues], table: ValueTable) -> list[Value]:
    """Values that the table does not know."""
    values = distinct(np.concatenate([file.values for file in files])).tolist()
    return [tuple(one) for one in values if tuple(one) not in (table.low, table.high)]


def _small_classes(table: ValueTable, extra: Sequence[Value]) -> bool:
    """Whether foreground and all other values could be numbers of classes."""
    if table.rule != "values" or table.high is None or len(table.high) > 1:
        return False
    return all(float(one).is_integer() and 0 < one < 64 for value in (table.high, *extra) for one in value)
