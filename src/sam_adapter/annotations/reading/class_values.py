"""Decide the classes of a set of mask files: from a class file, or from the values that the files have."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import amount
from ..class_file import ClassFile
from .classes import MOST_CLASSES, Classes
from .mask_values import MOST_VALUES, MaskValues
from .troubles import Trouble
from .values import Value, distinct, shown

MOST_UNNAMED = 64
"""Values that are taken for classes without a class file; more of them are ids of objects, or a photograph."""
_LISTED = 12
_VOIDS = (255.0, 65535.0)


def decide_classes(
    files: Sequence[MaskValues], given: ClassFile | None, ignore: Sequence[Value] = ()
) -> tuple[Classes | None, list[Trouble]]:
    """Decide which classes a set has.

    Args:
        files: All its masks.
        given: What the user's class file says; None names the classes after the values that are found.
        ignore: Values that are void, beside those of the class file.

    Returns:
        The classes, as far as they can be told, and what stands in the way of it.
    """
    in_colour = any(len(value) == 3 for value in given.values) if given and given.values else _coloured(files)
    held = [_values_of(file, in_colour) for file in files]
    if mixed := [file.path for file, values in zip(files, held, strict=True) if values is None]:
        text = "these masks hold colours, but the classes are told by number"
        return None, [Trouble("class_colours", tuple(mixed), text, "give colours as '[r, g, b]' in --classes")]
    every = distinct(np.concatenate([values for values in held if values is not None]))
    found = [tuple(one) for one in every.tolist()]
    void = tuple(dict.fromkeys([*(given.void if given else ()), *ignore]))
    if given is None or not given.values:
        classes, troubles = _of_found(files, found, void, given)
    else:
        classes, troubles = _of_given(files, held, found, void, given)
    if classes is None:
        return None, troubles
    return _with_colours(classes, files, in_colour), troubles


def _of_found(
    files: Sequence[MaskValues], found: list[Value], void: tuple[Value, ...], given: ClassFile | None
) -> tuple[Classes | None, list[Trouble]]:
    """Classes after the values of the files; zero, or black, is the background."""
    own = [value for value in found if value not in void and any(value)]
    paths = tuple(file.path for file in files)
    whole = all(float(one).is_integer() for value in own for one in value)
    if not own:
        text = f"all masks have the single value {', '.join(map(shown, found)) or 'none'}; expected values of classes"
        return None, [Trouble("no_classes", paths, text, "look whether these are the masks that are meant")]
    most = MOST_UNNAMED if given is None else MOST_CLASSES
    if trouble := _possible_void(own, paths):
        return None, [trouble]
    if len(own) > most or not whole or any(len(file.values) >= MOST_VALUES for file in files):
        text = f"the masks have {len(own)} different values, as ids of objects, soft edges or photographs have"
        cure = "name the values that are classes in a file for '--classes', and save masks without compression loss"
        return None, [Trouble("no_classes", paths, text, cure)]
    names = tuple(f"class_{'_'.join(f'{one:g}' for one in value)}" for value in own)
    if given is not None:
        if len(given.names) != len(own):
            text = f"the masks have {amount(len(own), 'value')} beside 0, but --classes names {len(given.names)}"
            return None, [Trouble("no_classes", paths, text, "write 'name: value' lines into the file of --classes")]
        names = given.names
    background = tuple(value for value in found if value not in void and not any(value)) or (
        ((0.0,) * len(own[0]),) if own else ()
    )
    black = any(not any(value) for value in found if value not in void)
    return Classes(names=names, values=tuple(own), background=background, void=void, has_background=black), []


def _possible_void(own: Sequence[Value], paths: tuple[Path, ...]) -> Trouble | None:
    """255 far above the numbers of all other classes, as many sets mark what they say nothing about."""
    others = [value[0] for value in own if value[0] not in _VOIDS]
    last = max(value[0] for value in own)
    if len(own[0]) > 1 or last not in _VOIDS or not others or max(others) >= last - 1:
        return None
    text = f"the masks have the value {last:g}, far above those of all other classes; it is often void (unsure)"
    cure = f"'--ignore-value {last:g}' if it is void, or name it in the file of --classes as 'name: {last:g}'"
    return Trouble("void_value", paths, text, cure)


def _of_given(
    files: Sequence[MaskValues],
    held: Sequence[np.ndarray | None],
    found: list[Value],
    void: tuple[Value, ...],
    given: ClassFile,
) -> tuple[Classes | None, list[Trouble]]:
    """Classes of a class file; files with other values are named."""
    size = len(given.values[0])
    zero = (0.0,) * size
    background = given.background or (() if zero in given.values or zero in void else (zero,))
    classes = Classes(
        names=given.names,
        values=given.values,
        background=background,
        void=void,
        has_background=any(value in found for value in background),
    )
    known = {*given.values, *background, *void, *((value * 3) for value in void if len(value) == 1 and size == 3)}
    unknown: dict[Path, str] = {}
    extra: dict[Value, None] = {}
    for file, values in zip(files, held, strict=True):
        assert values is not None
        others = [tuple(one) for one in values.tolist() if tuple(one) not in known]
        if others:
            more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
            unknown[file.path] = f"{', '.join(f'{shown(value)}' for value in others[:_LISTED])}{more}"
            extra |= dict.fromkeys(others)
    if not unknown:
        return classes, []
    names = ", ".join(f"'{shown(value)}'" for value in list(extra)[:_LISTED])
    text = "these masks have values that no class of --classes has"
    cure = f"name {names} in the file of --classes, or leave them out of scores with '--ignore-value'"
    return classes, [Trouble("unknown_class", tuple(unknown), text, cure, details=unknown)]


def _coloured(files: Sequence[MaskValues]) -> bool:
    """Whether files hold colours, not numbers; a palette's index is a number."""
    return any(file.palette is None and not file.grey for file in files)


def _values_of(file: MaskValues, in_colour: bool) -> np.ndarray | None:
    """The values ``(n, C)`` of a file that classes are told by; None if it has colours only."""
    if in_colour:
        visible = file.visible
        return np.repeat(visible, 3, axis=1) if visible.shape[1] == 1 else visible
    if file.values.shape[1] == 1:
        return file.values
    return file.values[:, :1] if file.grey else None


def _with_colours(classes: Classes, files: Sequence[MaskValues], in_colour: bool) -> Classes:
    """The colours that the files show the classes in, where they show any."""
    if in_colour:
        found = {value: value for value in classes.values}
    else:
        found = {}
        for file in files:
            if file.palette is not None:
                for value, colour in zip(file.values.tolist(), file.palette.tolist(), strict=True):
                    found.setdefault(tuple(value), tuple(colour))
    colours = [found.get(value) for value in classes.values]
    shown_apart = len({colour for colour in colours if colour is not None and any(colour)}) == len(colours)
    if not shown_apart or any(max(colour or (256,)) > 255 for colour in colours):
        return classes
    return replace(classes, colours=tuple((int(c[0]), int(c[1]), int(c[2])) for c in colours if c is not None))
