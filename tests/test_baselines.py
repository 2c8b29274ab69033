"""What needs no network beside the models: filled boxes and Otsu's threshold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation_runs import eight_pairs, overlap, rows_of, scored, truth_of
from sam_adapter.evaluation.baselines import filled_box, otsu_mask
from sam_adapter.evaluation.text import scores_text
from sam_adapter.tasks.metrics import FullSizeAnswer
from sam_adapter.tasks.metrics.boundaries import hd95
from sam_adapter.tasks.prompts import box_from_mask


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("eval"))


def test_filled_boxes_and_otsu_beside_the_models(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    result = scored(pairs, adapters["one"], tmp_path, with_frozen=True, prompt="mixed")
    boxes, cuts = [], []
    for index in range(8):
        truth = truth_of(pairs, index)
        if truth.any():
            box = np.zeros_like(truth)
            rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
            box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
            boxes.append(overlap(box, truth)[0])
            cuts.append(overlap(otsu_mask(np.asarray(Image.open(pairs / f"images/img_{index:02}.png"))), truth)[0])
    baselines = result["baselines"]
    assert set(baselines) == {"fill_box", "otsu"}
    assert baselines["fill_box"]["iou"] == pytest.approx(np.mean(boxes))
    assert baselines["otsu"]["iou"] == pytest.approx(np.mean(cuts))
    assert baselines["otsu"]["empty_correct"] == 0.0
    assert {"fill the box", "Otsu's threshold"} <= set(scores_text(result, "one").replace("  ", "\n").split("\n"))
    assert "baselines" not in scored(pairs, adapters["one"], tmp_path / "b")
    scaled = scored(pairs, adapters["one"], tmp_path / "c", with_frozen=True, box_scale=1.5)["baselines"]
    assert set(scaled) == {"fill_box", "otsu"}  # the pictures without foreground are asked without a prompt
    assert scaled["fill_box"]["iou"] < 0.8 * baselines["fill_box"]["iou"]


def test_added_scores_of_baselines_are_of_their_own_masks_without_the_void(
    pairs: Path, adapters: dict[str, Path], tmp_path: Path
):
    for path in (pairs / "masks").iterdir():
        values = np.array(Image.open(path))
        values[20:26] = 128
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "masks" / path.name)
    options = {"masks": tmp_path / "masks", "mask_rule": "nonzero", "ignore_value": (128,), "spacing": "0.5,2"}
    scored(pairs, adapters["one"], tmp_path / "out", with_frozen=True, metrics="hd95,precision", **options)
    rows = rows_of(tmp_path / "out", model="fill_box")
    assert len(rows) == 6
    for row in rows:
        truth = truth_of(pairs, int(row["name"].removeprefix("img_")))
        counted = np.ones_like(truth)
        counted[20:26] = False
        truth &= counted
        box = filled_box(box_from_mask(truth).tolist(), truth.shape)
        assert float(row["precision"]) == pytest.approx((box & truth).sum() / (box & counted).sum())
        expected = hd95(FullSizeAnswer.of_mask(box, truth, counted, spacing=(0.5, 2.0)))
        assert float(row["hd95"]) == pytest.approx(expected)
        assert float(row["iou"]) == pytest.approx(overlap(box & counted, truth)[0])


def test_a_filled_box_and_the_smaller_part_of_a_picture():
    truth = np.zeros((9, 12), bool)
    truth[2:5, 3:7] = True
    assert np.array_equal(filled_box(box_from_mask(truth).tolist(), truth.shape), truth)
    truth[6:, 8:] = True  # up to the last pixel, where a box is kept within the picture
    box = filled_box(box_from_mask(truth).tolist(), truth.shape)
    assert np.array_equal(box, np.outer(np.arange(9) >= 2, np.arange(12) >= 3))
    image = np.full((10, 10, 3), 200, np.uint8)
    image[:3] = 40
    assert np.array_equal(otsu_mask(image), np.repeat(np.arange(10) < 3, 10).reshape(10, 10))
    assert np.array_equal(otsu_mask(255 - image), np.repeat(np.arange(10) < 3, 10).reshape(10, 10))
