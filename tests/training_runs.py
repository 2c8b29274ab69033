"""Runs of `train` that several files of tests share, and what they left."""

import csv
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam_adapter import TrainConfig
from sam_adapter.training.stopping import GracefulStop


def config(pairs: Path, model: str, output: Path, **changes) -> TrainConfig:
    values = {
        "images": pairs / "images",
        "masks": pairs / "masks",
        "model": model,
        "output": output,
        "epochs": 2,
        "lr": 1e-3,
        "workers": 0,
        "accelerator": "cpu",
        **changes,
    }
    return TrainConfig(**values)


def command(run: TrainConfig, *more: str) -> list[str]:
    """The same run as a command line."""
    path = run.output.with_suffix(".yaml")
    path.write_text(run.to_yaml())
    return [sys.executable, "-m", "sam_adapter", "train", "--config", str(path), *more]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "sam_adapter.safetensors")


def rows(run: Path) -> list[dict[str, str]]:
    path = run / "metrics.csv"
    return list(csv.DictReader(path.open())) if path.exists() else []


class StopAt(GracefulStop):
    """Ctrl-C at a chosen moment."""

    moment = ("batch", 0)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.moment == ("batch", trainer.global_step) and not self.asked:
            signal.raise_signal(signal.SIGINT)

    def on_validation_batch_start(self, trainer, pl_module, *_) -> None:
        if self.moment == ("validation", trainer.current_epoch) and not trainer.sanity_checking:
            signal.raise_signal(signal.SIGINT)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()


def require_same_training(one: TrainConfig, other: TrainConfig, *, steps: int) -> None:
    """Two runs have the same scores of their first epoch, and after so many steps weights and means of gradients."""
    first, second = rows(one.output)[0], rows(other.output)[0]
    for name in ("train_loss", "train_iou", "train_loss_bce"):
        if name in first:
            assert float(second[name]) == pytest.approx(float(first[name]), rel=1e-5)
    ours, theirs = (torch.load(run.output / "last.ckpt", weights_only=False) for run in (one, other))
    assert ours["global_step"] == theirs["global_step"] == steps
    for name, tensor in ours["state_dict"].items():
        assert relative(theirs["state_dict"][name], tensor) < 1e-5, name
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (ours, theirs)]
    assert states[0].keys() == states[1].keys()
    means = [torch.cat([state[key]["exp_avg"].flatten() for key in sorted(state)]) for state in states]
    assert relative(means[1], means[0]) < 1e-5
