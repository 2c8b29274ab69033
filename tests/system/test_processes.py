"""What a run tells the processes that it starts, and who answers signals, is afterwards what it was before."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sam_adapter.system.processes import FIRST_PROCESS, announced_as_first, handling_signals
from sam_adapter.training import run
from sam_adapter.training.stopping import ending_together
from training_runs import config


@pytest.mark.parametrize("before", [None, "77"])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), RuntimeError("of the run")], ids=repr)
def test_a_run_leaves_no_trace_of_having_been_the_first(
    monkeypatch: pytest.MonkeyPatch, before: str | None, error: BaseException | None
):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv(FIRST_PROCESS, raising=False)
    if before:
        monkeypatch.setenv(FIRST_PROCESS, before)
    with contextlib.suppress(KeyboardInterrupt, RuntimeError), ending_together(list):
        assert os.environ[FIRST_PROCESS] == str(os.getpid())
        if error:
            raise error
    assert os.environ.get(FIRST_PROCESS) == before


def test_a_process_that_another_one_started_does_not_call_itself_the_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(FIRST_PROCESS, "77")
    with announced_as_first():
        assert os.environ[FIRST_PROCESS] == "77"
    assert os.environ[FIRST_PROCESS] == "77"


def test_signals_are_caught_and_given_back():
    before, came = signal.getsignal(signal.SIGTERM), []
    with handling_signals(lambda number, _: came.append(number)):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert came == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handler_from_outside_python_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    """Python calls such a handler None, and cannot set it again."""
    before, outside = signal.getsignal(signal.SIGINT), signal.SIGTERM
    python_only = signal.getsignal

    def as_python_sees_it(number: int):
        return None if number == outside else python_only(number)

    def never_the_outside_one(number: int, handler):
        assert number != outside
        return installed(number, handler)

    installed = signal.signal
    monkeypatch.setattr(signal, "getsignal", as_python_sees_it)
    monkeypatch.setattr(signal, "signal", never_the_outside_one)
    came = []
    with handling_signals(lambda number, _: came.append(number)):
        signal.raise_signal(signal.SIGINT)
    assert came == [signal.SIGINT]
    assert python_only(signal.SIGINT) == before


def test_a_thread_leaves_signals_alone():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found = []

    def run() -> None:
        with handling_signals(lambda *_: None):
            found.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_fork_waits_until_other_threads_have_let_go():
    """In a process of its own, as what is registered for forks stays."""
    script = """
import os, time
from sam_adapter.system.processes import SETTLED, pause_before_forks

def fork():
    began = time.monotonic()
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return time.monotonic() - began

plain = min(fork() for _ in range(5))
pause_before_forks()
pause_before_forks()
paused = min(fork() for _ in range(5))
assert SETTLED <= paused < 2 * SETTLED + plain, (plain, paused)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize(("devices", "pauses"), [(1, 0), (2, 1)])
def test_runs_of_several_processes_pause_before_forks(
    pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, pauses: int
):
    asked: list[int] = []
    monkeypatch.setattr(run, "pause_before_forks", lambda: asked.append(1))
    monkeypatch.setattr(run, "_train", lambda config: None)
    run.train(config(pairs, sam_folder, tmp_path / "run", devices=devices))
    assert len(asked) == pauses
