"""Objects from training to scores and files, on pictures of discs and the bundled model."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_adapter import EvaluateConfig, PredictConfig, Predictor, evaluate, load, predict
from sam_adapter.annotations.coco import list_coco
from sam_adapter.annotations.reading.instances import instances_of_objects
from sam_adapter.annotations.reading.rules import ReadingRules
from sam_adapter.checkpoints.adapter import read_adapter_config
from sam_adapter.config.choices import monitor_mode
from sam_adapter.errors import ConfigError
from sam_adapter.tasks.metrics.matching import count_objects, find_overlaps, object_scores
from sam_adapter.tasks.object_prediction import ObjectPrediction
from sam_adapter.tasks.prompts import box_from_mask
from training_runs import rows, weights

pytest_plugins = ("object_scenes",)


@pytest.fixture(scope="module")
def scored(run: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scores")
    evaluate(
        EvaluateConfig(
            adapter=run / "adapter",
            images=scenes / "images",
            masks=scenes / "masks",
            prompt="mixed",
            with_frozen=True,
            report=True,
            workers=0,
            precision="32",
            output=output,
        )
    )
    return output


@pytest.fixture(scope="module")
def predicted(run: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("predicted")
    predict(
        PredictConfig(adapter=run / "adapter", input=str(scenes / "images"), output=output, workers=0, precision="32")
    )
    return output


def truth_of(scenes: Path, name: str) -> np.ndarray:
    labels = np.asarray(Image.open(scenes / f"masks/{name}.png")).astype(np.int32)
    return np.where(labels == 255, 2000, labels)  # 255 is void in label maps that were read


def test_what_is_trained_and_kept(run: Path):
    description = read_adapter_config(run / "adapter")
    assert (description.task, description.classes, description.class_tokens) == ("instance", ("foreground",), 4)
    assert weights(run)["learned_prompts.table.weight"].shape == (2, 4 * 128)
    first, *_, last = rows(run)
    for name in ("val_ap50", "val_f1", "val_iou_box", "val_iou_points", "val_iou_none"):
        assert float(last[name]) > float(first[name]) - 0.05, name
    assert float(last["val_f1"]) > 0.6


def test_the_quality_that_ranks_answers_is_trained(run: Path):
    names = [name for name in weights(run) if "iou_prediction_head" in name]
    assert names
    before = dict(load(model="tiny").named_parameters())
    changed = [name for name in names if not np.array_equal(weights(run)[name], before[name].detach())]
    assert changed == names


def test_scores_are_those_of_the_label_maps_that_are_written(scenes: Path, scored: Path, predicted: Path):
    metrics = json.loads((scored / "metrics.json").read_text())
    found = []
    for path in sorted((predicted / "masks").iterdir()):
        labels = np.asarray(Image.open(path)).astype(np.int32)
        found.append(find_overlaps(truth_of(scenes, path.stem), labels, scores=np.ones(labels.max(), np.float32)))
    assert len(found) == 12
    counts = np.sum([count_objects(one) for one in found], axis=0)
    for name in ("f1", "pq", "aji", "matched_iou"):
        assert metrics[name] == pytest.approx(float(object_scores(counts)[name]), abs=1e-9), name
    union = both = 0
    per_image = [row for row in csv.DictReader((scored / "per_image.csv").open()) if row["object"] == "all"]
    for row in per_image[:12]:
        both, union = both + int(row["tp"]), union + int(row["tp"]) + int(row["fp"]) + int(row["fn"])
    assert both / union > 0.5
    assert metrics["f1"] > metrics["frozen"]["f1"]
    assert metrics["object_iou_box_small"] > 0.5
    assert {"fill_box", "otsu"} == set(metrics["baselines"])
    assert metrics["baselines"]["otsu"]["f1"] > 0.5


def test_a_report_shows_objects_and_the_tables_name_them(scenes: Path, scored: Path, tmp_path: Path):
    assert "object all" in (scored / "report.html").read_text()
    assert "AP50" in (scored / "report.html").read_text()
    config = EvaluateConfig(
        model="tiny",
        task="instance",
        images=scenes / "images",
        masks=scenes / "masks",
        prompt="none",
        threshold=0.9,  # so that objects are missed
        report=True,
        workers=0,
        output=tmp_path / "scores",
    )
    evaluate(config)
    page = (config.output / "report.html").read_text()
    section = page.split("Objects that were missed, merged and split")[1].split("<section>")[0]
    cases = re.findall(r"(most missed|most merged or split): (\d\d), (\d+) of (\d+) missed", section)
    assert 1 <= len(cases) <= 6
    assert [int(case[2]) for case in cases if case[0] == "most missed"] == sorted(
        (int(case[2]) for case in cases if case[0] == "most missed"), reverse=True
    )
    for _, name, missed, true in cases:
        assert int(true) == len(np.unique(truth_of(scenes, name))) - 1 >= int(missed)
    assert section.count("<img") == 3 * len(cases)
    prompts = json.loads((scored / "prompts.json").read_text())
    assert prompts["00.png"][-2]["object"] == "all"


def test_the_files_of_objects_say_the_same(scenes: Path, predicted: Path):
    table = list(csv.DictReader((predicted / "objects.csv").open()))
    listing = list_coco(scenes / "images", predicted / "objects.json")
    assert not listing.problems
    assert len(table) == sum(len(record.objects or ()) for record in listing.records) > 20
    for record in listing.records:
        labels = np.asarray(Image.open(predicted / f"masks/{record.name}.png")).astype(np.int32)
        again = instances_of_objects(record, labels.shape, ReadingRules(objects="outlines")).labels
        assert np.array_equal(again > 0, labels > 0)
        own = [row for row in table if row["picture"] == record.name]
        assert [int(row["id"]) for row in own] == list(range(1, labels.max() + 1))
        grey = np.asarray(Image.open(scenes / f"images/{record.name}.png")).mean(2)
        for row in own:
            mask = labels == int(row["id"])
            ys, xs = np.nonzero(mask)
            assert int(row["area"]) == mask.sum()
            assert (int(row["left"]), int(row["top"])) == (xs.min(), ys.min())
            assert (int(row["width"]), int(row["height"])) == (np.ptp(xs) + 1, np.ptp(ys) + 1)
            assert float(row["centre_x"]) == pytest.approx(xs.mean(), abs=0.01)
            assert float(row["brightness"]) == pytest.approx(grey[mask].mean(), abs=0.02)
            assert 0 < float(row["score"]) <= 1


def test_a_predictor_finds_the_objects_that_the_command_writes(run: Path, scenes: Path, predicted: Path):
    predictor = Predictor(load(run / "adapter"), precision="32")
    predictor.set_image(scenes / "images/03.png")
    found = predictor.predict_all()
    assert isinstance(found, ObjectPrediction)
    assert np.array_equal(found.objects.labels, np.asarray(Image.open(predicted / "masks/03.png")))
    assert set(found.probability_maps()) == {"foreground", "cores"}


def test_a_list_of_prompts_or_a_coco_file_asks_for_one_object_each(run: Path, scenes: Path, tmp_path: Path):
    truth = truth_of(scenes, "04")
    numbers = [number for number in np.unique(truth).tolist() if number][:3]
    boxes = [box_from_mask(truth == number).tolist() for number in numbers]
    (tmp_path / "list.json").write_text(json.dumps({"04.png": [{"box": box} for box in boxes]}))
    annotations = [
        {"id": at, "image_id": 7, "bbox": [left, top, right - left, bottom - top], "category_id": 1}
        for at, (left, top, right, bottom) in enumerate(boxes)
    ]
    content = {"images": [{"id": 7, "file_name": "elsewhere/04.png"}], "annotations": annotations, "categories": []}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    for name in ("list", "coco"):
        source, output = str(scenes / "images/04.png"), tmp_path / name
        given: dict[str, Any] = {"prompts": tmp_path / f"{name}.json", "workers": 0, "precision": "32"}
        predict(PredictConfig(adapter=run / "adapter", input=source, output=output, **given))
        labels = np.asarray(Image.open(output / "masks/04.png"))
        for at, number in enumerate(numbers, start=1):
            both = ((labels == at) & (truth == number)).sum()
            assert both / ((labels == at) | (truth == number)).sum() > 0.6
        assert len(list(csv.DictReader((output / "objects.csv").open()))) == 3


def test_wrong_prompts_are_named(run: Path, scenes: Path, tmp_path: Path):
    box = {"box": [1, 1, 20, 20]}
    for entry, said in (
        ([{**box, "masks": 1}], "expected {'box'"),
        ([box, {"box": [1, 1, 900, 20]}], "not inside the picture"),
        ([box, {}], "expected {'box'"),
    ):
        (tmp_path / "p.json").write_text(json.dumps({"04.png": entry}))
        given: dict[str, Any] = {"prompts": tmp_path / "p.json", "output": tmp_path / "out"}
        with pytest.raises(ConfigError, match=said):
            predict(PredictConfig(adapter=run / "adapter", input=str(scenes / "images"), **given))


def test_fewer_wrong_counts_are_better():
    assert monitor_mode("count_error") == monitor_mode("count_error_none") == "min"
    assert monitor_mode("ap50") == "max"


def test_prompts_of_the_background_alone_ask_for_nothing(run: Path, scenes: Path, tmp_path: Path):
    (tmp_path / "p.json").write_text(json.dumps({"04.png": {"points": [[5, 5]], "labels": [0]}}))
    given: dict[str, Any] = {"prompts": tmp_path / "p.json", "output": tmp_path / "out"}
    with pytest.raises(ConfigError, match="points of the background alone"):
        predict(PredictConfig(adapter=run / "adapter", input=str(scenes / "images"), **given))


def test_objects_without_prompts_are_scored_where_they_were_asked_for_alone(run: Path, scenes: Path, tmp_path: Path):
    own: dict[str, Any] = {"images": scenes / "images", "masks": scenes / "masks", "workers": 0, "precision": "32"}
    found = evaluate(EvaluateConfig(adapter=run / "adapter", prompt="box", output=tmp_path / "out", **own))
    assert "f1" not in found
    assert found["empty"] == 1
    per_image = [row for row in csv.DictReader((tmp_path / "out/per_image.csv").open()) if row["object"] != "all"]
    means = [np.mean([float(row["iou"]) for row in per_image if row["name"] == f"{at:02}"]) for at in range(11)]
    assert found["object_iou_box_images"] == pytest.approx(np.mean(means), abs=1e-6)
    assert found["object_iou_box"] == pytest.approx(np.mean([float(row["iou"]) for row in per_image]), abs=1e-6)
