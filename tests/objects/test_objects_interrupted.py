"""Runs of an instance task with corrections that are interrupted; for two processes see `test_two_processes_as_one`."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from object_scenes import random_options
from sam_adapter import TrainConfig, train
from training_runs import StopAt, command, rows

pytest_plugins = ("object_scenes",)


KILLED_AT = """
import os, signal, sys
from sam_adapter import cli
from sam_adapter.training import run

class Killed(run.GracefulStop):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

run.GracefulStop = Killed
cli.main(["train", "--config", sys.argv[2]])
"""


@pytest.fixture(scope="module")
def whole(scenes: Path, sam_folder: str, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run that nobody disturbed; on tiles, which are drawn at random too."""
    output = tmp_path_factory.mktemp("whole") / "whole"
    config = random_options(scenes, sam_folder, output, epochs=2, tile=48, tiles_per_image=1)
    train(config)
    return config


def require_same_run(one: TrainConfig, other: TrainConfig) -> None:
    """Two runs have the same adapter file, byte for byte, and the same scores."""
    files = [run.output / "adapter/sam_adapter.safetensors" for run in (one, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    for name in ("train_loss", "val_f1", "val_iou_box", "val_loss"):
        assert [row[name] for row in rows(one.output)] == [row[name] for row in rows(other.output)]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    whole: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In the middle of the second epoch."""
    run = whole.but(output=tmp_path / "cut")
    monkeypatch.setattr(StopAt, "moment", ("batch", 7))
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    assert torch.load(run.output / "last.ckpt", weights_only=False)["global_step"] == 8
    train(run.but(resume=True))
    assert signal.getsignal(signal.SIGINT) == before
    require_same_run(run, whole)


def test_a_killed_run_ends_as_an_undisturbed_one(whole: TrainConfig, tmp_path: Path):
    """In the middle of the second epoch, of which nothing is kept: the checkpoint is that of the first one's end."""
    run = whole.but(output=tmp_path / "killed")
    config = command(run)[-1]
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, "7", config], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(rows(run.output)) == len(rows(whole.output)) - 1
    assert torch.load(run.output / "last.ckpt", weights_only=False)["global_step"] == 5
    train(run.but(resume=True))
    require_same_run(run, whole)
