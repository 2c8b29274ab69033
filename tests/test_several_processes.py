"""Runs of several processes; `test_two_processes_as_one` compares what they train."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import write_pairs
from sam_adapter import TrainConfig, train
from sam_adapter.data.dataset import PairDataset
from sam_adapter.data.loading import scoring_loader
from sam_adapter.errors import ConfigError
from sam_adapter.training.setup import module_and_data
from training_runs import command, config, require_same_training


def test_two_steps_are_one_with_twice_the_batch(tmp_path: Path, sam_folder: str):
    """With seven pictures, the last step has one picture alone."""
    pairs = write_pairs(tmp_path / "pairs", 7)
    options = {"epochs": 1, "val_fraction": 0.0, "augment": "none", "prompt": "mixed", "warmup": 0.0}
    one = config(pairs, sam_folder, tmp_path / "one", batch_size=2, precision="32", **options)
    two = one.but(output=tmp_path / "two", batch_size=1, accumulate=2)
    for run in (one, two):
        train(run)
    require_same_training(one, two, steps=4)


@pytest.mark.parametrize(("strategy", "message"), [("bogus", "do not fit"), ("fsdp", "spreads the weights")])
def test_strategies_that_cannot_work(pairs: Path, sam_folder: str, tmp_path: Path, strategy: str, message: str):
    with pytest.raises(ConfigError, match=message):
        train(config(pairs, sam_folder, tmp_path / "run", strategy=strategy))


def log_of(run: TrainConfig) -> list[str]:
    """What a run says, without numbers and without how good it was."""
    done = subprocess.run(command(run), check=True, capture_output=True, text=True, timeout=300)
    return [re.sub(r"\d[\d.,]*", "#", line) for line in done.stderr.splitlines() if not line.startswith("Warning: ")]


def test_two_processes_say_what_one_says(tmp_path: Path, sam_folder: str):
    pairs = write_pairs(tmp_path / "pairs", 8)
    one = config(pairs, sam_folder, tmp_path / "one", batch_size=1, val_fraction=0.25, logger="tensorboard")
    assert log_of(one.but(output=tmp_path / "two", devices=2)) == log_of(one)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preset": "paper", "share_up": False},
        {"use_embedding": False, "parts": ()},
        {"use_high_frequency": False, "neck_prompt": False},
        {"method": "decoder"},
        {"method": "decoder", "parts": ("image_encoder",)},
        {"parts": ("prompt_encoder",)},
        {"method": "full"},
        {"method": "lora", "dora": True},
    ],
    ids=str,
)
def test_which_methods_have_tensors_that_a_batch_may_not_touch(
    tmp_path: Path, sam_folder: str, changes: dict[str, Any]
):
    pairs = write_pairs(tmp_path / "pairs", 2)
    empty = pairs / "masks/img_00.png"
    Image.new("L", Image.open(empty).size).save(empty)
    untouched = set()
    for prompt in ("box", "points", "none"):
        run = config(pairs, sam_folder, tmp_path / "run", prompt=prompt, val_fraction=0.0, precision="32", **changes)
        module, data = module_and_data(run)
        segmenter = module.segmenter.train()
        dataset = PairDataset(
            data.records, segmenter.preprocessing, module.task, training=True, reading=segmenter.reading, seed=0
        )
        for batch in scoring_loader(dataset, batch_size=1, workers=0, pin=False):
            segmenter.zero_grad(set_to_none=True)
            module.losses(batch)[0].sum().backward()
            untouched |= {name for name, one in segmenter.named_parameters() if one.requires_grad and one.grad is None}
    assert bool(untouched) == segmenter.method.some_untouched, sorted(untouched)
