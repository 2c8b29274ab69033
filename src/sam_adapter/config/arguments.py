"""Words of a command line to a configuration: lists, flags, and errors in one plain sentence."""

import difflib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

from ..errors import ConfigError
from .base import Config, expected
from .commands import COMMANDS, EvaluateConfig
from .known_sets import KNOWN_SETS, KnownSet
from .ranges import shortened
from .registry import LOSSES, METHODS, MORE_METRICS, TASKS, Entry

NAMED: Mapping[str, Mapping[str, Any]] = {
    "known": KNOWN_SETS,
    "loss": LOSSES,
    "method": METHODS,
    "metrics": MORE_METRICS,
    "task": TASKS,
}
"""Options that take names of a registry."""


class Parser(ArgumentParser):
    """A parser whose options are shown with dashes, and that suggests what a wrong one may have meant."""

    hints: Mapping[str, Any] = {}
    """Types of the options."""

    def format_help(self) -> str:
        """Help with ``--val-images`` instead of ``--val_images``; both are accepted."""
        return re.sub(r"--[a-z][a-z_]+", lambda match: match[0].replace("_", "-"), super().format_help())

    def name_choices(self) -> None:
        """Add to the help of options that take names of a registry what there is in it."""
        for action in self._actions:
            if action.dest in NAMED:
                action.help = f"{action.help} {_choices(NAMED[action.dest])}"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """One clear sentence, exit status 2."""
        text = re.sub(r"--[a-z][a-z_]+", lambda match: match[0].replace("_", "-"), self._plain(message.strip()))
        print(f"sam-adapter: error: {text}", file=sys.stderr)
        print(f"'{self.prog} --help' shows the options.", file=sys.stderr)
        sys.exit(2)

    def _plain(self, message: str) -> str:
        """A message of jsonargparse in the words that configurations have for it, without Python's types."""
        wrong = re.fullmatch(r'.*Parser key "(\w+)":.*(?:Got|Given) value: ([^\n]*).*', message, re.DOTALL)
        if wrong and wrong[1] in self.hints:
            hint = self.hints[wrong[1]]
            meant = _meant(wrong[2], get_args(hint), "'{}'") if get_origin(hint) is Literal else ""
            return f"{wrong[1]}: expected {expected(wrong[1], hint)}, got {shortened(wrong[2])}.{meant}"
        if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"{', '.join(f'--{name}' for name in missing[1].split(', '))} must be given."
        if unknown := re.fullmatch(r"Option '(\w+)' is not accepted", message):
            return f"config: there is no option '{unknown[1]}'.{_meant(unknown[1], self.hints, '{}')}"
        if message.startswith(("Unexpected config", "Problems parsing config")):
            found = " ".join(message.split()).partition(": ")[2]
            return f"config: expected a YAML file of 'option: value' lines, got something else ({shortened(found)})."
        if "nrecognized" in message:
            words = re.findall(r"--([a-z_]+)", message)
            return f"{message}.{''.join(_meant(word, self.hints, '--{}') for word in words)}"
        return re.sub(r'^Parser key "(\w+)":\s*', r"\1: ", message)


def _choices(registry: Mapping[str, Any]) -> str:
    """All names of a registry, with what each means where the registry says it."""
    shown = (Entry, KnownSet)
    if texts := [f"'{name}': {entry.text}" for name, entry in registry.items() if isinstance(entry, shown)]:
        return f"{'; '.join(texts)}."
    return f"Known are {', '.join(registry)}."


def _meant(word: str, known: Iterable[object], form: str) -> str:
    close = difflib.get_close_matches(word, map(str, known), n=1)
    return f" Did you mean {form.format(close[0])}?" if close else ""


def parse(command: str, arguments: list[str]) -> Config:
    """Command line to configuration.

    Args:
        command: One of `COMMANDS`.
        arguments: What follows it.
    """
    kind = COMMANDS[command]
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=f"sam-adapter {command}", description=(kind.__doc__ or "").strip(), allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    parser.add_class_arguments(kind, as_group=False)
    parser.name_choices()
    parser.hints = get_type_hints(kind)
    flags = {field.name for field in fields(kind) if field.type is bool}
    arguments = _with_flags([_underscored(argument) for argument in arguments], flags)
    if kind is EvaluateConfig:
        arguments = _with_compared(arguments)
    try:
        namespace = parser.parse_args(_with_list(arguments, "--ignore_value"))
    except (OSError, RecursionError, TypeError, ValueError) as error:  # a file that is no text, values nested too deep
        parser.error(f"the options cannot be read ({error}).")
    values = {field.name: namespace[field.name] for field in fields(kind)}
    try:
        return kind(**values)
    except ConfigError as error:
        parser.error("\n".join(error.problems))


def _underscored(argument: str) -> str:
    """``--val-images=x`` → ``--val_images=x``; values stay as they are."""
    name, equals, value = argument.partition("=")
    return (f"--{name[2:].replace('-', '_')}" if name.startswith("--") else name) + equals + value


def _with_flags(arguments: list[str], flags: set[str]) -> list[str]:
    """``--resume`` alone means ``--resume true``."""
    result = []
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        result.append(argument)
        if argument.removeprefix("--") in flags and following.startswith("--"):
            result.append("true")
    return result


def _with_compared(arguments: list[str]) -> list[str]:
    """The second and later ``--adapter`` of 'evaluate' are those to compare the first with."""
    kept, adapters = _taken_out(arguments, "--adapter")
    first = ["--adapter", adapters[0]] if adapters else []
    return [*kept, *first, *(["--compare", json.dumps(adapters[1:])] if adapters[1:] else [])]


def _with_list(arguments: list[str], option: str) -> list[str]:
    """``--option a --option b`` → ``--option '["a", "b"]'``; a list that is one already stays."""
    kept, values = _taken_out(arguments, option)
    if not values or (len(values) == 1 and values[0].startswith("[")):
        return arguments
    return [*kept, f"{option}={json.dumps(values)}"]


def _taken_out(arguments: list[str], option: str) -> tuple[list[str], list[str]]:
    """The arguments without an option, and the values that it was given."""
    kept, values = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == option:
            values.append(value if equals else next(remaining, ""))
        else:
            kept.append(argument)
    return kept, values
