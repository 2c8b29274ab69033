"""Runs of `train` that several files of tests share, and what they left."""

import csv
import signal
import sys
from pathlib import Path

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
