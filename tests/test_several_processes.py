"""Runs of several processes."""

import subprocess
from pathlib import Path

import pytest
import torch

from conftest import write_pairs
from sam_adapter import train
from sam_adapter.errors import ConfigError
from training_runs import command, config, rows


@pytest.mark.parametrize(("devices", "accumulate"), [(2, 1), (1, 2)])
def test_two_processes_or_steps_are_one_with_twice_the_batch(
    tmp_path: Path, sam_folder: str, devices: int, accumulate: int
):
    """With seven pictures, the last step has one picture alone."""
    pairs = write_pairs(tmp_path / "pairs", 7)
    options = {"epochs": 1, "val_fraction": 0.0, "augment": "none", "prompt": "mixed", "warmup": 0.0}
    one = config(pairs, sam_folder, tmp_path / "one", batch_size=2, precision="32", **options)
    two = one.but(output=tmp_path / "two", batch_size=1, devices=devices, accumulate=accumulate)
    train(one)
    subprocess.run(command(two), check=True, capture_output=True, timeout=300)
    for name in ("train_loss", "train_iou"):
        assert float(rows(two.output)[0][name]) == pytest.approx(float(rows(one.output)[0][name]), rel=1e-5)
    # After four steps: weights, and the optimiser's running mean of the gradients.
    ours, theirs = (torch.load(run.output / "last.ckpt", weights_only=False) for run in (one, two))
    assert ours["global_step"] == theirs["global_step"] == 4
    for name, tensor in ours["state_dict"].items():
        assert relative(theirs["state_dict"][name], tensor) < 1e-5, name
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (ours, theirs)]
    assert states[0].keys() == states[1].keys()
    means = [torch.cat([state[key]["exp_avg"].flatten() for key in sorted(state)]) for state in states]
    assert relative(means[1], means[0]) < 1e-5


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize(("strategy", "message"), [("bogus", "do not fit"), ("fsdp", "spreads the weights")])
def test_strategies_that_cannot_work(pairs: Path, sam_folder: str, tmp_path: Path, strategy: str, message: str):
    with pytest.raises(ConfigError, match=message):
        train(config(pairs, sam_folder, tmp_path / "run", strategy=strategy))
