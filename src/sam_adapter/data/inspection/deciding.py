"""What the values of a set's masks mean, and which classes it has: decided once, from all its files."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...annotations.class_file import ClassFile, read_class_file
from ...annotations.listing import Listing
from ...annotations.mask_layouts import OBJECT_CLASS
from ...annotations.reading.class_values import decide_classes
from ...annotations.reading.classes import Classes
from ...annotations.reading.cures import decide_with_cures
from ...annotations.reading.decoding import decode
from ...annotations.reading.mask_values import MaskValues
from ...annotations.reading.rules import ReadingRules
from ...annotations.reading.troubles import Trouble
from ...config.options import DataOptions
from ...config.registry import TASKS
from ...errors import ConfigError

log = logging.getLogger(__name__)

_OBJECTS = (
    "name the classes with '--classes FILE' if the values are classes, whose connected parts are then the objects, or "
    "give '--mask-rule numbers' if each value is an object; '--ignore-value 255' first where that is a void border"
)
_WHOLE = 0.95
"""Share of the values of all files that must each be one connected part to be taken for objects."""


def decide_rules(
    listing: Listing, values: Sequence[MaskValues], options: DataOptions, task: str, known: Classes | None = None
) -> tuple[ReadingRules, list[Trouble]]:
    """Decide how the annotations of a set are read.

    Args:
        listing: The set.
        values: Of all its mask files.
        options: How to read them.
        task: A key of ``TASKS``, which says whether pixels have classes.
        known: The classes that the set must have, such as those that an adapter was trained on; None finds them.

    Returns:
        The rules, without a scale of brightness, and what stands in the way of them.

    Raises:
        ConfigError: If the class file cannot be read, or names other classes than those that are known.
    """
    given = None if options.classes is None else read_class_file(options.classes)
    if known is not None and given is not None and given.names != known.names:
        raise ConfigError(
            f"classes: '{options.classes}' names {', '.join(given.names)}; the adapter has {', '.join(known.names)}."
        )
    rules = ReadingRules(pages=options.pages)
    outlined = any(record.objects is not None for record in listing.records)
    if TASKS[task].objects:
        rules = replace(rules, objects="outlines" if outlined else "parts")
    by_class = TASKS[task].classes or (TASKS[task].objects and given is not None)
    if not outlined and by_class:
        if known is not None:
            given = given if given is not None and given.values else _file_of(known)
        classes, troubles = decide_classes(values, given, options.void_values)
        if classes is not None and known is not None:
            if classes.has_background and not known.has_background:
                log.warning(
                    "The adapter was trained on masks that give every pixel a class, and these have a background: it "
                    "never answers with background, and the scores count that against it."
                )
            classes = replace(classes, colours=known.colours, has_background=known.has_background)
        return replace(rules, classes=classes), troubles
    numbered = replace(rules, objects="numbers", void_numbers=options.void_values)
    if rules.objects == "parts" and options.mask_rule == "numbers":
        return numbered, []
    rule: Any = "auto" if options.mask_rule == "numbers" else options.mask_rule
    decision = decide_with_cures(values, rule=rule, ignore=options.void_values, invert=options.mask_invert)
    if rules.objects == "parts" and options.mask_rule == "auto" and decision.troubles:
        if _number_objects(values, options.void_values, decision.troubles):
            return numbered, []
        troubles = [replace(one, cure=_OBJECTS) if one.kind == "class_indices" else one for one in decision.troubles]
        return replace(rules, masks=decision.table), troubles
    rules = replace(rules, masks=decision.table)
    named = given or known or set(listing.class_names) - {OBJECT_CLASS}
    if TASKS[task].classes or (outlined and rules.objects and named):
        rules = replace(rules, classes=_classes_of_objects(listing, given, known))
    return rules, decision.troubles


def _number_objects(
    values: Sequence[MaskValues], void: Sequence[tuple[float, ...]], troubles: Sequence[Trouble]
) -> bool:
    """Whether each mask file numbers its objects.

    That is so by the look of the set; or if the numbers go from 1 without a gap in every file; or if each value of a
    file is one connected part, as then the parts of classes, too, are what each value is.
    """
    kinds = {trouble.kind for trouble in troubles}
    if kinds == {"label_map"}:
        return True
    if kinds == {"mask_not_binary"} and any(one.rounded for one in values):
        return all(_numbers_regions(one.path) for one in values if one.rounded)
    if not kinds <= {"class_indices", "label_map"} or any(one.values.shape[1] != 1 for one in values):
        return False
    apart = {value[0] for value in void if len(value) == 1} | {0.0}
    own = [sorted(set(one.values[:, 0].tolist()) - apart) for one in values]
    if all(one == [*range(1, len(one) + 1)] for one in own) and len({len(one) for one in own}) > 1:
        return True
    parts = [_parts(one.path, numbers) for one, numbers in zip(values, own, strict=True)]
    every = [count for some in parts for count in some]
    return max(map(len, own)) > 1 and sum(count == 1 for count in every) >= _WHOLE * len(every)


def _numbers_regions(path: Path) -> bool:
    """Whether a file with more values than are kept has whole numbers, which most pixels share with a neighbour."""
    pixels = decode(path, max_pixels=None).values
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu" or not 0 == pixels.min() < pixels.max():
        return False
    same = pixels[:, 1:] == pixels[:, :-1]
    return bool(same[pixels[:, 1:] > 0].mean() > 0.5)


def _parts(path: Path, numbers: Sequence[float]) -> list[int]:
    """How many connected parts each of some values of a mask file has."""
    pixels = decode(path, max_pixels=None).values
    return [cv2.connectedComponents((pixels == one).astype(np.uint8), connectivity=8)[0] - 1 for one in numbers]


def _classes_of_objects(listing: Listing, given: ClassFile | None, known: Classes | None) -> Classes:
    """The classes that annotations name."""
    if known is not None:
        return replace(known, values=(), background=(), void=())
    names = listing.class_names if given is None else given.names
    if not names:
        raise ConfigError("classes: the annotations name no class. Give a file with their names as --classes.")
    return Classes(names=names)


def _file_of(classes: Classes) -> ClassFile | None:
    """What a class file would have to say for these classes."""
    if not classes.values:
        return ClassFile(classes.names)
    return ClassFile(classes.names, classes.values, classes.background, classes.void)
