"""Objects with classes from a COCO file to a COCO file, and their scores by COCO's own library from the two files."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from object_scenes import SIZE, discs
from sam_adapter import EvaluateConfig, PredictConfig, evaluate, predict, train
from sam_adapter.annotations.export import with_ids_of, with_outlines, write_coco
from sam_adapter.annotations.listing import Record
from training_runs import config

CLASSES = ("light", "dark")
VOID = 255


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with light and dark discs, two of them with a corner that is void, and their COCO file."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    rng = np.random.default_rng(4)
    records = []
    for index in range(8):
        labels = discs(rng) if index < 7 else np.zeros(SIZE, np.int32)
        labels[labels == VOID] = 2000
        names = {number: CLASSES[number % 2] for number in np.unique(labels).tolist()}
        grey = np.select([labels % 2 == 1, labels > 0], [30, 220], 120) + rng.integers(-15, 16, SIZE)
        path = folder / f"images/{index:02}.png"
        Image.fromarray(np.repeat(grey.astype(np.uint8)[..., None], 3, 2)).save(path)
        if index in (1, 2):
            labels[30:, 40:] = VOID
        records.append(with_outlines(Record(path.stem, path, path), labels, names, void=VOID))
    write_coco(folder / "own.json", records, dict.fromkeys((one.name for one in records), SIZE), CLASSES)
    return folder


@pytest.fixture(scope="module")
def scores(pictures: Path) -> dict[str, Any]:
    """What `evaluate` says of an adapter; the objects that `predict` finds with it are in ``found``."""
    folder = pictures
    given: dict[str, Any] = {"images": folder / "images", "masks": None, "annotations": folder / "own.json"}
    own: dict[str, Any] = {"precision": "32", "image_size": 128, "val_fraction": 0, "batch_size": 2, "prompt": "none"}
    adapter = train(config(folder, "tiny", folder / "run", **given, **own, task="instance", epochs=3)).adapter
    own = {"adapter": adapter, "workers": 0, "precision": "32", "accelerator": "cpu"}
    predict(PredictConfig(input=str(folder / "images"), output=folder / "found", **own))
    return evaluate(EvaluateConfig(prompt="none", output=folder / "scores", **given, **own))


def by_the_library(truth: Path, found: Path) -> list[float]:
    """AP, AP50 and AP75 by pycocotools alone."""
    with redirect_stdout(io.StringIO()):
        true, answered = COCO(str(truth)), COCO(str(found))
        evaluation = COCOeval(true, answered, "segm")
        evaluation.params.maxDets = [10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return [float(some[some > -1].mean()) for some in (precision, precision[0], precision[5])]


def test_coco_s_library_says_the_same_of_the_two_files(pictures: Path, scores: dict[str, Any]):
    ours = [scores["ap"], scores["ap50"], scores["ap75"]]
    assert 0.1 < ours[0] < ours[1] < 0.95
    assert by_the_library(pictures / "own.json", pictures / "found/objects.json") == pytest.approx(ours, abs=1e-9)
    entries = json.loads((pictures / "own.json").read_text())["annotations"]
    assert sum(one["iscrowd"] for one in entries) == 4  # of both classes, in two pictures


def test_it_says_the_same_under_another_file_s_ids(pictures: Path, scores: dict[str, Any]):
    truth = json.loads((pictures / "own.json").read_text())
    for one in truth["images"]:
        one |= {"id": 100 - one["id"], "file_name": f"elsewhere/{one['file_name']}"}
    for one in truth["categories"]:
        one["id"] = 70 - 9 * one["id"]
    for one in truth["annotations"]:
        one |= {"image_id": 100 - one["image_id"], "category_id": 70 - 9 * one["category_id"]}
    other = pictures / "other.json"
    other.write_text(json.dumps(truth))
    found = pictures / "found/taken.json"
    found.write_text(json.dumps(with_ids_of(pictures / "found/objects.json", other)))
    ours = [scores["ap"], scores["ap50"], scores["ap75"]]
    assert by_the_library(other, found) == pytest.approx(ours, abs=1e-9)
