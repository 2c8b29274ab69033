"""The same rules of reading in training, the adapter, evaluation and prediction."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_adapter import EvaluateConfig, PredictConfig, TrainConfig, evaluate, load, predict, train
from sam_adapter.annotations.reading.pictures import brightness_for, list_pages
from sam_adapter.data.dataset import PairDataset
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.prompts import PromptMaker


@pytest.fixture(scope="module")
def deep_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16-bit colour with void around the objects, as (0, 1, 255)."""
    folder = tmp_path_factory.mktemp("deep")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rows, columns = np.mgrid[:40, :50]
    for index in range(4):
        distance = np.hypot(rows - 20, columns - 20 - index)
        image = np.random.default_rng(index).integers(0, 300, (40, 50, 3)) + (distance < 10)[..., None] * 500
        tifffile.imwrite(folder / "images" / f"{index}.tif", image.astype(np.uint16), photometric="rgb")
        mask = np.where(distance < 10, 1, np.where(distance < 13, 255, 0))
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def run(deep_pairs: Path, sam_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "out"
    train(
        TrainConfig(
            model=sam_folder,
            images=deep_pairs / "images",
            masks=deep_pairs / "masks",
            ignore_value=(255,),
            output=output,
            epochs=1,
            workers=0,
            val_fraction=0.25,
            accelerator="cpu",
        )
    )
    return output


def test_the_adapter_carries_the_rules_of_its_data(run: Path, deep_pairs: Path):
    reading = load(run / "adapter").reading
    assert reading is not None
    assert reading.brightness is not None
    assert reading.brightness.integer == (0, 1023)
    assert reading.masks is not None
    assert reading.masks.described() == {"0": "background", "1": "foreground", "255": "void"}
    darker = tifffile.imread(deep_pairs / "images" / "0.tif") // 4
    other = deep_pairs / "dark.tif"
    tifffile.imwrite(other, darker, photometric="rgb")
    pictures = list_pages([(other, "dark")], "first")
    assert brightness_for(pictures, reading) == reading.brightness


def test_void_travels_to_samples_and_scores(run: Path, deep_pairs: Path, tmp_path: Path):
    config = EvaluateConfig(
        adapter=run / "adapter",
        images=deep_pairs / "images",
        masks=deep_pairs / "masks",
        ignore_value=(255,),
        output=tmp_path / "scores",
        prompt="box",
        workers=0,
        accelerator="cpu",
        report=True,
    )
    found = inspect(config)
    task = BinaryTask(prompts=PromptMaker(kind="box"))
    sample = PairDataset(found.records, Preprocessing(image_size=64), task, reading=found.rules)[0]
    assert sample.annotation is not None
    valid = sample.annotation.counted()
    assert valid is not None
    assert int((~valid).sum()) == int((np.asarray(Image.open(found.records[0].mask)) == 255).sum())
    box = sample.queries[0].prompt.box
    assert box is not None
    assert box[2] - box[0] < 22  # the object's 19 pixels, without the void around it
    # No point is drawn on void.
    asked = BinaryTask(prompts=PromptMaker(kind="points", positive_points=1, negative_points=200))
    drawn = PairDataset(found.records, Preprocessing(image_size=64), asked, training=True, reading=found.rules)[0]
    points = drawn.queries[0].prompt.points
    assert points is not None
    assert all(valid[int(y), int(x)] for x, y in points)
    counted = {}
    for ignored in ((255,), ()):
        masks = config.place
        if not ignored:
            masks = tmp_path / "filled"
            masks.mkdir()
            for path in sorted(config.place.iterdir()):
                Image.fromarray((np.asarray(Image.open(path)) == 1).astype(np.uint8)).save(masks / path.name)
        evaluate(config.but(ignore_value=ignored, masks=masks, output=tmp_path / f"scores_{len(ignored)}"))
        rows = (tmp_path / f"scores_{len(ignored)}" / "per_image.csv").read_text().splitlines()
        names = rows[0].split(",")
        counted[len(ignored)] = sum(
            float(value)
            for name, value in zip(names, rows[1].split(","), strict=True)
            if name in ("tp", "fp", "fn", "tn")
        )
    assert counted[0] == 2000
    assert counted[1] == 2000 - int((~valid).sum())


def test_every_page_is_predicted_if_asked(run: Path, tmp_path: Path):
    pages = np.random.default_rng(0).integers(0, 255, (3, 30, 40)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    config = PredictConfig(
        adapter=run / "adapter", input=str(tmp_path / "a.tif"), output=tmp_path / "out", workers=0, accelerator="cpu"
    )
    assert [path.stem for path in predict(config)] == ["a"]
    assert [path.stem for path in predict(config.but(pages="all"))] == ["a", "a_page2", "a_page3"]
