"""Several processes end together, whichever of them is stopped or dies; commands end with the signal's status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import write_pairs
from sam_adapter import load, train
from training_runs import command, config, rows

FIRST = """
import os, subprocess, sys, time
from sam_adapter.system.processes import FIRST_PROCESS
environment = {**os.environ, FIRST_PROCESS: str(os.getpid()), "LOCAL_RANK": "1"}
other = "import time; from sam_adapter.system.processes import follow_first_process as f; f()"
other += "; print('there', flush=True)"
subprocess.Popen([sys.executable, "-c", other + "; time.sleep(60)"], env=environment)
time.sleep(60)
"""


def ended(process: int, seconds: float) -> bool:
    """Whether a process is gone, or a zombie, after at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def others(process: int) -> list[int]:
    """The further processes of a run, which know that they are not the first; reading processes do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == process and b"\0LOCAL_RANK=1\0" in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except FileNotFoundError:
                continue
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


@needs_proc
def test_a_process_ends_with_the_one_that_started_it():
    first = subprocess.Popen([sys.executable, "-c", FIRST], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "there\n"
    other = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and f") S {first.pid} " in (entry / "stat").read_text()
    )
    time.sleep(1)
    assert not ended(other, 0.1)
    first.kill()
    first.wait()
    assert ended(other, 20)


@needs_proc
@pytest.mark.parametrize(
    ("number", "statuses", "sentence"),
    [
        (signal.SIGTERM, (130, 143), "goes on from"),
        (signal.SIGKILL, (1, 2), "'--resume true' goes on from the last checkpoint"),
    ],
)
def test_two_processes_end_when_the_second_is_stopped_or_dies(
    sam_folder: str, tmp_path: Path, number: signal.Signals, statuses: tuple[int, ...], sentence: str
):
    pairs = write_pairs(tmp_path / "pairs", 12)
    run = config(pairs, sam_folder, tmp_path / "run", epochs=500, devices=2, batch_size=1, workers=1)
    process = subprocess.Popen(
        command(run), stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 150
    while len(rows(run.output)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    (second,) = others(process.pid)
    os.kill(second, number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode in statuses, messages
    assert sentence in messages
    assert "Traceback" not in messages
    assert ended(second, 10)
    load(run.output / "adapter")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_other_commands_end_with_the_signals_status(
    pairs: Path, sam_folder: str, tmp_path: Path, number: signal.Signals
):
    for index in range(300):
        (tmp_path / "in").mkdir(exist_ok=True)
        os.link(pairs / "images/img_00.png", tmp_path / f"in/{index:03}.png")
    arguments = ["--model", sam_folder, "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sam_adapter", "predict", *arguments, "--accelerator", "cpu", "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/masks").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 128 + number, messages
    assert "Traceback" not in messages
    assert not [path for path in (tmp_path / "out").rglob("*") if "partial" in path.name]


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(
    pairs: Path, sam_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1)
    train(run)
    before = (run.output / "adapter/sam_adapter.safetensors").read_bytes()
    (run.output / "last.ckpt").unlink()  # as if it had been killed after the first adapter
    train(run.but(resume=True))
    assert "starts from the beginning" in caplog.text
    assert (run.output / "adapter/sam_adapter.safetensors").read_bytes() == before
