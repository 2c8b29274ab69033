"""What every task keeps to: queries from annotations, scores of answers, and a prediction for each image."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_adapter.annotations.reading.classes import Classes
from sam_adapter.batch import VOID, Annotation, Batch, Output, Query, Sample, Size
from sam_adapter.config.choices import ASKED_KINDS, PromptKind
from sam_adapter.config.options import PromptOptions
from sam_adapter.config.registry import TASKS, look_up
from sam_adapter.config.scores import HEADINGS, LOWER_IS_BETTER
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.base import Task
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.tasks.splitting import core_map

SIDE = 64
SURE = 40.0
"""Logit of a pixel about which there is no doubt."""
SIZES: list[Size] = [(64, 64), (40, 56)]
KINDS: tuple[PromptKind, ...] = ("box", "points", "none", "mask", "mixed")


@pytest.fixture(params=[(name, kind) for name in TASKS for kind in KINDS], ids="-".join)
def task(request: pytest.FixtureRequest) -> Task:
    name, kind = request.param
    options = PromptOptions(prompt=kind, negative_points=2, positive_points=2)
    task: Task = look_up(TASKS, name).from_options(options, Classes(names=("disc",)) if TASKS[name].classes else None)
    assert task.name == name
    return task


def annotation(size: Size = (SIDE, SIDE), *, void: bool = True) -> Annotation:
    """Foreground, background and, in stripes over both, void."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = ((rows - size[0] / 2) ** 2 + (columns - size[1] / 2) ** 2 < (min(size) / 3) ** 2).astype(np.uint8)
    if void:
        labels[rows % 7 == 3] = VOID
    return Annotation.of(torch.from_numpy(labels), cores=torch.from_numpy(core_map(labels.astype(np.int32))))


def same(one: Query, other: Query) -> bool:
    masks = [None if query.prompt.mask is None else query.prompt.mask.bits for query in (one, other)]
    pairs = [*zip(one.prompt.tensors, other.prompt.tensors, strict=True), masks]
    return one.label == other.label and all(
        torch.equal(a, b) if a is not None and b is not None else a is b for a, b in pairs
    )


@pytest.mark.parametrize("asked", ["training_queries", "evaluation_queries"])
def test_queries_follow_from_the_random_numbers(task: Task, asked: str):
    first, again = (getattr(task, asked)(annotation(), np.random.default_rng(5)) for _ in range(2))
    assert first
    assert len(first) == len(again)
    assert all(map(same, first, again))


@pytest.mark.parametrize("asked", ["training_queries", "evaluation_queries"])
def test_nothing_is_asked_where_all_is_void(task: Task, asked: str):
    nothing = Annotation.of(torch.full((8, 9), VOID, dtype=torch.uint8))
    assert getattr(task, asked)(nothing, np.random.default_rng(0)) == []


@pytest.mark.parametrize("asked", ["training_queries", "evaluation_queries"])
def test_what_is_asked_for_and_pointed_at_is_not_void(task: Task, asked: str):
    given = annotation()
    counted = given.counted()
    assert counted is not None
    for query in getattr(task, asked)(given, np.random.default_rng(1)):
        target = given.target(query.label)
        assert target.any()
        assert not (target & ~counted).any()
        points, labels = query.prompt.points, query.prompt.point_labels
        if points is not None and labels is not None:
            columns, rows = points.long().unbind(-1)
            assert counted[rows, columns].all()
            assert torch.equal(target[rows, columns], labels == 1)
        if query.prompt.box is not None:
            left, top, right, bottom = query.prompt.box.tolist()
            rows, columns = target.nonzero().unbind(-1)
            assert 0 <= left <= columns.min()
            assert 0 <= top <= rows.min()
            assert columns.max() <= right <= SIDE - 1
            assert rows.max() <= bottom <= SIDE - 1


def batch_of(samples: list[tuple[Annotation, list[Query]]]) -> Batch:
    made = []
    for index, (given, queries) in enumerate(samples):
        height, width = given.labels.shape
        made.append(Sample(index, str(index), None, given, queries, (height, width)))
    return Batch.collate(made)


def output_of(targets: list[Tensor]) -> Output:
    """Answers that leave no doubt, of one mask each."""
    logits = torch.stack([(target.float() * 2 - 1) * SURE for target in targets])[:, None]
    return Output(logits, torch.ones(len(targets), 1))


def test_a_perfect_answer_has_perfect_scores_and_a_wrong_one_has_not(task: Task):
    given = annotation()
    batch = batch_of([(given, task.evaluation_queries(given, np.random.default_rng(2)))])
    preprocessing = Preprocessing(image_size=SIDE)
    found = {}
    for right in (True, False):
        targets = [given.target(query.label) == right for query in batch.queries]
        logits, metrics = task.mask_logits(output_of(targets)), task.metrics({}, search=True, curves=True)
        assert logits.shape == (len(batch.queries), SIDE, SIDE)
        metrics.collect(batch, sum_over_pixels(logits, batch, preprocessing, metrics.reduces(batch)))
        found[right] = metrics.compute()
    assert found[True]["images"] == 1
    for name in HEADINGS:
        assert (found[False][name] > found[True][name]) == (name in LOWER_IS_BETTER), name
    for name, best in (("iou", 1), ("dice", 1), ("mae", 0), ("ber", 0)):
        assert found[True][name] == pytest.approx(best, abs=1e-6), name
    asked = {query.prompt.kind for query in batch.queries}
    assert {kind for kind in ASKED_KINDS if f"iou_{kind}" in found[True]} == asked


def test_predictions_are_masks_at_original_size(task: Task):
    """One query an image: a prediction for each, with the threshold of its kind of prompt."""
    given = [annotation(size) for size in SIZES]
    asked = [task.evaluation_queries(one, np.random.default_rng(4))[:1] for one in given]
    batch = batch_of(list(zip(given, asked, strict=True)))
    output = Output(torch.zeros(len(SIZES), 1, 16, 16), torch.ones(len(SIZES), 1))  # probability .5 everywhere
    for threshold, marked in ((0.4, True), (0.6, False)):
        found = task.predictions(batch, output, Preprocessing(image_size=SIDE), dict.fromkeys(ASKED_KINDS, threshold))
        assert [one.original_size for one in found] == SIZES
        for one in found:
            pixels = one.values().pixels
            assert pixels.shape == one.original_size
            assert bool(pixels.all()) == bool(pixels.any()) == marked
            assert one.regions().labels.shape == one.original_size
            assert len(one.regions().shown) == (1 if marked else 0)
            (probability,) = one.probability_maps().values()
            assert torch.allclose(probability, torch.full(one.original_size, 0.5))
