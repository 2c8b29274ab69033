"""Decide what the mask values of a set mean: one table, chosen from all files, or what stands in the way of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..options import MaskRule
from .mask_values import MaskValues, by_storage
from .soft_edges import fits_soft, soft_extremes
from .values import BACKGROUND, FOREGROUND, MaskTable, Storage, Value, ValueTable, equal, shown

MAJORITY = 2 / 3
"""Share of the files that must agree before the others are called contradictions."""
_WEIGHTS = np.array([299.0, 587.0, 114.0])
"""Brightness of colours; weights that keep different colours apart."""
_LARGEST = (1.0, 255.0, 65535.0)
"""A mask of one of these values alone is foreground everywhere."""

Kind = Literal[
    "void_value",
    "class_indices",
    "label_map",
    "contradicts_rule",
    "mask_not_binary",
    "rule_empties_masks",
    "rule_fills_masks",
]


@dataclass(frozen=True)
class Trouble:
    """Files whose values cannot be told, or not by the rule that was asked for.

    Attributes:
        kind: What they are.
        files: The files.
        text: What was found.
        cure: What helps, tried on the set; empty if nothing was found that does.
        details: What was found in each file, if it differs.
    """

    kind: Kind
    files: tuple[Path, ...]
    text: str
    cure: str = ""
    details: dict[Path, str] = field(default_factory=dict)


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
        rule: As `sam_adapter.config.DataOptions.mask_rule`.
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
    every = np.unique(np.concatenate([file.values for file in files]), axis=0)
    if rule == "nonzero":
        table = ValueTable(storage=storage, rule="nonzero")
        return table, _emptied(files, table)
    if len(every) <= 2:
        return _of_two(storage, files, every)
    if rule == "half":
        low, high = soft_extremes(files) if every.shape[1] > 1 else (tuple(every[0]), tuple(every[-1]))
        if len(every[0]) > 1 and _brightness(low) > _brightness(high):
            low, high = high, low
        table = ValueTable(storage=storage, rule="half", low=low, high=high)
        return table, _emptied(files, table)
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
    return None, [Trouble("mask_not_binary", tuple(file.path for file in files), text)]


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
            return table, [_void(others, every)]
        if not (_small_classes(table, extra) and len(others) > 1):
            return table, [_contradiction(others, table)]
    return None, [_unexplained(storage, files, every)]


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
    values = np.unique(np.concatenate([file.values for file in files]), axis=0).tolist()
    return [tuple(one) for one in values if tuple(one) not in (table.low, table.high)]


def _small_classes(table: ValueTable, extra: Sequence[Value]) -> bool:
    """Whether foreground and all other values could be numbers of classes."""
    if table.rule != "values" or table.high is None or len(table.high) > 1:
        return False
    return all(float(one).is_integer() and 0 < one < 64 for value in (table.high, *extra) for one in value)


def _contradiction(files: Sequence[MaskValues], table: ValueTable) -> Trouble:
    rule = ", ".join(f"{value} {meaning}" for value, meaning in table.described().items())
    text = f"the values of these files contradict all others ({rule})"
    return Trouble("contradicts_rule", _paths(files), text, details={file.path: _listed(file) for file in files})


def _void(files: Sequence[MaskValues], every: np.ndarray) -> Trouble:
    values = ", ".join(shown(tuple(one)) for one in every.tolist())
    text = (
        f"the masks have the values {values}; a third value beside background and foreground is often void (unsure), "
        "and is not guessed at"
    )
    return Trouble("void_value", _paths(files), text, details={file.path: _listed(file) for file in files})


def _unexplained(storage: Storage, files: Sequence[MaskValues], every: np.ndarray) -> Trouble:
    """What a set without one rule is."""
    details = {file.path: _listed(file) for file in files}
    whole = bool(np.isfinite(every).all() and (every == np.floor(every)).all()) and every.shape[1] == 1
    together = any(len(file.values) > 2 for file in files)
    if not together and _two_conventions(files):
        pairs: dict[str, int] = {}
        for file in files:
            if len(file.values) == 2:
                text = _range(file.values)
                pairs[text] = pairs.get(text, 0) + 1
        counts = ", ".join(f"{pair} in {count} files" for pair, count in pairs.items())
        return Trouble("contradicts_rule", _paths(files), f"the files contradict one another ({counts})", "", details)
    rounded = any(file.rounded for file in files)
    if len(every) == 3 and together:
        if whole and every.max() < 16:
            text = f"the masks have the whole numbers {_range(every)} and look like numbers of classes"
            return Trouble("class_indices", _paths(files), text, "", details)
        return _void([file for file in files if len(file.values) > 2], every)
    if whole and not rounded and every.min() >= -1:
        count = len(every) - 1
        if _labels(files):
            text = f"the masks number their objects (up to {_most(files)} in a file); every file has ids of its own"
            return Trouble("label_map", _paths(files), text, "", details)
        if count <= 256 and not _shades(files):
            text = f"the masks look like numbers of classes: {_range(every)}"
            return Trouble("class_indices", _paths(files), text, "", details)
    if every.shape[1] == 3 and not rounded and len(every) <= 64:
        text = f"the masks have {len(every)} colours ({_range(every)}), as classes have"
        return Trouble("class_indices", _paths(files), text, "", details)
    text = f"the masks have {len(every)} values in all, which are neither two nor two with soft edges between them"
    return Trouble("mask_not_binary", _paths(files), text, "", details)


def _two_conventions(files: Sequence[MaskValues]) -> bool:
    """Whether files of two values have one background and two kinds of foreground, such as 1 and 255."""
    pairs = {tuple(tuple(one) for one in file.values.tolist()) for file in files if len(file.values) == 2}
    if len(pairs) != 2:
        return False
    highs = sorted(max(max(value) for value in pair) for pair in pairs)
    return highs[1] >= 64


def _labels(files: Sequence[MaskValues]) -> bool:
    """Whether each file numbers its own objects: 1 to n with another n in each, or hardly any id twice."""
    numbers = [file.values[file.values[:, 0] > 0, 0] for file in files]
    numbers = [one for one in numbers if len(one)]
    counts = {len(one) for one in numbers}
    running = sum(bool(one[-1] == len(one)) for one in numbers)
    if max(counts) >= 4 and running >= MAJORITY * len(numbers) and (len(counts) > 1 or max(counts) > 20):
        return True
    every = np.concatenate(numbers)
    different = len(np.unique(every))
    return max(counts) >= 4 and different > 64 and (different > 0.5 * len(every) or different > 256)


def _shades(files: Sequence[MaskValues]) -> bool:
    """Whether files have so many values that they must be shades."""
    return any(len(file.values) > 64 for file in files)


def _emptied(files: Sequence[MaskValues], table: ValueTable) -> list[Trouble]:
    """Files with several values that the rule makes one of."""
    meanings = [(file, table.meanings(file.values)) for file in files if len(file.values) > 1]
    empty = [file for file, one in meanings if not (one == FOREGROUND).any()]
    full = [file for file, one in meanings if not (one == BACKGROUND).any()]
    found: list[Trouble] = []
    what = f"'--mask-rule {'nonzero' if table.rule == 'nonzero' else 'half'}'"
    rule = ", ".join(f"{value} {meaning}" for value, meaning in table.described().items())
    if empty:
        text = f"{what} ({rule}) leaves no foreground in masks that have several values"
        details = {file.path: _listed(file) for file in empty}
        found.append(Trouble("rule_empties_masks", _paths(empty), text, "", details))
    if full:
        text = f"{what} ({rule}) leaves no background in masks that have several values"
        details = {file.path: _listed(file) for file in full}
        found.append(Trouble("rule_fills_masks", _paths(full), text, "", details))
    return found


def _paths(files: Sequence[MaskValues]) -> tuple[Path, ...]:
    return tuple(file.path for file in files)


def _listed(file: MaskValues, most: int = 6) -> str:
    values = [shown(tuple(one)) for one in file.values[:most].tolist()]
    more = f", ... ({len(file.values)} values)" if len(file.values) > most else ""
    return f"has {', '.join(values)}{more}"


def _range(every: np.ndarray, most: int = 8) -> str:
    values = [shown(tuple(one)) for one in every.tolist()]
    return ", ".join(values if len(values) <= most else [*values[: most - 1], "...", values[-1]])


def _most(files: Sequence[MaskValues]) -> int:
    return max(int((file.values[:, 0] > 0).sum()) for file in files)
