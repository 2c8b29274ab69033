"""Which of several processes this is, known before any library has started a process group."""

import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

FIRST_PROCESS = "SAM_ADAPTER_FIRST_PROCESS"
"""Environment variable with the number of the process that started the others of a run."""
LOOK_EVERY = 0.5
"""Seconds between two looks at the other processes."""
SETTLED = 0.1
"""Seconds in which the threads of a process group have let go of what they hold after an exchange."""
GRACE = 3.0
"""Seconds that a process gets to end by itself after another one of its run has died."""


def is_main_process() -> bool:
    """True in the one process of a run that prints and writes.

    Launchers tell each process its rank in the environment; the first one started by hand has none.
    """
    ranks = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    if "RANK" in os.environ or "SLURM_PROCID" in os.environ:
        ranks = ranks[:2]
    return all(int(os.environ.get(name) or 0) == 0 for name in ranks)


@cache
def follow_first_process() -> None:
    """Have this process, if another one of its run has started it, end within seconds of that one's death.

    To be called early: a process that is alone while it still starts would wait half an hour for the others.
    """
    first = os.environ.get(FIRST_PROCESS)
    if is_main_process() or first is None:
        return

    def watch() -> None:
        while str(os.getppid()) == first:
            time.sleep(LOOK_EVERY)
        time.sleep(GRACE)
        log.error("sam-adapter: error: the first process of the run has ended; this one stops, too.")
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="follow-first-process").start()


@cache
def pause_before_forks() -> None:
    """Have this process wait a moment before it forks, so that reading processes do not hang as they start.

    A cure for a fault of CPython, see ``docs/upstream.md``: a fork while a thread of the process group frees a Python
    object leaves the child waiting for a lock that nobody will release.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: time.sleep(SETTLED))


@contextmanager
def announced_as_first() -> Iterator[None]:
    """Tell the processes that are started meanwhile, through `FIRST_PROCESS`, that this one is the first of their run.

    Afterwards the variable is what it was before. A process that was itself started by another one leaves it alone.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    before = os.environ.get(FIRST_PROCESS)
    os.environ[FIRST_PROCESS] = str(os.getpid())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(FIRST_PROCESS, None)
        else:
            os.environ[FIRST_PROCESS] = before


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command in the same order as Ctrl-C."""


def stop_error(number: int) -> KeyboardInterrupt:
    """The error that a signal raises."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM call a function, and afterwards what they called before.

    Processes that are forked meanwhile ignore them: it is for this one to end them. A signal whose handler was set from
    outside Python is left alone, as Python could not put that handler back.
    """
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            handler(number, frame)

    # Python lets only the main thread set handlers; a run in another one is stopped by its program.
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: old for number in numbers if (old := signal.getsignal(number)) is not None}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@cache
def host_name() -> str:
    """This machine's name, in characters that may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname())[:32] or "unknown"


def process_tag() -> str:
    """A name for this process that no other has: host, number, and the moment it started."""
    return f"{host_name()}-{os.getpid()}-{_started(os.getpid())}"


def tag_of_this_host(tag: str) -> bool:
    """Whether a process with this `process_tag` was of this machine."""
    return tag.rsplit("-", 2)[0] == host_name()


def is_running(tag: str) -> bool:
    """Whether a process of this machine with this `process_tag` is still there; if in doubt, it is."""
    number, _, started = tag.rpartition("-")
    try:
        process = int(number.rpartition("-")[2])
    except ValueError:
        return True
    if os.name == "nt":
        return False  # signal 0 would end it; files in use cannot be removed there anyway
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return started in ("0", _started(process))


def _started(process: int) -> str:
    """When a process was started, in the system's clock ticks; ``0`` where the system doesn't tell."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "0"
    return text.rpartition(")")[2].split()[19]
