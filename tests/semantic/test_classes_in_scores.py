"""Scores of several classes, and what is refused before any."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from evaluation_runs import rows_of, scored
from sam_adapter import load, train
from sam_adapter.errors import CheckpointError, ConfigError, DataError
from semantic_scenes import options

pytest_plugins = ("semantic_scenes",)


def test_scores_are_of_classes_and_the_frozen_base_has_them_too(scenes: Path, run: Path, tmp_path: Path):
    found = scored(scenes, run / "adapter", tmp_path, prompt="mixed", with_frozen=True, report=True)
    assert found["task"] == "semantic"
    assert found["miou_box"] == pytest.approx((found["iou_box[ball]"] + found["iou_box[box]"]) / 2)
    assert found["confusion"]["labels"] == ["background", "ball", "box"]
    pixels = sum(int((np.asarray(Image.open(path)) != 255).sum()) for path in sorted((scenes / "masks").iterdir()))
    assert sum(map(sum, found["confusion"]["none"])) == pixels
    assert "miou_none" in found["frozen"]
    one = rows_of(tmp_path, name="01", model=rows_of(tmp_path)[0]["model"])
    assert {(row["class"], row["prompt"]) for row in one} == {
        ("box", "box"),
        ("box", "points"),
        ("box", "none"),
        ("ball", "none"),  # not there: asked for by its learned prompt alone
    }
    page = (tmp_path / "report.html").read_text()
    assert "Classes over all pixels" in page
    assert "IoU ball" in page


def test_telling_the_class_changes_scores_with_prompts_alone(scenes: Path, run: Path, tmp_path: Path):
    plain = scored(scenes, run / "adapter", tmp_path / "plain", prompt="mixed")
    told = scored(scenes, run / "adapter", tmp_path / "told", prompt="mixed", with_class="always")
    assert plain["mae_box"] != told["mae_box"]
    assert plain["mae_none"] == told["mae_none"]


def test_boxes_of_classes_are_filled_each_for_its_own_class(scenes: Path, run: Path, tmp_path: Path):
    found = scored(scenes, run / "adapter", tmp_path, prompt="box", with_frozen=True)
    table = rows_of(tmp_path, model="fill_box")
    assert len(table) == 16  # one for each class that is there
    ball = [float(row["iou"]) for row in table if row["class"] == "ball"]
    assert np.mean(ball) == pytest.approx(np.pi / 4, abs=0.06)  # a disc in its box
    assert found["baselines"]["fill_box"]["iou"] > 0.85
    asked = json.loads((tmp_path / "prompts.json").read_text())
    assert [one["class"] for one in asked["00.png"]] == ["ball", "box"]


def test_a_coco_file_is_trained_on_and_scored(scenes: Path, sam_folder: str, tmp_path: Path):
    """The same objects as in the masks give the same scores."""
    size, images, annotations = (48, 64), [], []
    for number, path in enumerate(sorted((scenes / "masks").iterdir())):
        values = np.asarray(Image.open(path))
        images.append({"id": number, "file_name": f"old/{path.name}", "height": 48, "width": 64})
        for value, crowd in ((3, 0), (9, 0), (255, 1)):
            mask = np.asfortranarray((values == value).astype(np.uint8))
            if mask.any():
                encoded: Any = coco.encode(mask)
                lengths = {"size": list(size), "counts": encoded["counts"].decode()}
                category = {3: 1, 9: 2, 255: 1}[value]
                entry = {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": crowd}
                annotations.append({**entry, "segmentation": lengths})
    file = tmp_path / "coco.json"
    names = [{"id": 1, "name": "ball"}, {"id": 2, "name": "box"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    output, changes = tmp_path / "run", {"masks": None, "annotations": file, "classes": None}
    train(options(scenes, sam_folder, output, epochs=1, **changes))
    assert load(output / "adapter").class_names == ("ball", "box")
    found = scored(scenes, output / "adapter", tmp_path / "coco", masks=None, annotations=file)
    masks = {"task": "semantic", "classes": scenes / "classes.yaml"}
    assert scored(scenes, output / "adapter", tmp_path / "masks", **masks) == found


def test_other_classes_than_the_adapters_are_refused(scenes: Path, run: Path, sam_folder: str, tmp_path: Path):
    (tmp_path / "swapped.yaml").write_text("box: 9\nball: 3\nignore: [255]\n")
    adapter, output = run / "adapter", tmp_path / "out"
    with pytest.raises(ConfigError, match=r"names box, ball; .* ball, box"):
        scored(scenes, adapter, output, classes=tmp_path / "swapped.yaml", task="semantic")
    with pytest.raises(ConfigError, match=r"has the task 'semantic', got 'binary'"):
        scored(scenes, adapter, output, task="binary")
    starting = {"start_from": run / "adapter", "classes": tmp_path / "swapped.yaml"}
    with pytest.raises(CheckpointError, match=r"trained on the classes ball, box, the run has box, ball"):
        train(options(scenes, sam_folder, tmp_path / "run", **starting))
    values = np.asarray(Image.open(scenes / "masks/00.png")).copy()
    values[5, 5] = 77
    (tmp_path / "masks").mkdir()
    Image.fromarray(values).save(tmp_path / "masks/00.png")
    with pytest.raises(DataError, match=r"00\.png: 77"):
        scored(scenes, adapter, output, task="semantic", masks=tmp_path / "masks", faulty="stop")


def test_what_starts_from_another_task_or_names_another_class_is_told(
    scenes: Path, run: Path, sam_folder: str, tmp_path: Path
):
    starting = {"start_from": run / "adapter", "task": "binary", "classes": None, "ignore_value": ("255",)}
    with pytest.raises(CheckpointError, match="trained for the task 'semantic', the run has 'binary'"):
        train(options(scenes, sam_folder, tmp_path / "run", **starting, mask_rule="nonzero"))
    (tmp_path / "x.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "00.png", "height": 48, "width": 64}],
                "categories": [{"id": 1, "name": "cone"}],
                "annotations": [
                    {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": 0}
                ],
            }
        )
    )
    with pytest.raises(
        DataError, match=r"unknown class \(1\).*\n.*00\.png: .*has the class 'cone'; known are ball, box"
    ):
        scored(scenes, run / "adapter", tmp_path / "out", masks=None, annotations=tmp_path / "x.json")
