"""Scores of objects over a set: average precision beside that of plain pycocotools, sums and means over images."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_adapter.batch import VOID, Annotation, Batch, Query
from sam_adapter.config.labels import ALL_OBJECTS, CORES
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.metrics import score, scores_of
from sam_adapter.tasks.metrics.answers import ObjectAnswers
from sam_adapter.tasks.metrics.average_precision import average_precision
from sam_adapter.tasks.metrics.matching import find_overlaps
from sam_adapter.tasks.metrics.objects import ObjectMetrics
from sam_adapter.tasks.splitting import FoundObjects
from sam_adapter.training.adapter_keeper import AdapterKeeper
from sam_adapter.training.lightning_module import TrainingModule

Image = tuple[np.ndarray, FoundObjects, dict[int, int], list[int], list[int]]
"""Truth, answer, true classes by number, found classes, crowds."""


def cells(rng: np.random.Generator, count: int, size: int = 200) -> np.ndarray:
    """Numbers of touching cells, of which some are background."""
    seeds = np.ones((size, size), dtype=np.uint8)
    seeds.ravel()[rng.choice(size * size, count, replace=False)] = 0
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    labels[labels == VOID] = labels.max() + 1
    labels[labels % 10 == 0] = 0
    return labels.astype(np.int32)


def image(seed: int, count: int, *, classes: int = 1, crowds: int = 0, void: bool = False) -> Image:
    """Cells, and an answer where some are shifted, some joined with their neighbour, some missing; scores have ties."""
    rng = np.random.default_rng(seed)
    truth = cells(rng, count)
    names = np.arange(truth.max() + 1)
    joined = rng.choice(names[1:], count // 10, replace=False)
    names[joined] = joined - 1
    names[rng.choice(names[1:], count // 10, replace=False)] = 0
    found = np.roll(names[truth], rng.integers(-1, 2, 2), (0, 1))
    shown, present = np.unique(found, return_inverse=True)
    present = present.reshape(found.shape).astype(np.int32)
    crowd = rng.choice(np.unique(truth)[1:], crowds, replace=False).tolist()
    for one in crowd:  # with some of the cells around
        truth[np.isin(truth, truth[cv2.dilate((truth == one).view(np.uint8), np.ones((9, 9), np.uint8)) > 0])] = one
    if void:
        truth[50:110, 30:150] = VOID
    true_classes = {one: int(rng.integers(1, classes + 1)) for one in range(truth.max() + 1)}
    found_classes = [true_classes[one] if rng.random() < 0.9 else 1 for one in shown[1:].tolist()]
    scores = rng.integers(1, 6, len(found_classes)).astype(np.float32) / 5
    return truth, FoundObjects(present, scores), true_classes, found_classes, crowd


def empty_image() -> Image:
    nothing = np.zeros((200, 200), dtype=np.int32)
    return nothing, FoundObjects(nothing, np.zeros(0, np.float32)), {}, [], []


def halves() -> Image:
    """IoUs of exactly a half: a true object found as two, two found as one, and one found with as much of a crowd."""
    truth, found = np.zeros((2, 200, 200), dtype=np.int32)
    truth[:20, :10], found[:10, :10], found[10:20, :10] = 1, 1, 2
    truth[40:50, :10], truth[50:60, :10], found[40:60, :10] = 2, 3, 3
    truth[80:90, :10], truth[90:120, :10], found[80:100, :10] = 4, 5, 4
    found[100:110, :10] = 5
    answer = FoundObjects(found, np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32))
    return truth, answer, dict.fromkeys(range(1, 6), 1), [1] * 5, [5]


def plain(images: Sequence[Image], classes: int) -> np.ndarray:
    """AP, AP50 and AP75 by pycocotools from the masks, with no limit to the number of objects."""
    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for at, (truth, found, true_classes, found_classes, crowd) in enumerate(images, start=1):
        for label in range(1, classes + 1) if (truth == VOID).any() else ():
            truths.append(entry(truth == VOID, at, label, len(truths) + 1) | {"iscrowd": 1})
        for number in np.unique(truth[(truth > 0) & (truth != VOID)]).tolist():
            one = entry(truth == number, at, true_classes[number], len(truths) + 1)
            truths.append(one | {"iscrowd": int(number in crowd)})
        for number in range(1, len(found) + 1):
            one = entry(found.labels == number, at, found_classes[number - 1], len(answers) + 1)
            answers.append(one | {"score": float(found.scores[number - 1])})
    ids: Any = [{"id": at, "height": 200, "width": 200} for at in range(1, len(images) + 1)]
    with redirect_stdout(io.StringIO()):
        sets = []
        for annotations in (truths, answers):
            one: Any = COCO()
            one.dataset = {"images": ids, "categories": [{"id": at + 1} for at in range(classes)]}
            one.dataset["annotations"] = annotations
            one.createIndex()
            sets.append(one)
        evaluation = COCOeval(sets[0], sets[1], "segm")
        evaluation.params.maxDets = [10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return np.array([some[some > -1].mean() for some in (precision, precision[0], precision[5])])


def entry(mask: np.ndarray, image_id: int, category: int, number: int) -> dict[str, Any]:
    runs: Any = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    area = int(mask.sum())
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "segmentation": runs,
        "area": area,
        "iscrowd": 0,
    }


def metrics_of(images: Mapping[int, Image], names: Sequence[str] = ()) -> ObjectMetrics:
    metrics = ObjectMetrics(names=names)
    for index, (truth, found, true_classes, found_classes, crowd) in images.items():
        metrics.add_objects(index, truth, found, true_classes=true_classes, found_classes=found_classes, crowd=crowd)
    return metrics


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("crowds", "void"), [(0, False), (3, False), (3, True), (0, True)])
def test_average_precision_is_that_of_pycocotools(
    classes: int, crowds: int, void: bool, capsys: pytest.CaptureFixture[str]
):
    """With more objects than its usual 100, with ties, with an image that has none, and with void as a crowd."""
    images = [image(seed, 170, classes=classes, crowds=crowds, void=void) for seed in range(3)]
    assert min(len(one[1]) for one in images) > 120
    images += [empty_image(), halves(), halves(), halves()]
    only_found = image(9, 20, classes=classes)
    images.append((empty_image()[0], only_found[1], {}, only_found[3], []))
    expected = plain(images, classes)
    assert 0.1 < expected[0] < expected[2] < expected[1] < 0.95
    names = [f"class {at}" for at in range(classes)] if classes > 1 else []
    capsys.readouterr()
    scores = metrics_of(dict(enumerate(images)), names).compute()
    assert [scores["ap"], scores["ap50"], scores["ap75"]] == pytest.approx(expected.tolist(), abs=1e-9)
    assert capsys.readouterr().out == ""


def test_a_class_without_objects_is_left_out_of_means():
    images = {0: image(0, 40), 1: image(1, 40)}
    alone, among = metrics_of(images).compute(), metrics_of(images, ["cell", "other"]).compute()
    for name in ("ap", "ap50", "pq", "f1", "aji", "count_error"):
        assert among[name] == pytest.approx(alone[name])
    assert among["ap[cell]"] == pytest.approx(alone["ap"])
    assert among["f1[cell]"] == pytest.approx(alone["f1"])
    assert "ap[other]" not in among
    assert "pq[other]" not in among
    assert "ap[cell]" not in alone


def squares(*columns: int, size: int = 10) -> np.ndarray:
    labels = np.zeros((20, 200), dtype=np.int32)
    for number, column in enumerate(columns, start=1):
        labels[5:15, column : column + size] = number
    return labels


def found_at(*columns: int, size: int = 10, scores: Sequence[float] = ()) -> FoundObjects:
    return FoundObjects(squares(*columns, size=size), np.array(scores or [1.0] * len(columns), np.float32))


def test_scores_over_the_set_and_over_images():
    """Three of four; one of two with an IoU of 0.8, and one too many; an image without objects."""
    metrics = ObjectMetrics()
    metrics.add_objects(4, squares(0, 20, 40, 60), found_at(0, 20, 40))
    small = squares(0, 50)
    small[:, 8:10] = 0
    metrics.add_objects(7, squares(0, 100), FoundObjects(small, np.ones(2, np.float32)))
    metrics.add_objects(9, squares(), found_at(30))
    scores = metrics.compute()
    assert scores["f1"] == pytest.approx(2 * 4 / (6 + 6))
    assert scores["precision_objects"] == pytest.approx(4 / 6)
    assert scores["recall_objects"] == pytest.approx(4 / 6)
    assert scores["matched_iou"] == pytest.approx(3.8 / 4)
    assert scores["pq"] == pytest.approx(3.8 / (4 + 1 + 1))
    assert scores["aji"] == pytest.approx(380 / (400 + 300 + 100))
    assert scores["f1_images"] == pytest.approx((6 / 7 + 2 / 4) / 2)
    assert scores["pq_images"] == pytest.approx((3 / 3.5 + 0.8 / 2) / 2)
    assert scores["aji_images"] == pytest.approx((300 / 400 + 80 / 300) / 2)
    assert scores["count_error"] == pytest.approx((1 + 0 + 1) / 3)
    assert scores["count_bias"] == pytest.approx((-1 + 0 + 1) / 3)
    assert scores["f1_low"] < scores["f1"] < scores["f1_high"]
    assert metrics.per_image_objects()[7] == pytest.approx(
        {"true": 2, "found": 2, "matched": 1, "missed": 1, "extra": 1, "merged": 0, "split": 0, "count_error": 0}
        | {"f1": 0.5, "pq": 0.4, "aji": 80 / 300}
    )
    assert metrics.per_image_objects()[9]["extra"] == 1


def test_scores_of_classes_are_never_matched_across():
    metrics = ObjectMetrics(names=["a", "b"])
    classes = {1: 1, 2: 1, 3: 2, 4: 1}
    places = 0, 20, 40, 60
    metrics.add_objects(0, squares(*places), found_at(*places), true_classes=classes, found_classes=[1, 2, 2, 1])
    scores = metrics.compute()
    assert scores["f1"] == pytest.approx(6 / 8)
    assert scores["f1[a]"] == pytest.approx(0.8)
    assert scores["pq[b]"] == pytest.approx(2 / 3)
    assert scores["pq"] == pytest.approx((scores["pq[a]"] + scores["pq[b]"]) / 2)
    assert scores["ap"] == pytest.approx((scores["ap[a]"] + scores["ap[b]"]) / 2)
    assert metrics.per_image_objects()[0]["matched"] == 3


def test_merged_and_split_objects_are_told():
    metrics = ObjectMetrics()
    one = np.zeros((20, 200), dtype=np.int32)
    one[5:15, :30] = 1
    metrics.add_objects(0, squares(0, 10, 20), FoundObjects(one, np.ones(1, np.float32)))
    metrics.add_objects(1, one, found_at(0, 10, 20))
    told = metrics.per_image_objects()
    assert (told[0]["merged"], told[0]["split"], told[0]["missed"]) == (1, 0, 3)
    assert (told[1]["merged"], told[1]["split"], told[1]["extra"]) == (0, 1, 3)
    metrics.add_objects(2, squares(0, 10, 20, 30), found_at())
    metrics.add_objects(3, squares(0, 10), found_at(0, 10))
    assert metrics.telling_wholes(1) == {2: "most missed", 0: "most merged or split"}
    assert list(metrics.telling_wholes(5)) == [2, 0, 1]


def test_two_processes_are_one():
    """Their states are put together one after another, and both saw the first image."""
    images = {index: image(index, 40, classes=2) for index in range(5)} | {7: empty_image()}
    names = ["a", "b"]
    whole = metrics_of(images, names)
    parts = [metrics_of({at: images[at] for at in some}, names) for some in ([7, 0, 2, 4], [1, 3, 0])]
    parts[1].collect_nothing()
    both = ObjectMetrics(names=names)
    for state in ("object_images", "true_objects", "found_objects", "found_scores", "object_pairs"):
        assert len({tuple(one.shape[1:]) for part in parts for one in getattr(part, state)}) == 1
        setattr(both, state, torch.cat([torch.cat(getattr(part, state)) for part in parts]))
    both._update_count = 1
    assert both.compute() == whole.compute()
    for index, scores in whole.per_image_objects().items():
        assert both.per_image_objects()[index] == pytest.approx(scores, nan_ok=True)
    parts[0].reset()
    assert parts[0].by_image() == {}


@pytest.mark.filterwarnings("error")
def test_single_answers_are_scored_beside():
    metrics = ObjectMetrics()
    with pytest.warns(UserWarning, match="before"), pytest.raises(ValueError, match="no image was scored"):
        metrics.compute()
    metrics.add_objects(0, squares(0), found_at(0))
    assert metrics.compute()["f1"] == 1
    metrics.add_objects(1, squares(0), found_at(50))
    assert metrics.compute()["f1"] == 0.5
    assert "iou" not in metrics.compute()
    metrics.update(0, score(torch.tensor([[0.9, 0.9]]), torch.tensor([[1.0, 0.0]])), kind="box")
    assert metrics.compute()["iou"] == pytest.approx(0.5, abs=0.01)
    assert metrics.compute()["f1"] == 0.5


def test_thousands_of_objects_take_seconds():
    truth = cells(np.random.default_rng(0), 3000, 600)
    one = find_overlaps(truth, np.roll(truth, 1, 0))
    assert average_precision([one], [1])[0, 0] > 0.5


def row(tp: int, fp: int, fn: int) -> torch.Tensor:
    return scores_of(torch.tensor([tp, fp, fn, 100, 0.0], dtype=torch.float64))


def test_an_image_s_score_is_the_mean_over_kinds_not_over_its_many_objects():
    metrics = ObjectMetrics()
    for label in (1, 2, 3):
        metrics.update(0, row(label, 0, 4 - label), kind="box", label=label)
    metrics.update(0, row(9, 1, 0), kind="none", label=2)
    metrics.update(0, row(0, 7, 0), kind="none", label=5)  # nothing to find
    scores = metrics.per_image()[0]
    assert scores["iou"] == pytest.approx((0.5 + 0.9) / 2, abs=1e-3)
    assert scores["iou"] == pytest.approx(metrics.compute()["iou"])
    assert scores["tp"] == (2 + 9) / 2
    assert metrics.per_image("box")[0]["iou"] == pytest.approx(0.5, abs=1e-3)


def test_an_image_without_objects_is_right_if_no_object_is_found():
    metrics = ObjectAnswers()
    for index, speck, found in ((0, 3, found_at()), (1, 9, found_at(30)), (2, 0, found_at()), (3, 2, found_at())):
        metrics.update(index, row(0, speck, 0), kind="none", label=ALL_OBJECTS)
        metrics.add_objects(index, squares(), found)
    metrics.update(4, row(5, 0, 0), kind="none", label=ALL_OBJECTS)
    metrics.add_objects(4, squares(0), found_at(0, 50))
    assert metrics.compute()["empty_correct"] == 3 / 4
    assert ObjectMetrics.compute(metrics)["empty_correct"] == 1 / 4  # of the pixels


def test_scores_where_nothing_is_true():
    metrics = ObjectMetrics()
    metrics.add_objects(0, squares(), found_at())
    assert metrics.compute() == {"count_error": 0, "count_bias": 0}
    metrics.add_objects(1, squares(), found_at(30, 60))
    scores = metrics.compute()
    assert (scores["f1"], scores["pq"], scores["aji"], scores["precision_objects"]) == (0, 0, 0, 0)
    assert not {"f1_images", "pq_images", "aji_images", "ap", "recall_objects", "matched_iou"} & scores.keys()
    metrics.add_objects(2, squares(0, 20), found_at(0, 20))
    scores = metrics.compute()
    assert scores["f1"] == pytest.approx(4 / (2 + 4))  # the two of the image without objects are false
    assert scores["f1_images"] == scores["pq_images"] == scores["aji_images"] == 1
    assert np.isnan(metrics.per_image_objects()[0]["f1"])
    assert metrics.per_image_objects()[1]["f1"] == 0


def test_scores_are_of_the_setting_with_which_most_objects_are_found():
    metrics = ObjectMetrics()
    for index, truth in ((4, squares(0, 20)), (7, squares(50, 80, 110))):
        metrics.add_objects(index, truth, found_at(0), setting=0)
        for setting in (2, 1):
            metrics.add_objects(index, truth, FoundObjects(truth, np.ones(truth.max(), np.float32)), setting=setting)
    assert metrics.best_setting() == 1  # the first of two that are equally good
    assert metrics.compute()["f1"] == metrics.compute()["ap"] == 1
    assert metrics.per_image_objects()[7]["found"] == 3
    metrics.add_objects(9, squares(), found_at(0, 30, 60, 90, 120), setting=1)
    assert metrics.best_setting() == 2


@pytest.mark.parametrize(("truth", "rise"), [((5, 30), 0.1), ((5,), None)])
def test_peaks_of_cores_are_taken_where_more_objects_of_validation_are_found_so(
    truth: tuple[int, ...], rise: float | None, tmp_path: Path
):
    """Two objects that touch, and one long one, with the same maps: its core is weaker by .15 in the middle."""
    height = 64
    labels = torch.zeros(height, height, dtype=torch.int32)
    for number, column in enumerate(truth, start=1):
        labels[24:40, column : 55 if column == truth[-1] else 30] = number
    foreground, core = torch.full((2, height, height), 0.02)
    foreground[24:40, 5:55] = core[28:36, 8:52] = 0.9
    core[28:36, 28:32] = 0.75
    metrics = ObjectAnswers(search=True)
    batch = Batch(
        indices=[0],
        names=[""],
        pixel_values=None,
        annotations=[Annotation.of(labels)],
        queries=[Query(label=ALL_OBJECTS, learned=0), Query(label=CORES, learned=1)],
        original_sizes=[(height, height)],
        image_index=[0, 0],
    )
    metrics.update(0, row(800, 0, 0), kind="none", label=ALL_OBJECTS)
    metrics.collect_whole(batch, torch.stack([foreground, core]).logit(), Preprocessing(image_size=height))
    scores = metrics.compute()
    assert (scores["f1"], scores.get("best_core_rise")) == (1, rise)
    keeper = AdapterKeeper(tmp_path, "f1", "max")
    keeper.write = lambda trainer, pl_module: None
    keeper.on_validation_end(Mock(sanity_checking=False, current_epoch=0), Mock(TrainingModule, val_scores=scores))
    again = AdapterKeeper(tmp_path, "f1", "max")
    with patch.object(AdapterKeeper, "_written", lambda _: True):
        again.load_state_dict(keeper.state_dict())
    assert again.core_rise == rise
    assert "best_core_rise" not in again.scores
