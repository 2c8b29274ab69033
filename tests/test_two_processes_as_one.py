"""A run in two processes is one of twice the batch, for families, methods, tasks and scores.

Run as a script, this file trains all runs that are named to it one after another, so that two processes start once: to
start takes far longer than to train. `test_several_processes` has runs of the command itself.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import object_scenes
import semantic_scenes
from conftest import write_pairs
from sam_adapter import TrainConfig, train
from sam_adapter.config.registry import MORE_METRICS
from training_runs import config, require_same_training, rows

SAME: dict[str, Any] = {"epochs": 1, "val_fraction": 0.0, "augment": "none", "warmup": 0.0, "precision": "32"}
PAIRS = {"sam_hq": "decoder", "sam2": "sam_adapter", "sam3": "lora"}
"""Families, each with another method; SAM has the runs below."""
STEPS = {**dict.fromkeys(PAIRS, 3), "prompts": 4, "lora": 3, "untouched": 3, "classes": 3, "boxes": 3, "objects": 3}
"""Runs by name, and how many steps each takes."""


def without_foreground(pairs: Path, *, every: int) -> Path:
    """The pairs, of which the first and every further one at this distance become empty."""
    for path in sorted((pairs / "masks").iterdir())[::every]:
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    return pairs


def runs_of_pairs(folder: Path, family_folders: dict[str, str]) -> dict[str, TrainConfig]:
    """Of five or seven pictures, the last step has one alone; 'untouched' asks every other picture without its box."""
    five, seven = write_pairs(folder / "five", 5), write_pairs(folder / "seven", 7)
    half = without_foreground(write_pairs(folder / "half", 6), every=2)
    sam = family_folders["sam"]
    runs = {
        family: config(five, family_folders[family], folder / family, method=method, **SAME)
        for family, method in PAIRS.items()
    }
    runs["prompts"] = config(seven, sam, folder / "prompts", prompt="mixed", **SAME)
    runs["lora"] = config(five, sam, folder / "lora", method="lora", dora=True, **SAME)
    runs["untouched"] = config(half, sam, folder / "untouched", method="full", prompt="box", **SAME)
    return {name: run.but(batch_size=1) for name, run in runs.items()}


def runs_of_tasks(folder: Path, sam: str) -> dict[str, TrainConfig]:
    """With 'boxes' a process may have no query that asks by class; a step of 'objects' has a picture without any."""
    classes, objects = (module.write_scenes(folder / module.__name__) for module in (semantic_scenes, object_scenes))
    own = {**SAME, "batch_size": 2}
    return {
        "classes": semantic_scenes.options(classes, sam, folder / "classes", prompt="mixed", **{**own, "lr": 1e-2}),
        "boxes": semantic_scenes.options(classes, sam, folder / "boxes", prompt="box", **{**own, "lr": 1e-2}),
        "objects": object_scenes.random_options(objects, sam, folder / "objects", **own),
    }


def run_with_scores(folder: Path, sam: str) -> TrainConfig:
    """Of three pictures to validate on, one is empty; one process has none of the last step."""
    pairs, held_out = write_pairs(folder / "few", 2), write_pairs(folder / "held_out", 3, seed=9)
    without_foreground(held_out, every=3)
    validation = {"val_images": held_out / "images", "val_masks": held_out / "masks"}
    changes = {**validation, "metrics": ",".join(MORE_METRICS), "spacing": 0.5, "batch_size": 1}
    return config(pairs, sam, folder / "scores", **{**SAME, "val_fraction": TrainConfig.val_fraction, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, family_folders: dict[str, str]) -> dict[str, TrainConfig]:
    """By name what two processes have trained."""
    folder = tmp_path_factory.mktemp("processes")
    sam = family_folders["sam"]
    runs = runs_of_pairs(folder, family_folders) | runs_of_tasks(folder, sam)
    runs["scores"] = run_with_scores(folder, sam)
    runs = {name: run.but(devices=2) for name, run in runs.items()}
    files = []
    for run in runs.values():
        files.append(run.output.with_suffix(".yaml"))
        files[-1].write_text(run.to_yaml())
    done = subprocess.run([sys.executable, __file__, *files], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "find_unused_parameters" not in done.stderr
    return runs


@pytest.mark.parametrize("name", STEPS)
def test_two_processes_train_as_one(runs: dict[str, TrainConfig], name: str, tmp_path: Path):
    two = runs[name]
    one = two.but(output=tmp_path / "one", batch_size=2 * two.batch_size, devices=1)
    train(one)
    require_same_training(one, two, steps=STEPS[name])


def test_two_processes_gather_added_scores(runs: dict[str, TrainConfig], tmp_path: Path):
    two = runs["scores"]
    one = two.but(output=tmp_path / "one", batch_size=2, devices=1)
    train(one)
    ours, theirs = rows(one.output), rows(two.output)
    for name in (name for name in ours[0] if name.startswith("val_")):
        assert float(theirs[0][name]) == pytest.approx(float(ours[0][name]), abs=1e-6), name
    assert all(theirs[1][f"val_{name}"] for name in MORE_METRICS)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        train(TrainConfig.from_yaml(path))
