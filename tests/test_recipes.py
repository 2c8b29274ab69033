"""The recipes: the second implementation's is a valid configuration that has its golden losses; test_recipe_runs.py
has those of the papers."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import GOLDEN, needs_shared
from sam_adapter.checkpoints.foreign import import_adapter
from sam_adapter.config.training import TrainConfig
from sam_adapter.data.augmentation import Augmentation
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.training.lightning_module import TrainingModule
from test_golden import BASE, numbers, run_batch

RECIPES = Path(__file__).parents[1] / "recipes"


def configured(recipe: Path, **changes: Any) -> TrainConfig:
    values = {"images": Path("i"), "masks": Path("m"), "model": BASE, "output": Path("o"), **changes}
    return TrainConfig(**{**yaml.safe_load(recipe.read_text()), **values})


def test_the_recipe_is_a_configuration():
    Augmentation(configured(RECIPES / "second.yaml").augment)


@needs_shared(GOLDEN)
def test_second_recipe_has_the_second_implementations_losses():
    expected = numbers()["second_impl"]
    widths = {name: expected[name] for name in ("tune_dim", "hidden_dim")}  # the golden base is a small one
    config = configured(RECIPES / "second.yaml", precision="32", accelerator="cpu", **widths)
    assert config.lr == expected["lr"]
    segmenter = SamSegmenter.from_config(config)
    theirs = import_adapter(BASE, GOLDEN / "second_impl_partial.safetensors").trained_state()
    segmenter.load_trained_state({name: theirs[name] for name in segmenter.trained_state()})
    task = BinaryTask.from_options(config)
    module = TrainingModule(segmenter, task, config, Machine.asked(config), images=2)
    optimizer, batch = module.optimizer(), run_batch(segmenter, boxes=True)
    for step in expected["steps"]:
        losses, named = module.losses(batch)
        for name in ("bce", "iou"):
            assert named[f"loss_{name}"].mean().item() == pytest.approx(step[name], abs=1e-4)
        assert named["iou"].mean().item() == pytest.approx(step["miou"], abs=1e-4)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
