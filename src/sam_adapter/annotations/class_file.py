"""The file that names the classes of a set: YAML, or a text file with a line for each."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from .reading.classes import MOST_CLASSES
from .reading.values import Value, shown

BACKGROUND_NAMES = ("background", "_background_", "__background__")
IGNORE_NAMES = ("ignore", "void", "__ignore__")


@dataclass(frozen=True)
class ClassFile:
    """What a class file says.

    Attributes:
        names: In the order of the file, without background and void.
        values: The value of each class in mask files; none where the file only lists names.
        background: Values that stand for none of them.
        void: Values about which masks say nothing.
    """

    names: tuple[str, ...]
    values: tuple[Value, ...] = ()
    background: tuple[Value, ...] = ()
    void: tuple[Value, ...] = ()


def read_class_file(path: Path) -> ClassFile:
    """Read a class file.

    Args:
        path: YAML of ``name: value`` or ``name: [red, green, blue]`` lines, in which ``background`` and ``ignore`` have
            a value or a list of them, or a list of names. A ``.txt`` file has lines of ``value name``, or of a name
            each. In a list that names the background, positions are values, the background's being 0; names without
            one are for annotations that name their classes themselves.

    Raises:
        ConfigError: That names the file and the line or entry.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = _lines(text) if path.suffix.lower() == ".txt" else yaml.load(text, _UniqueKeys)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"classes: '{path}' cannot be read ({' '.join(str(error).split())}).") from error
    if isinstance(values, list):
        return _checked(path, _of_list([str(name).strip() for name in values]))
    if not isinstance(values, dict):
        raise ConfigError(f"classes: '{path}': expected lines of 'name: value' or a list of names.")
    names, given, background, void = [], [], [], []
    for name, value in values.items():
        place = f"classes: '{path}': {name}"
        lowered = str(name).strip().lower()
        if lowered in IGNORE_NAMES:
            void += _several(value, place)
        elif lowered in BACKGROUND_NAMES:
            background += _several(value, place)
        else:
            names.append(str(name).strip())
            given.append(_value(value, place))
    return _checked(path, ClassFile(tuple(names), tuple(given), tuple(background), tuple(void)))


def _of_list(names: list[str]) -> ClassFile:
    """A list of names; one that names the background numbers the classes from it, as label files of VOC do."""
    ground = next((at for at, name in enumerate(names) if name.lower() in BACKGROUND_NAMES), None)
    classes = [(at, name) for at, name in enumerate(names) if name.lower() not in (*BACKGROUND_NAMES, *IGNORE_NAMES)]
    if ground is None:
        return ClassFile(tuple(name for _, name in classes))
    values = tuple((float(at - ground),) for at, _ in classes)
    return ClassFile(tuple(name for _, name in classes), values, ((0.0,),))


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key that is given twice, where YAML's own takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"'{key}' is given twice")
        return super().construct_mapping(node, deep)


def _lines(text: str) -> dict[str, Any] | list[str]:
    """A text file: ``value name`` lines as a mapping, or names as a list."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    pairs = [line.split(maxsplit=1) for line in lines]
    if not all(len(pair) == 2 and pair[0].isdecimal() for pair in pairs):
        if len(pairs) > 1 and all(len(pair) == 2 and pair[1].isdecimal() for pair in pairs):
            raise ValueError(f"expected lines of 'value name', got '{lines[0]}'")
        return lines
    named: dict[str, Any] = {}
    for value, name in pairs:
        if name in named:
            raise ValueError(f"'{name}' is given twice")
        named[name] = int(value)
    return named


def _several(value: Any, place: str) -> list[Value]:
    """A value, a colour, or a list of either."""
    if isinstance(value, list) and not (len(value) == 3 and place.endswith("background") and all(map(_number, value))):
        return [_value(one, place) for one in value]
    return [_value(value, place)]


def _value(value: Any, place: str) -> Value:
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) not in (1, 3) or not all(map(_number, numbers)):
        hint = " Write 'name: value', not 'value: name'." if isinstance(value, str) else ""
        raise ConfigError(f"{place}: expected a number, or a colour as [red, green, blue], got {value!r}.{hint}")
    return tuple(float(one) for one in numbers)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _checked(path: Path, found: ClassFile) -> ClassFile:
    """Refuse what no set of masks can mean; all problems together."""
    problems = []
    if not 1 <= len(found.names) <= MOST_CLASSES:
        problems.append(f"expected 1 to {MOST_CLASSES} classes, got {len(found.names)}.")
    every = [*found.values, *found.background, *found.void]
    for value in dict.fromkeys(every):
        if every.count(value) > 1:
            problems.append(f"the value {shown(value)} is given twice.")
    for name in dict.fromkeys(found.names):
        if found.names.count(name) > 1 or not name:
            problems.append(f"the name '{name}' is given twice." if name else "a class has no name.")
    if len({len(value) for value in found.values}) > 1:
        problems.append("some classes have numbers and others colours; expected one kind.")
    if problems:
        raise ConfigError(*(f"classes: '{path}': {problem}" for problem in problems))
    return found
