"""`--metrics` with several classes: each class has the scores that can be given of it, others are refused."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_precision, multiclass_recall

from evaluation_runs import rows_of, scored
from sam_adapter import EvaluateConfig, TrainConfig, train
from sam_adapter.config.registry import MORE_METRICS
from sam_adapter.config.scores import addable
from sam_adapter.errors import ConfigError
from sam_adapter.evaluation.text import scores_text
from sam_adapter.tasks.metrics import AddedScores, count_pixels, scores_of
from sam_adapter.tasks.metrics.classes import ClassMetrics
from semantic_scenes import options

pytest_plugins = ("semantic_scenes",)
OF_CLASSES = ("boundary_iou", "hd95", "precision", "recall", "specificity")
CLASSES = ("ball", "box")


@pytest.fixture(scope="module")
def evaluated(scenes: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("scores")
    added = {"metrics": ",".join(OF_CLASSES), "spacing": 0.5}
    return output, scored(scenes, run / "adapter", output, prompt="mixed", with_frozen=True, report=True, **added)


def test_what_a_task_can_add():
    assert tuple(addable("semantic")) == OF_CLASSES
    assert addable("binary") == list(MORE_METRICS)


def test_shares_of_each_class_are_those_of_all_pixels_of_the_class_maps(evaluated: tuple[Path, dict[str, Any]]):
    found = evaluated[1]
    for kind in ("box", "points", "none"):
        counts = np.array(found["confusion"][kind])
        truth, answered = (
            torch.from_numpy(np.repeat(np.indices(counts.shape)[axis].ravel(), counts.ravel())) for axis in (0, 1)
        )
        for name, published in (("precision", multiclass_precision), ("recall", multiclass_recall)):
            expected = published(answered, truth, num_classes=3, average="none").tolist()[1:]
            assert [found[f"{name}_{kind}[{one}]"] for one in CLASSES] == pytest.approx(expected)
        left = counts[0].sum() + counts[2].sum()
        wrong = counts[0, 1] + counts[2, 1]
        assert found[f"specificity_{kind}[ball]"] == pytest.approx(1 - wrong / left)
    assert found["recall[box]"] == pytest.approx(
        np.mean([found[f"recall_{kind}[box]"] for kind in ("box", "points", "none")])
    )


@pytest.mark.parametrize("name", ["boundary_iou", "hd95"])
def test_edges_of_each_class_are_means_over_the_pictures_that_have_it(
    evaluated: tuple[Path, dict[str, Any]], name: str
):
    output, found = evaluated
    table = rows_of(output, model=rows_of(output)[0]["model"])
    for kind in ("box", "points", "none"):
        own = [row for row in table if row["prompt"] == kind and row[name]]
        assert len(own) == 16  # eight pictures have each of the classes
        for one in CLASSES:
            values = [float(row[name]) for row in own if row["class"] == one]
            assert found[f"{name}_{kind}[{one}]"] == pytest.approx(np.mean(values))


def test_scores_of_classes_are_in_the_table_and_on_the_page(evaluated: tuple[Path, dict[str, Any]]):
    output, found = evaluated
    told, page = scores_text(found, "run"), (output / "report.html").read_text()
    assert "HD95 in mm." in told
    for name in OF_CLASSES:
        heading, digits = MORE_METRICS[name].heading, 2 if name == "hd95" else 4
        over = (
            "mean over the pictures that have it" if name in ("boundary_iou", "hd95") else "over all pixels of the set"
        )
        lines = told.split(f"\n{heading} of each class, {over}:\n")[1].splitlines()
        assert lines[0].split() == list(CLASSES)
        assert lines[1].split() == [
            "run,",
            "with",
            "box",
            *(f"{found[f'{name}_box[{one}]']:.{digits}f}" for one in CLASSES),
        ]
        assert f"{heading} of each class, {over}" in page
    assert f"{found['frozen']['recall_none[ball]']:.4f}" in told


def test_a_class_that_no_picture_has_has_no_added_score():
    """Its IoU is 0 where it was answered, but there is nothing of it to find."""
    metrics = ClassMetrics(names=CLASSES, added=AddedScores(("hd95", "precision", "recall")))
    for label, present in ((1, 1.0), (2, 0.0)):
        row = scores_of(count_pixels(torch.tensor([[1.0, 0]]), torch.tensor([[present, 0]])))
        metrics.update(0, row, kind="none", label=label, added=torch.tensor([5.0, 0.2, 0.3]))
    rows = [
        [0, 2, 1, 1, 30],
        [0, 2, 1, 0, 10],
        [0, 2, 0, 2, 20],
        [0, 2, 0, 0, 40],
    ]  # image, kind, truth, answer, pixels
    metrics.confusions.append(torch.tensor(rows))
    found = metrics.compute()
    assert (found["iou[ball]"], found["iou[box]"]) == (0.75, 0)
    assert (found["precision_none[ball]"], found["recall_none[ball]"], found["hd95_none[ball]"]) == (1, 0.75, 5)
    assert (found["precision"], found["recall"]) == (pytest.approx(0.2), pytest.approx(0.3))  # of answers
    assert not [one for one in found if one.endswith("[box]") and not one.startswith(("iou", "dice"))]


def test_training_with_classes_has_added_scores_and_chooses_by_them(scenes: Path, sam_folder: str, tmp_path: Path):
    train(options(scenes, sam_folder, tmp_path, epochs=2, metrics="hd95,recall", monitor="recall_none"))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    columns = list(table[0])
    assert (
        columns.index("val_miou") < columns.index("val_iou") < columns.index("val_hd95") < columns.index("val_recall")
    )
    assert all(0 <= float(row["val_recall_none"]) <= 1 for row in table)
    assert (tmp_path / "adapter/sam_adapter.json").exists()


@pytest.mark.parametrize("name", [name for name in MORE_METRICS if name not in OF_CLASSES])
def test_scores_of_one_mask_are_refused_before_any_work(name: str, scenes: Path, run: Path, tmp_path: Path):
    sentence = (
        f"metrics: '{name}' is a score of one foreground mask a picture, which task binary has; task semantic can"
    )
    told = f"{sentence} add boundary_iou, hd95, precision, recall, specificity."
    places: dict[str, Any] = {"images": "i", "masks": "m", "output": "o", "task": "semantic", "prompt": "mixed"}
    for make in (TrainConfig, EvaluateConfig):
        with pytest.raises(ConfigError) as refused:
            make(model="tiny", metrics=f"recall,{name}", **places)
        assert list(refused.value.problems) == [told]
    with pytest.raises(ConfigError, match=f"metrics: '{name}' is a score of one"):
        scored(scenes, run / "adapter", tmp_path / "out", prompt="none", metrics=name)
    assert not (tmp_path / "out/metrics.json").exists()
    with pytest.raises(ConfigError, match=f"never scored by '{name}'; possible are miou, "):
        TrainConfig(model="tiny", monitor=name, **places)


def test_a_monitor_of_classes_that_is_not_added_says_what_to_add():
    places: dict[str, Any] = {"images": "i", "masks": "m", "output": "o", "model": "tiny", "task": "semantic"}
    with pytest.raises(ConfigError, match="the run has no 'hd95_box'; add it with '--metrics hd95'"):
        TrainConfig(monitor="hd95_box", **places)
    assert TrainConfig(monitor="hd95_box", metrics="hd95", **places).monitored == "hd95_box"
