"""Runs of an instance task with corrections: in two processes, and interrupted."""

import signal
import subprocess
from pathlib import Path

import pytest
import torch

from object_scenes import options
from sam_adapter import TrainConfig, train
from training_runs import StopAt, command, require_same_training, rows, weights

pytest_plugins = ("object_scenes",)


def run_of(scenes: Path, sam_folder: str, output: Path, **changes) -> TrainConfig:
    """A run of a small random model with everything random switched on."""
    own = {"model": sam_folder, "image_size": None, "objects_per_image": 3, "correction_rounds": 1, "box_jitter": 0.1}
    return options(scenes, output, **{**own, **changes})


def test_two_processes_are_one_with_twice_the_batch(scenes: Path, sam_folder: str, tmp_path: Path):
    """Of its three steps one has a picture without objects, which has nothing to correct."""
    changes = {"epochs": 1, "val_fraction": 0.0, "augment": "none", "warmup": 0.0}
    one = run_of(scenes, sam_folder, tmp_path / "one", batch_size=4, **changes)
    two = one.but(output=tmp_path / "two", batch_size=2, devices=2)
    train(one)
    subprocess.run(command(two), check=True, capture_output=True, timeout=300)
    require_same_training(one, two, steps=3)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    scenes: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In the middle of the second epoch; on tiles, which are drawn at random too."""
    run = run_of(scenes, sam_folder, tmp_path / "cut", epochs=2, tile=48, tiles_per_image=1)
    train(run.but(output=tmp_path / "whole"))
    monkeypatch.setattr(StopAt, "moment", ("batch", 7))
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    assert torch.load(run.output / "last.ckpt", weights_only=False)["global_step"] == 8
    train(run.but(resume=True))
    assert signal.getsignal(signal.SIGINT) == before
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(run.output).items())
    for name in ("train_loss", "val_f1", "val_iou_box", "val_loss"):
        assert [row[name] for row in rows(run.output)] == [row[name] for row in rows(tmp_path / "whole")]
