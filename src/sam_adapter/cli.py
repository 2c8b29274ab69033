"""The command line: options come from the dataclasses in `config`, work is done elsewhere."""

import difflib
import json
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from types import FrameType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

from . import __version__
from .config.commands import (
    CheckConfig,
    ConvertConfig,
    DemoConfig,
    EvaluateConfig,
    InfoConfig,
    PredictConfig,
    TrainConfig,
)
from .config.options import Config, shown_type
from .config.ranges import shortened
from .errors import ConfigError, SamAdapterError, amount
from .system.processes import Terminated, follow_first_process, handling_signals, is_main_process, stop_error

COMMANDS: dict[str, type[Config]] = {
    "check": CheckConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "convert": ConvertConfig,
    "demo": DemoConfig,
    "info": InfoConfig,
}


_MEMORY_CURE = "Choose a smaller --batch-size or --image-size, or fewer --workers."


class Parser(ArgumentParser):
    """A parser whose options are shown with dashes, and that suggests what a wrong one may have meant."""

    hints: Mapping[str, Any] = {}
    """Types of the options."""

    def format_help(self) -> str:
        """Help with ``--val-images`` instead of ``--val_images``; both are accepted."""
        return re.sub(r"--[a-z][a-z_]+", lambda match: match[0].replace("_", "-"), super().format_help())

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
            return f"{wrong[1]}: expected {shown_type(hint)}, got {shortened(wrong[2])}.{meant}"
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


def _meant(word: str, known: Iterable[object], form: str) -> str:
    close = difflib.get_close_matches(word, map(str, known), n=1)
    return f" Did you mean {form.format(close[0])}?" if close else ""


def main(arguments: list[str] | None = None) -> None:
    """Run one command; errors a user can mend are printed without a traceback, exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        _no_command(arguments)
    name = arguments[0]
    follow_first_process()
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # PyTorch is not imported yet
    level = logging.INFO if is_main_process() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    stopped = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = number
        if _importing(frame):  # libraries may catch what is raised while they are imported, and the run would go on
            if is_main_process():
                print("sam-adapter: stopped.", file=sys.stderr, flush=True)
            os._exit(128 + number)
        raise stop_error(number)

    try:
        with handling_signals(stop):
            RUN[name](parse(name, arguments[1:]))
    except SamAdapterError as error:
        print(f"sam-adapter: error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"sam-adapter: error: '{error.filename}': {error.strerror}.", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print(f"sam-adapter: error: there is not enough memory. {_MEMORY_CURE}", file=sys.stderr)
        sys.exit(2)
    except BaseException as error:
        # Libraries that are interrupted while they are imported may raise errors of their own.
        if not stopped and not isinstance(error, KeyboardInterrupt):
            raise
        if is_main_process():
            print("sam-adapter: stopped.", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(error, Terminated) else stopped or signal.SIGINT))


def _importing(frame: FrameType | None) -> bool:
    """Whether Python was importing a module when a signal came."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


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


def _no_command(arguments: list[str]) -> NoReturn:
    if arguments[:1] == ["--version"]:
        print(f"sam-adapter {__version__}")
        sys.exit(0)
    lines = [
        "usage: sam-adapter COMMAND [options]",
        "",
        "Teach Segment Anything (SAM) to see what it misses.",
        "",
    ]
    lines += [f"  {name:<10}{(kind.__doc__ or '').strip().splitlines()[0]}" for name, kind in COMMANDS.items()]
    lines += ["", "'sam-adapter COMMAND --help' shows the options of a command."]
    asked = arguments[:1] in ([], ["--help"], ["-h"])
    if not asked:
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        print(f"sam-adapter: error: there is no command '{arguments[0]}'.{hint}", file=sys.stderr)
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    sys.exit(0 if asked else 2)


def _check(config: CheckConfig) -> None:
    from .check.doctor import examine

    found = examine(config, _progress("checked"))
    print(found.report())
    if found.faults:
        sys.exit(1)


def _train(config: TrainConfig) -> None:
    if config.dry_run:
        from .training.dry_run import dry_run

        print(dry_run(config))
        return
    from .training.run import train

    result = train(config)
    if is_main_process():
        print(f"Adapter: {result.adapter}")
        print(result.summary)


def _evaluate(config: EvaluateConfig) -> None:
    from .evaluation.evaluate import evaluate, run_names
    from .evaluation.text import scores_text

    result = evaluate(config, _progress("scored"))
    name = "adapter" if config.adapter else "frozen"
    if config.adapter and config.compare:
        name = run_names([config.adapter, *config.compare])[0]
    print(scores_text(result, name))
    print(f"Written: {config.output / 'report.html' if config.report else config.output}")


def _predict(config: PredictConfig) -> None:
    from .prediction.folder import predict

    written = predict(config, _progress("predicted"))
    print(f"{amount(len(written), 'picture')}. Written: {config.output}")


def _convert(config: ConvertConfig) -> None:
    from .checkpoints.foreign import convert

    segmenter = convert(config)
    base = segmenter.backbone.identity
    print(f"Adapter: {config.output}, base {base.name} (SHA-256 {base.sha256[:12]}...), prompt {segmenter.prompt}")


def _demo(config: DemoConfig) -> None:
    from .demo.run import run_demo

    run_demo(config, partial(print, flush=True))


def _info(config: InfoConfig) -> None:
    from .info import describe

    print(describe(config))


RUN: dict[str, Callable[[Any], None]] = {
    "check": _check,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "convert": _convert,
    "demo": _demo,
    "info": _info,
}


def _progress(word: str) -> Callable[[int, int], None] | None:
    """A counter on one line, if somebody is watching."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{word} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


def _quiet_libraries() -> None:
    """Keep what libraries say to their developers away from users; training quiets Lightning itself."""
    for name in ("httpx", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="PIL")  # what matters about a damaged file is reported as a fault
