"""What a run tells the processes that it starts, and who answers signals, is afterwards what it was before."""

import contextlib
import os
import signal
import threading

import pytest

from sam_adapter.system.processes import FIRST_PROCESS, announced_as_first, handling_signals
from sam_adapter.training.stopping import ending_together


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
