"""The pieces of work of the demonstration, each of which a process of its own can do."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..config.commands import DemoConfig, EvaluateConfig
from ..config.training import TrainConfig
from .scenes import SceneKind, write_scenes

MODEL = "tiny"
TRAIN_SEED, TEST_SEED = 100, 200
"""Series of scenes that the bundled model has not seen."""
BATCH_SIZE = 4
PROMPTS_PER_IMAGE = 3
"""A box, a point and none: the image is encoded once for all three."""
LEARNING_RATE = 1e-3
TUNE_DIM, HIDDEN_DIM = 384, 128
"""Twice and four times the default: texture is all there is to go by, and in so small a model width is cheap."""
METHODS: tuple[Literal["sam_adapter", "decoder"], ...] = ("sam_adapter", "decoder")
PROMPTS: tuple[Literal["box", "none"], ...] = ("box", "none")
TITLES = {
    "box_fill": "fill the box",
    "frozen": "SAM, frozen",
    "decoder": "decoder only",
    "sam_adapter": "SAM-Adapter",
}


@dataclass(frozen=True)
class Row:
    """One line of the result: a model under a prompt.

    Attributes:
        model: ``box_fill`` marks the whole box, or the whole picture when there is none.
        prompt: What it was told about each image.
        iou: Mean over the held-out scenes.
        dice: Mean over the held-out scenes.
        trained_parameters: 0 if nothing was trained.
        file_bytes: Size of the weights on disk.
        seconds: Time to score the scenes.
        training_seconds: Time to train, 0 if nothing was trained.
    """

    model: Literal["box_fill", "frozen", "decoder", "sam_adapter"]
    prompt: Literal["box", "none"]
    iou: float
    dice: float
    trained_parameters: int
    file_bytes: int
    seconds: float
    training_seconds: float = 0.0


@dataclass(frozen=True)
class Places:
    """Where the demonstration keeps its things.

    Attributes:
        output: The folder of `DemoConfig.output`.
    """

    output: Path

    @property
    def train(self) -> Path:
        """Camouflage scenes to train on."""
        return self.output / "scenes" / "camouflage_train"

    @property
    def test(self) -> Path:
        """Held-out camouflage scenes."""
        return self.output / "scenes" / "camouflage_test"

    @property
    def plain(self) -> Path:
        """Plain scenes, to see what the frozen model can do."""
        return self.output / "scenes" / "plain_test"

    @property
    def crowds_train(self) -> Path:
        """Crowds of objects to train on."""
        return self.output / "scenes" / "crowds_train"

    @property
    def crowds_test(self) -> Path:
        """Held-out crowds."""
        return self.output / "scenes" / "crowds_test"

    def run(self, method: str) -> Path:
        """The training run of a method, or of the part about objects."""
        return self.output / "runs" / method


def draw(folder: Path, kind: SceneKind, count: int, seed: int) -> None:
    """Write scenes; those of an earlier, larger demonstration are taken away."""
    for part in ("images", "masks"):
        for path in (folder / part).glob(f"{kind}_?????.png"):
            path.unlink()
    write_scenes(folder, kind, count, seed)


def training(config: DemoConfig, run: str, **own: Any) -> TrainConfig:
    """Options of a training run, those that all runs of the demonstration have and its own."""
    return TrainConfig(
        output=Places(config.output).run(run),
        model=MODEL,
        val_fraction=0,
        epochs=config.epochs,
        batch_size=BATCH_SIZE,
        lr=LEARNING_RATE,
        tune_dim=TUNE_DIM,
        hidden_dim=HIDDEN_DIM,
        adapter_init="zero",
        accelerator="cpu",
        workers=0,
        overwrite=True,
        **own,
    )


def train_and_score(config: DemoConfig, method: Literal["sam_adapter", "decoder"]) -> list[Row]:
    """Train on camouflage, and score the result under each prompt."""
    from .. import evaluate, load, train
    from ..checkpoints.adapter import WEIGHTS_FILE

    places = Places(config.output)
    began = time.perf_counter()
    trained = train(
        training(
            config,
            method,
            images=places.train / "images",
            masks=places.train / "masks",
            method=method,
            prompt="mixed",
            prompts_per_image=PROMPTS_PER_IMAGE,
        )
    )
    training_seconds = time.perf_counter() - began
    segmenter = load(trained.adapter)
    rows = []
    for prompt in PROMPTS:
        began = time.perf_counter()
        result = evaluate(_scoring(places, method, prompt).but(adapter=trained.adapter, model=None))
        rows.append(
            Row(
                model=method,
                prompt=prompt,
                iou=result["iou"],
                dice=result["dice"],
                trained_parameters=segmenter.parameter_table()[-1][2],
                file_bytes=(trained.adapter / WEIGHTS_FILE).stat().st_size,
                seconds=time.perf_counter() - began,
                training_seconds=training_seconds,
            )
        )
    return rows


def score_frozen(config: DemoConfig) -> tuple[dict[str, float], list[Row]]:
    """Scores on plain scenes with a box; rows on camouflage, those without any model before them."""
    from .. import evaluate
    from ..backbones.families import BUNDLED

    places = Places(config.output)
    rows = _box_fill(places.test)
    size = (BUNDLED[MODEL] / "model.safetensors").stat().st_size
    for prompt in PROMPTS:
        began = time.perf_counter()
        result = evaluate(_scoring(places, "frozen", prompt))
        rows.append(Row("frozen", prompt, result["iou"], result["dice"], 0, size, time.perf_counter() - began))
    scoring = _scoring(places, "frozen_plain", "box")
    result = evaluate(scoring.but(images=places.plain / "images", masks=places.plain / "masks"))
    return {"iou": result["iou"], "dice": result["dice"]}, rows


def _scoring(places: Places, name: str, prompt: Literal["box", "none"]) -> EvaluateConfig:
    return EvaluateConfig(
        images=places.test / "images",
        masks=places.test / "masks",
        model=MODEL,
        prompt=prompt,
        output=places.output / "scores" / f"{name}_{prompt}",
        batch_size=8,
        accelerator="cpu",
        workers=0,
    )


def _box_fill(test: Path) -> list[Row]:
    """What marking the whole box scores, or the whole picture when there is no box."""
    import torch

    from ..annotations.reading.files import read_mask
    from ..tasks.metrics import OverlapMetrics, score

    rows = []
    for prompt in PROMPTS:
        began = time.perf_counter()
        metrics = OverlapMetrics()
        for index, path in enumerate(sorted((test / "masks").iterdir())):
            target, _ = read_mask(path)
            filled = np.ones(target.shape, dtype=np.float32)
            if prompt == "box":
                filled = _between_ends(target.any(axis=1))[:, None] * _between_ends(target.any(axis=0))[None, :]
            metrics.update(index, score(torch.from_numpy(filled), torch.from_numpy(target)), kind=prompt)
        means = metrics.compute()
        rows.append(Row("box_fill", prompt, means["iou"], means["dice"], 0, 0, time.perf_counter() - began))
    return rows


def _between_ends(occupied: Any) -> np.ndarray:
    """1 from the first to the last place that is occupied, else 0; ``(N,)`` float32."""
    places = np.flatnonzero(occupied)
    filled = np.zeros(len(occupied), dtype=np.float32)
    filled[places[0] : places[-1] + 1] = 1
    return filled
