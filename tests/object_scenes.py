"""Pictures of discs with a number each, and a run on them, which several files of tests share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter import TrainConfig, train
from training_runs import config

SIZE = (72, 96)


def discs(rng: np.random.Generator) -> np.ndarray:
    """``(H, W)`` int32 of four to eight discs, some of which touch; the numbers have gaps and reach beyond 255."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = np.zeros(SIZE, np.int32)
    places = rng.permutation([(row, column) for row in (14, 34, 54) for column in (14, 34, 54, 74)])
    for at in range(int(rng.integers(4, 9))):
        row, column = places[at] + rng.integers(-2, 3, 2)
        radius = int(rng.integers(6, 11))
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        labels[disc & (labels == 0)] = (3, 7, 254, 255, 256, 300, 511, 1000)[at]
    return labels


def picture_of(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bright discs on dark ground, ``(H, W, 3)`` uint8."""
    grey = np.where(labels > 0, 190, 60) + rng.integers(-15, 16, labels.shape)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


def write_scenes(folder: Path) -> Path:
    """Twelve pictures with label maps of 16 bits; the last has no object."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(12):
        labels = discs(rng) if index < 11 else np.zeros(SIZE, np.int32)
        Image.fromarray(picture_of(labels, rng)).save(folder / f"images/{index:02}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"masks/{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_scenes`."""
    return write_scenes(tmp_path_factory.mktemp("discs"))


def options(scenes: Path, output: Path, **changes) -> TrainConfig:
    own = {"task": "instance", "val_fraction": 0.25, "batch_size": 2, "precision": "32", "image_size": 128}
    return config(scenes, output=output, **{"model": "tiny", **own, **changes})


def random_options(scenes: Path, sam_folder: str, output: Path, **changes) -> TrainConfig:
    """A run of a small random model with everything random switched on."""
    own = {"model": sam_folder, "image_size": None, "objects_per_image": 3, "correction_rounds": 1, "box_jitter": 0.1}
    return options(scenes, output, **{**own, **changes})


@pytest.fixture(scope="session")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "run"
    train(options(scenes, output, epochs=4, objects_per_image=4))
    return output
