"""What stands in the way of a table of mask values: files that contradict, third values, classes, ids, shades."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import amount
from .clusters import Cluster, blurred_clusters
from .mask_values import MOST_VALUES, MaskValues
from .values import BACKGROUND, FOREGROUND, ValueTable, shown

MAJORITY = 2 / 3
"""Share of the files that must agree before the others are called contradictions."""
_PHOTOGRAPH = 500
"""Colours that are left of a photograph after rounding; JPEG masks of few colours have fewer."""
Kind = Literal[
    "void_value",
    "class_indices",
    "label_map",
    "contradicts_rule",
    "mask_not_binary",
    "rule_empties_masks",
    "rule_fills_masks",
    "no_classes",
    "class_colours",
    "unknown_class",
]


@dataclass(frozen=True)
class Trouble:
    """Files whose values cannot be told, or not by the rule that was asked for.

    Attributes:
        kind: What they are.
        files: The files.
        text: What was found.
        cure: What helps, if no option can; else options that were tried on the set are put here.
        details: What was found in each file, if it differs.
    """

    kind: Kind
    files: tuple[Path, ...]
    text: str
    cure: str = ""
    details: dict[Path, str] = field(default_factory=dict)


def contradiction(files: Sequence[MaskValues], table: ValueTable) -> Trouble:
    """Files that a table does not read while it reads most others."""
    rule = ", ".join(f"{value} {meaning}" for value, meaning in table.described().items())
    text = f"the values of these files contradict all others ({rule})"
    return Trouble("contradicts_rule", paths_of(files), text, details={file.path: _listed(file) for file in files})


def third_value(files: Sequence[MaskValues], every: np.ndarray) -> Trouble:
    """Files with a value beside background and foreground; ``every`` holds all values of the set."""
    what = "a third value beside background and foreground is often void (unsure)"
    if np.isnan(every).any():
        what = "NaN is neither background nor foreground"
    elif every.min() < 0:
        what = f"{shown(tuple(every[0].tolist()))} often stands for missing data"
    text = f"the masks have the values {_range(every)}; {what}, and is not guessed at"
    return Trouble("void_value", paths_of(files), text, details={file.path: _listed(file) for file in files})


def unexplained(files: Sequence[MaskValues], every: np.ndarray) -> Trouble:
    """What a set without one rule is."""
    details = {file.path: _listed(file) for file in files}
    whole = bool(np.isfinite(every).all() and (every == np.floor(every)).all()) and every.shape[1] == 1
    numbers = whole and int((every < 0).sum()) <= 1  # one below 0 may be missing data
    together = any(len(file.values) > 2 for file in files)
    if not together and _two_conventions(files):
        pairs: dict[str, int] = {}
        for file in files:
            if len(file.values) == 2:
                text = _range(file.values)
                pairs[text] = pairs.get(text, 0) + 1
        counts = ", ".join(f"{pair} in {amount(count, 'file')}" for pair, count in pairs.items())
        return Trouble("contradicts_rule", paths_of(files), f"the files contradict one another ({counts})", "", details)
    rounded = any(file.rounded for file in files)
    if len(every) == 3 and together:
        if numbers and every.min() >= 0 and every.max() < 16:
            text = f"the masks have the whole numbers {_range(every)} and look like numbers of classes"
            return Trouble("class_indices", paths_of(files), text, "", details)
        return third_value([file for file in files if len(file.values) > 2], every)
    if every.shape[1] == 3 and rounded and all(len(file.values) > _PHOTOGRAPH for file in files if file.rounded):
        text = "the masks have as many colours as photographs have"
        cure = "give the folder of masks as '--masks', not that of pictures or of pictures with masks drawn into them"
        return Trouble("mask_not_binary", paths_of(files), text, cure, details)
    labels = numbers and not rounded and _labels(files)
    if not labels and (clusters := blurred_clusters(files)):
        return blurred(files, clusters)
    if numbers and not rounded:
        count = len(every) - 1
        if labels:
            text = f"the masks number their objects (up to {_most(files)} in a file); every file has ids of its own"
            return Trouble("label_map", paths_of(files), text, "", details)
        if count <= 256 and not _shades(files):
            text = f"the masks look like numbers of classes: {_range(every)}"
            return Trouble("class_indices", paths_of(files), text, "", details)
    if every.shape[1] == 3 and not rounded and len(every) <= 64:
        text = f"the masks have {len(every)} colours ({_range(every)}), as classes have"
        return Trouble("class_indices", paths_of(files), text, "", details)
    text = f"the masks have {len(every)} values in all, which are neither two nor two with soft edges between them"
    return Trouble("mask_not_binary", paths_of(files), text, "", details)


def blurred(files: Sequence[MaskValues], clusters: Sequence[Cluster]) -> Trouble:
    """Masks of three classes or more that were saved with loss; no cut tells which of them is the object."""
    named = ", ".join(f"{shown(value)} ({share:.1%})" for value, share in clusters)
    text = (
        f"the masks have {len(clusters)} colours or shades, blurred as by JPEG, where two are expected. Their values "
        f"lie around {named}"
    )
    cure = (
        "save masks of the one class that is meant, with 0 and 255, as PNG. No option of ours does it: half way "
        "between two of them says nothing about the others, and compression has blurred zero too"
    )
    return Trouble("class_indices", paths_of(files), text, cure)


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


def emptied(files: Sequence[MaskValues], table: ValueTable) -> list[Trouble]:
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
        found.append(Trouble("rule_empties_masks", paths_of(empty), text, "", details))
    if full:
        text = f"{what} ({rule}) leaves no background in masks that have several values"
        details = {file.path: _listed(file) for file in full}
        found.append(Trouble("rule_fills_masks", paths_of(full), text, "", details))
    return found


def paths_of(files: Sequence[MaskValues]) -> tuple[Path, ...]:
    """The files' paths."""
    return tuple(file.path for file in files)


def _listed(file: MaskValues, most: int = 6) -> str:
    if file.rounded:
        return f"has more than {MOST_VALUES} values"
    values = [shown(tuple(one)) for one in file.values[:most].tolist()]
    more = f", ... ({len(file.values)} values)" if len(file.values) > most else ""
    return f"has {', '.join(values)}{more}"


def _range(every: np.ndarray, most: int = 8) -> str:
    values = [shown(tuple(one)) for one in every.tolist()]
    return ", ".join(values if len(values) <= most else [*values[: most - 1], "...", values[-1]])


def _most(files: Sequence[MaskValues]) -> int:
    return max(int((file.values[:, 0] > 0).sum()) for file in files)
