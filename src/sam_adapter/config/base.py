"""What every configuration can do: check itself, be written and be read.

The string under an attribute is its only documentation: it becomes the text of ``--help``.
"""

import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import ConfigError
from .ranges import range_problem, shortened


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every configuration can do: check itself, be written and be read."""

    def __post_init__(self) -> None:
        wrong, outside = [], []
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            try:
                value = _fitted(value, hint)
            except (TypeError, ValueError, OverflowError):
                wrong.append(f"{name}: expected {expected(name, hint)}, got {shortened(value)}.")
                continue
            object.__setattr__(self, name, value)
            if problem := range_problem(name, value):
                outside.append(problem)
        # What else is wrong can be asked of values of the right type alone.
        if problems := [*wrong, *outside, *(problem for problem in ([] if wrong else self.problems()) if problem)]:
            raise ConfigError(*problems)

    def problems(self) -> list[str | None]:
        """All that is wrong with the values, a sentence each."""
        return []

    def to_yaml(self) -> str:
        """This configuration as YAML that ``--config`` reads."""

        def plain(value: Any) -> Any:
            if isinstance(value, Path):
                return str(value)
            return [plain(item) for item in value] if isinstance(value, tuple | list) else value

        values = {name: plain(value) for name, value in asdict(self).items()}
        return yaml.safe_dump(values, sort_keys=False)

    @classmethod
    def from_yaml(cls, path: Path | str, **changes: Any) -> Self:
        """Read a configuration written by `to_yaml`.

        Args:
            path: The YAML file.
            changes: Values that replace those of the file.

        Raises:
            ConfigError: If the file has a key that this configuration does not know, or a wrong value.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path}: cannot be read as a configuration ({reason}).") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected a YAML file of 'option: value' lines.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(str(key) for key in set(values) - known):
            raise ConfigError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
        values |= changes
        needed = [one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING]
        if missing := [name for name in needed if name not in values]:
            raise ConfigError(f"{path}: {', '.join(missing)} must be given.")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(*(f"{path}: {problem}" for problem in error.problems)) from error

    def but(self, **changes: Any) -> Self:
        """A copy with some values changed."""
        return replace(self, **changes)


def _fitted(value: Any, hint: Any) -> Any:
    """A value in the type that is declared; text from a file becomes a path or a number, a list a tuple."""
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in choices:
            raise ValueError
        return value
    if get_origin(hint) in (Union, UnionType):
        return None if value is None else _fitted_to_one(value, [one for one in choices if one is not NoneType])
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(_fitted(item, choices[0]) for item in value)
    if hint is Path:
        value = Path(value)
    if hint is float and not isinstance(value, bool):
        value = float(value)
        if not math.isfinite(value):
            raise ValueError
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError
    if hint in (Path, str) and "\0" in str(value):  # no file can have such a name, and the system's errors differ
        raise ValueError
    return value


def _fitted_to_one(value: Any, hints: list[Any]) -> Any:
    """A value in the first of several types that takes it."""
    for hint in hints[:-1]:
        try:
            return _fitted(value, hint)
        except (TypeError, ValueError):
            continue
    return _fitted(value, hints[-1])


_MEANINGS = {
    "core_rise": "a number from 0 for no peaks to 1, or the option left out for the adapter's own",
    "tile": "a number of pixels, 0 for whole pictures, or (in check and train) auto",
}
"""Options whose type does not say what their values mean."""


def expected(name: str, hint: Any) -> str:
    """What an option takes, by its name and type, in plain words."""
    return _MEANINGS.get(name) or shown_type(hint)


def shown_type(hint: Any) -> str:
    """A type of an option in plain words."""
    if get_origin(hint) is Literal:
        return f"{'one of ' if len(get_args(hint)) > 1 else ''}{', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if choice is NoneType else shown_type(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {shown_type(get_args(hint)[0])}"
    return {Path: "a path", float: "a number", int: "a whole number", bool: "true or false", str: "text"}[hint]
