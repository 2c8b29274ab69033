"""The second part of the demonstration: crowds of objects, found and counted without any prompt."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..config.commands import DemoConfig, EvaluateConfig
from .crowds import crowd
from .jobs import TEST_SEED, TRAIN_SEED, Places, training

SHARE = 8
"""Camouflage scenes for each crowd: what is trained beside them must not take longer."""
LEAST = 4
TITLES = {"otsu": "Otsu's threshold and watershed", "frozen": "SAM, frozen", "sam_adapter": "SAM-Adapter"}


@dataclass(frozen=True)
class CrowdRow:
    """One line of the table of objects, which are found without prompts.

    Attributes:
        model: ``otsu`` splits what Otsu's threshold marks by its shape.
        ap50: Over all objects of the held-out crowds.
        f1: The same, of objects that fit at an IoU of 0.5.
        count_error: Mean over the pictures of how many objects more or fewer were found than there are.
        training_seconds: 0 if nothing was trained.
    """

    model: Literal["otsu", "frozen", "sam_adapter"]
    ap50: float
    f1: float
    count_error: float
    training_seconds: float = 0.0


def crowds_of(scenes: int) -> int:
    """How many crowds stand beside so many camouflage scenes."""
    return max(scenes // SHARE, LEAST)


def draw_crowds(folder: Path, count: int, seed: int) -> None:
    """Write crowds with a number for each object; those of an earlier, larger demonstration are taken away."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for path in (folder / part).glob("crowd_?????.png"):
            path.unlink()
    for index in range(count):
        one = crowd(seed, index)
        for part, pixels in (("images", one.image), ("masks", one.whole.astype(np.uint16))):
            Image.fromarray(pixels).save(folder / part / f"crowd_{index:05}.png")


def train_and_count(config: DemoConfig) -> list[CrowdRow]:
    """Draw crowds, train SAM-Adapter to find all of their objects, and score it beside what is not trained."""
    from .. import evaluate, train

    places = Places(config.output)
    draw_crowds(places.crowds_train, crowds_of(config.scenes), TRAIN_SEED)
    draw_crowds(places.crowds_test, crowds_of(config.test_scenes), TEST_SEED)
    began = time.perf_counter()
    trained = train(
        training(
            config,
            "objects",
            images=places.crowds_train / "images",
            masks=places.crowds_train / "masks",
            mask_rule="numbers",
            task="instance",
            prompt="none",
        )
    )
    seconds = time.perf_counter() - began
    result = evaluate(
        EvaluateConfig(
            images=places.crowds_test / "images",
            masks=places.crowds_test / "masks",
            mask_rule="numbers",
            adapter=trained.adapter,
            prompt="none",
            with_frozen=True,
            output=places.output / "scores" / "objects",
            batch_size=8,
            accelerator="cpu",
            workers=0,
        )
    )
    models = {"otsu": result["baselines"]["otsu"], "frozen": result["frozen"], "sam_adapter": result}
    return [
        CrowdRow(
            model=model,  # type: ignore[arg-type]
            **{name: scores.get(name, 0.0) for name in ("ap50", "f1", "count_error")},
            training_seconds=seconds if model == "sam_adapter" else 0.0,
        )
        for model, scores in models.items()
    ]
