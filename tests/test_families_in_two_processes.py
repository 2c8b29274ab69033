"""A run in two processes is one of twice the batch, for families beside SAM; see `test_several_processes`.

Run as a script, this file trains all runs that are named to it one after another, so that two processes start once.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_pairs
from sam_adapter import TrainConfig, train
from training_runs import config, require_same_training

PAIRS = {"sam_hq": "decoder", "sam2": "sam_adapter", "sam3": "lora"}
"""Families, each with another method."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, family_folders: dict[str, str]) -> dict[str, TrainConfig]:
    """By family what two processes have trained."""
    folder = tmp_path_factory.mktemp("processes")
    pairs = write_pairs(folder / "pairs", 5)
    options = {"epochs": 1, "val_fraction": 0.0, "augment": "none", "warmup": 0.0, "precision": "32", "devices": 2}
    runs = {
        family: config(pairs, family_folders[family], folder / family, method=method, batch_size=1, **options)
        for family, method in PAIRS.items()
    }
    files = []
    for run in runs.values():
        files.append(run.output.with_suffix(".yaml"))
        files[-1].write_text(run.to_yaml())
    done = subprocess.run([sys.executable, __file__, *files], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "find_unused_parameters" not in done.stderr
    return runs


@pytest.mark.parametrize("family", PAIRS)
def test_two_processes_train_as_one(runs: dict[str, TrainConfig], family: str, tmp_path: Path):
    """With five pictures, the last step has one picture alone."""
    two = runs[family]
    one = two.but(output=tmp_path / "one", batch_size=2, devices=1)
    train(one)
    require_same_training(one, two, steps=3)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        train(TrainConfig.from_yaml(path))
