"""Prompts that a user gives in a JSON file."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..annotations.reading.files import image_size
from ..batch import Prompt, Size
from ..config.choices import MIXED_KINDS
from ..config.ranges import shortened
from ..config.registry import TASKS
from ..errors import ConfigError, DataError, amount, quoted
from .mask_files import named_mask
from .prompt_arrays import make_prompts

log = logging.getLogger(__name__)

NO_CLASS = "foreground"
"""Name of the only class of adapters that tell none apart."""
LARGEST_FILE = 256 << 20
"""Bytes of the longest file of prompts that is read."""


class GivenPrompts(NamedTuple):
    """What is asked about one picture.

    Attributes:
        prompts: In pixels of the picture.
        classes: The class that each of them asks for, where one is given.
        mask_files: Those that are named as masks.
    """

    prompts: list[Prompt]
    classes: list[str | None]
    mask_files: list[Path]


def read_prompts(path: Path, pictures: list[tuple[Path, str]]) -> dict[Path, GivenPrompts]:
    """Prompts by picture, checked against the pictures' sizes; all problems are reported together.

    A picture with an empty list is one without a prompt, as if it were not named.

    Args:
        path: JSON of file name to a prompt, or to a list of prompts; or a COCO file, whose boxes are the prompts. Masks
            that are named lie below its folder.
        pictures: Files and their names.

    Raises:
        ConfigError: If the file cannot be read, or names pictures that are not there, or a prompt is wrong.
    """
    entries = _entries(path)
    if not entries:
        raise ConfigError(
            f"prompts: '{path}' has no prompt; expected one or more by file name, such as "
            '{"a.png": {"box": [x1, y1, x2, y2]}}. To have all pictures answered without a prompt, leave --prompts out.'
        )
    by_name = {f"{name}{file.suffix}": file for file, name in pictures}
    bare = Counter(file.name for file, _ in pictures)
    by_name |= {file.name: file for file, _ in pictures if bare[file.name] == 1}
    found: dict[Path, GivenPrompts] = {}
    names: dict[Path, str] = {}
    problems, empty = [], []
    for given, entry in entries.items():
        name = given if given in by_name else Path(given).name  # COCO files name folders that may be elsewhere
        if name not in by_name:
            problems.append(f"prompts: '{name}' is not among the pictures.")
            continue
        file = by_name[name]
        if file in names:
            problems.append(
                f"prompts: '{names[file]}' and '{given}' in '{path}' both mean the picture '{file}'; put its prompts "
                "into one list, or name folders as they are below --input."
            )
            continue
        names[file] = given
        if entry == []:
            empty.append(given)
            continue
        try:
            found[file] = _given(entry, image_size(file), path.parent)
        except DataError as error:
            problems.append(f"prompts: '{name}': {error}")
    if problems:
        raise ConfigError(*problems)
    if empty:
        log.warning(
            "prompts: in '%s' %s an empty list (%s), and no prompt: answered as pictures that are not named. To have "
            "no mask of a picture, leave it out of --input.",
            path,
            amount(len(empty), "picture", "have"),
            quoted(empty),
        )
    return {file: one for file, one in found.items() if one.prompts}


class _RepeatedKeyError(Exception):
    """A JSON object has a key twice, of which Python would silently take the last."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object.

    Raises:
        _RepeatedKeyError: If a key is there twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found


def _entries(path: Path) -> dict[str, Any]:
    """File name to what stands there about it."""
    try:
        if not path.is_file():
            raise ConfigError(f"prompts: there is no file '{path}'.")
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ConfigError(f"prompts: expected at most {LARGEST_FILE} bytes, but '{path}' has {size}.")
        entries = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except _RepeatedKeyError as error:
        raise ConfigError(
            f"prompts: '{path}' has the key '{error}' twice in one object, of which only one could count. Several "
            'prompts of a picture are a list: {"a.png": [{...}, {...}]}.'
        ) from error
    except OSError as error:
        raise ConfigError(f"prompts: '{path}' cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"prompts: '{path}' is not JSON ({error}).") from error
    if not isinstance(entries, dict):
        raise ConfigError(f"prompts: '{path}' should map file names to prompts.")
    if {"images", "annotations"} <= set(entries):
        return _coco_boxes(path, entries)
    if set(entries) == set(MIXED_KINDS):
        raise ConfigError(
            f"prompts: '{path}' has a table for each kind of prompt, as 'evaluate --prompt mixed' writes. Give a file "
            'with what stands under "box" or "points" alone.'
        )
    return entries


def _coco_boxes(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The boxes of a COCO file, XYWH there, as prompts by file name."""
    try:
        names = {one["id"]: str(one["file_name"]) for one in content["images"]}
        classes = {one["id"]: str(one["name"]) for one in content.get("categories", ())}
        found: dict[str, Any] = {name: [] for name in names.values()}
        for one in content["annotations"]:
            left, top, width, height = (float(value) for value in one["bbox"])
            entry: dict[str, Any] = {"box": [left, top, left + width, top + height]}
            if one.get("category_id") in classes:
                entry["class"] = classes[one["category_id"]]
            found[names[one["image_id"]]].append(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"prompts: '{path}' is not the COCO file that it looks like ({type(error).__name__}: {error}); expected "
            "images with id and file_name, and annotations with image_id and bbox."
        ) from error
    return {name: entries for name, entries in found.items() if entries}


_KNOWN = {"box", "points", "labels", "mask", "class", "object", "learned"}


def _given(entry: Any, size: Size, folder: Path) -> GivenPrompts:
    """A prompt, or a list of prompts; those that ask by a learned prompt alone, as `evaluate` writes, are left out."""
    several = isinstance(entry, list)
    found = GivenPrompts([], [], [])
    for one in entry if several else [entry]:
        fields = one if isinstance(one, Mapping) else {}
        asked = {name: fields[name] for name in ("box", "points", "labels", "mask") if name in fields}
        if several and not asked and fields.get("learned"):
            continue
        if not asked or set(fields) - _KNOWN or None in asked.values():
            raise DataError(
                "expected {'box': [x1, y1, x2, y2]}, {'points': [[x, y]], 'labels': [1]} or {'mask': 'a_mask.png'}, or "
                f"a list of such, got {shortened(one)}."
            )
        if isinstance(file := asked.get("mask"), str):
            found.mask_files.append(folder / file)
        if "mask" in asked:
            asked["mask"] = named_mask(asked["mask"], folder, size)
        prompts = make_prompts(**asked, size=size)
        if len(prompts) != 1:
            raise DataError(f"box: expected one box for a prompt, got {len(prompts)}.")
        if prompts[0].kind == "points" and not (prompts[0].point_labels == 1).any():
            raise DataError(
                "labels: expected a point with label 1, a box or a mask; points of the background alone ask for "
                "nothing."
            )
        found.prompts.append(prompts[0])
        found.classes.append(None if fields.get("class") is None else str(fields["class"]))
    return found


def labels_of(
    given: Mapping[Path, GivenPrompts], task: str, classes: Sequence[str]
) -> dict[Path, tuple[list[Prompt], list[int]]]:
    """Prompts with the labels that they ask for.

    Args:
        given: By picture.
        task: Of the adapter.
        classes: That the adapter knows; the first has the label 1. Names for an adapter without classes are not used.

    Raises:
        ConfigError: If a picture has more prompts than it may have, or a class is missing or not known.
    """
    entry = TASKS[task]
    needed = len(classes) > int(entry.objects)
    problems = []
    found: dict[Path, tuple[list[Prompt], list[int]]] = {}
    told_apart = [name for name in classes if name != NO_CLASS]
    named = sorted({name for one in given.values() for name in one.classes if name is not None})
    if named and not told_apart:
        log.warning(
            "prompts: classes are named (%s), and the adapter tells none apart (task '%s', %s): their names are not "
            "used. One that does is trained with '--task semantic' or 'instance' and --classes.",
            quoted(named),
            task,
            entry.text,
        )
    for path, one in given.items():
        if len(one.prompts) > 1 and not entry.may_have_classes:
            problems.append(f"prompts: '{path.name}' has {len(one.prompts)}; a picture is asked for one mask.")
        wrong = sorted({str(name) for name in one.classes if name is not None and name not in classes})
        if wrong and told_apart:
            problems.append(f"prompts: '{path.name}': class {', '.join(wrong)}; the adapter has {', '.join(classes)}.")
        if needed and None in one.classes:
            problems.append(f"prompts: '{path.name}': a prompt has no class; name one of {', '.join(classes)} in each.")
        labels = [1 if name is None or name not in classes else classes.index(name) + 1 for name in one.classes]
        found[path] = (one.prompts, labels)
    if problems:
        raise ConfigError(*problems)
    return found
