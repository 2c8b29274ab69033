"""Scenes of two classes and runs on them, which several files of tests share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter import TrainConfig, train
from training_runs import config

COLOURS = {0: (0, 0, 0), 3: (200, 0, 0), 9: (0, 0, 200)}
CLASSES = "ball: 3\nbox: 9\nignore: [255]\n"


def options(scenes: Path, sam_folder: str, output: Path, **changes) -> TrainConfig:
    own = {"task": "semantic", "classes": scenes / "classes.yaml", "val_fraction": 0.25, "batch_size": 2}
    return config(scenes, sam_folder, output, **{**own, **changes})


def write_scenes(folder: Path) -> Path:
    """Balls and boxes of different brightness; a third of the pictures has one of the two alone."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :64]
    palette = np.zeros((256, 3), np.uint8)
    for value, colour in COLOURS.items():
        palette[value] = colour
    for index in range(12):
        mask = np.zeros((48, 64), np.uint8)
        if index % 3 != 1:
            mask[(rows - 24) ** 2 + (columns - 16) ** 2 < rng.integers(60, 120)] = 3
        if index % 3 != 2:
            mask[14:34, 38 : rng.integers(48, 60)] = 9
        mask[0, :4] = 255
        image = np.select([mask == 3, mask == 9], [210, 130], 40) + rng.integers(0, 20, (48, 64))
        Image.fromarray(np.repeat(image.astype(np.uint8)[..., None], 3, 2)).save(folder / f"images/{index:02}.png")
        indexed = Image.fromarray(mask, mode="P")
        indexed.putpalette(palette.tobytes())
        indexed.save(folder / f"masks/{index:02}.png")
    (folder / "classes.yaml").write_text(CLASSES)
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_scenes`."""
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def run(scenes: Path, sam_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "run"
    train(options(scenes, sam_folder, output, class_tokens=3, epochs=3))
    return output
