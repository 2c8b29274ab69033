"""What prompts ask for keeps its row, and what was not prompted is said."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from sam_adapter import PredictConfig, load, predict
from sam_adapter.annotations.run_lengths import run_lengths_of, run_lengths_of_part
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.errors import ConfigError
from sam_adapter.prediction.objects import described_objects
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.object_prediction import ObjectPrediction

pytest_plugins = ("object_scenes",)


@pytest.fixture(scope="module")
def box_adapter(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that was trained with boxes alone, as far as its description says."""
    segmenter = load(run / "adapter")
    segmenter.prompt = "box"
    folder = tmp_path_factory.mktemp("box") / "adapter"
    save_adapter(folder, segmenter)
    return folder


def run_lengths_to_mask(one: dict[str, Any]) -> np.ndarray:
    return coco.decode({"size": one["size"], "counts": one["counts"].encode()}).astype(bool)


def test_run_lengths_of_a_part_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    for corner in ((0, 0), (3, 5), (12, 9)):
        mask = rng.random((8, 11)) < 0.5
        whole = np.zeros((20, 20), np.int32)
        whole[corner[0] : corner[0] + 8, corner[1] : corner[1] + 11] = mask
        assert run_lengths_of_part(mask, corner, (20, 20)) == run_lengths_of(whole)[1]
    full = np.ones((4, 3), bool)
    assert run_lengths_to_mask(run_lengths_of_part(full, (0, 0), (4, 3))).all()


def test_a_mask_below_others_keeps_its_row_and_its_outline():
    logits = torch.full((3, 32, 32), -5.0)
    logits[0, 10:14, 10:14] = 5  # inside the second
    logits[1, 4:28, 4:28] = 5  # the third is empty
    prediction = ObjectPrediction(
        mask_logits=logits,
        iou_scores=torch.tensor([0.5, 0.9, 0.7]),
        labels=(1, 1, 1),
        original_size=(32, 32),
        preprocessing=Preprocessing(image_size=32),
        threshold=0.5,
    )
    assert np.unique(prediction.objects.labels).tolist() == [0, 2]
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    rows, outlines = described_objects("a", prediction, image)
    assert [row.id for row in rows] == list(outlines) == [1, 2]
    for row in rows:
        mask = run_lengths_to_mask(outlines[row.id])
        assert np.array_equal(mask, prediction.mask_logits[row.id - 1].numpy() > 0)  # pyright: ignore
        ys, xs = np.nonzero(mask)
        assert (row.area, row.left, row.top) == (mask.sum(), xs.min(), ys.min())
        assert (row.width, row.height) == (np.ptp(xs) + 1, np.ptp(ys) + 1)
        assert (row.centre_x, row.centre_y) == (pytest.approx(xs.mean(), abs=0.01), pytest.approx(ys.mean(), abs=0.01))
        assert row.brightness == pytest.approx(image[mask].mean(), abs=0.01)


def predicted(adapter: Path, scenes: Path, tmp_path: Path, prompts: Any = None, **options: Any) -> Path:
    given: dict[str, Any] = {"workers": 0, "precision": "32", "output": tmp_path / "out", **options}
    if prompts is not None:
        (tmp_path / "p.json").write_text(json.dumps(prompts))
        given["prompts"] = tmp_path / "p.json"
    predict(PredictConfig(adapter=adapter, input=str(scenes / "images/0[45].png"), **given))
    return tmp_path / "out"


def test_what_the_label_map_cannot_show_is_said(run: Path, scenes: Path, tmp_path: Path, caplog):
    box = {"box": [10, 10, 40, 40], "class": "nucleus"}
    with caplog.at_level(logging.WARNING):
        output = predicted(run / "adapter", scenes, tmp_path, {"04.png": [box, box]})
    said = caplog.text
    assert "cannot show 1 mask that better ones cover as a whole" in said
    assert "names 1 picture of 2; the others are answered without a prompt" in said
    assert "classes are named ('nucleus'), and the adapter tells none apart" in said
    rows = [row for row in csv.DictReader((output / "objects.csv").open()) if row["picture"] == "04"]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[0]["area"] == rows[1]["area"]
    assert len(np.unique(np.asarray(Image.open(output / "masks/04.png")))) == 2


def test_an_adapter_of_boxes_alone_finds_no_objects_by_itself(box_adapter: Path, scenes: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"trained with boxes alone.*--prompts FILE with boxes.*--grid N.*mixed"):
        predicted(box_adapter, scenes, tmp_path)
    with pytest.raises(ConfigError, match="1 picture of 2"):
        predicted(box_adapter, scenes, tmp_path, {"04.png": [{"box": [10, 10, 40, 40]}]})
    predicted(box_adapter, scenes, tmp_path, grid=4)
