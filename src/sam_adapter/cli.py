"""The command line: options come from the dataclasses in `config`, work is done elsewhere."""

import difflib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from . import __version__
from .config.arguments import parse
from .config.commands import (
    COMMANDS,
    CheckConfig,
    ConvertConfig,
    DemoConfig,
    EvaluateConfig,
    InfoConfig,
    MergeConfig,
    PredictConfig,
)
from .config.training import TrainConfig
from .errors import SamAdapterError, amount
from .system.processes import Terminated, follow_first_process, handling_signals, is_main_process, stop_error

_MEMORY_CURE = "Choose a smaller --batch-size or --image-size, or fewer --workers."


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


def _merge(config: MergeConfig) -> None:
    from .checkpoints.merging import merge

    base = merge(config)
    print(f"Model: {config.output} (SHA-256 {base.sha256[:12]}...)")


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
    "merge": _merge,
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
