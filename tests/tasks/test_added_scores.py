"""Scores that `--metrics` adds: those of counts, AUROC, and how they are collected beside the others."""

import warnings

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_precision, binary_recall, binary_specificity

from sam_adapter.batch import VOID, Annotation, Batch, Prompt, Query, Sample, Size
from sam_adapter.config.choices import AskedKind
from sam_adapter.config.registry import MORE_METRICS, look_up
from sam_adapter.config.scores import HEADINGS
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.metrics import AddedScores, Answer, FullSizeAnswer, OverlapMetrics, count_pixels, scores_of
from sam_adapter.tasks.metrics.counts import Counts, mean_ber, precision, recall, specificity
from sam_adapter.tasks.metrics.detection import auroc, highest_probability
from sam_adapter.tasks.pixels import sum_over_pixels

PUBLISHED = {"precision": binary_precision, "recall": binary_recall, "specificity": binary_specificity}
SQUARE = Preprocessing(image_size=64, resize="squash")
BOX, POINTS = Prompt(box=torch.zeros(4)), Prompt(points=torch.zeros(1, 2), point_labels=torch.ones(1))


def counts(tp: float, fp: float, fn: float, tn: float) -> Counts:
    return Counts(*torch.tensor([tp, fp, fn, tn, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("name", PUBLISHED)
def test_shares_are_those_of_torchmetrics(name: str):
    generator = torch.Generator().manual_seed(1)
    probabilities, target = torch.rand(20, 30, generator=generator), torch.rand(20, 30, generator=generator) > 0.7
    found = look_up(MORE_METRICS, name)(Counts(*count_pixels(probabilities, target, 0.4).unbind(-1)))
    assert found.item() == pytest.approx(PUBLISHED[name](probabilities, target.long(), 0.4).item(), abs=1e-6)


def test_shares_by_hand_also_of_empty_and_full_masks():
    # 3 of 4 marked are right, 3 of 5 are found, 10 of 11 are left
    given = counts(3, 1, 2, 10)
    assert (precision(given), recall(given), specificity(given)) == (3 / 4, 3 / 5, 10 / 11)
    assert mean_ber(given).item() == pytest.approx(100 * (2 / 5 + 1 / 11) / 2)
    for case, expected in {
        "nothing marked, nothing there": (counts(0, 0, 0, 9), (1, 1, 1)),
        "nothing marked, something there": (counts(0, 0, 4, 5), (0, 0, 1)),
        "all marked, nothing there": (counts(0, 9, 0, 0), (0, 1, 0)),
        "all marked, all there": (counts(9, 0, 0, 0), (1, 1, 1)),
        "nothing marked, all there": (counts(0, 0, 9, 0), (0, 0, 1)),
        "nothing counts": (counts(0, 0, 0, 0), (1, 1, 1)),
    }.items():
        assert tuple(one(expected[0]).item() for one in (precision, recall, specificity)) == expected[1], case
        assert mean_ber(expected[0]).item() == 100 - 50 * sum(expected[1][1:]), case


def weighted(values: list[float], present: list[bool]) -> float:
    return auroc(np.array(values), np.array(present), np.ones((1, len(values)))).item()


def test_auroc_by_hand():
    """Of the six pairs, 0.9 and 0.6 win over both lower ones, 0.3 over one and shares one."""
    assert weighted([0.9, 0.6, 0.3, 0.3, 0.1], [True, True, True, False, False]) == pytest.approx(5.5 / 6)
    assert weighted([0.9, 0.1], [True, False]) == 1
    assert weighted([0.1, 0.9], [True, False]) == 0
    assert weighted([0.5, 0.5], [True, False]) == 0.5
    for present in ([True, True], [False, False]):
        assert np.isnan(weighted([0.2, 0.3], present))


@pytest.mark.parametrize("steps", [4, 1000])
def test_auroc_is_that_of_torchmetrics_also_of_samples(steps: int):
    rng = np.random.default_rng(steps)
    values, present = rng.integers(0, steps, 50) / steps, rng.random(50) > 0.6
    weights = np.vstack([np.ones(50), rng.multinomial(50, np.full(50, 1 / 50), size=5)])
    found = auroc(values, present, weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        drawn = torch.from_numpy(np.repeat(np.arange(50), row))
        expected = binary_auroc(torch.from_numpy(values)[drawn], torch.from_numpy(present)[drawn].long())
        assert value == pytest.approx(expected.item(), abs=1e-6)


def test_the_score_of_a_picture_is_its_highest_probability():
    logits = torch.tensor([[-1.0, 3.0], [30.0, 0.0]])
    target, counted = np.zeros((2, 2), bool), np.array([[True, True], [False, True]])
    assert highest_probability(FullSizeAnswer(logits=logits, target=target)) == 1 / (1 + np.exp(-30.0))
    assert highest_probability(FullSizeAnswer(logits=logits + 1, target=target)) > 1 / (
        1 + np.exp(-30.0)
    )  # in float32 both are 1
    assert highest_probability(FullSizeAnswer(logits=logits, target=target, counted=counted)) == pytest.approx(
        1 / (1 + np.exp(-3.0))
    )
    assert highest_probability(FullSizeAnswer(logits=logits, target=target, counted=~counted & counted)) == 0
    assert highest_probability(FullSizeAnswer.of_mask(target, target)) == 0
    assert highest_probability(FullSizeAnswer.of_mask(~target, target)) == 1


@pytest.mark.parametrize("name", [name for name, entry in MORE_METRICS.items() if entry.of == "answer"])
def test_what_is_not_a_number_marks_nothing(name: str):
    logits, target = torch.randn(12, 15, generator=torch.Generator().manual_seed(4)), np.zeros((12, 15), bool)
    target[3:9, 4:9] = True
    broken, nothing = logits.clone(), logits.clone()
    broken[2:5, 3:8], nothing[2:5, 3:8] = torch.nan, -torch.inf
    score = look_up(MORE_METRICS, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(FullSizeAnswer(logits=broken, target=target)) == score(
            FullSizeAnswer(logits=nothing, target=target)
        )


def asked(*pictures: tuple[Size, list[Prompt], float]) -> Batch:
    """Pictures with some share of foreground, with void, that are asked with some prompts."""
    samples = []
    for index, (size, prompts, share) in enumerate(pictures):
        rng = np.random.default_rng(index)
        labels = (rng.random(size) < share).astype(np.uint8)
        labels[rng.random(size) < 0.1] = VOID
        queries = [Query(prompt=prompt) for prompt in prompts]
        samples.append(Sample(10 + index, "", None, Annotation.of(torch.from_numpy(labels)), queries, size))
    return Batch.collate(samples)


THRESHOLDS: dict[AskedKind, float] = {"box": 0.3, "points": 0.5, "none": 0.6}


def test_what_is_collected_is_what_each_answer_scores_alone():
    """At original size, with the threshold of its kind of prompt, with the void, and in the order of the queries."""
    batch = asked(((20, 30), [BOX, Prompt()], 0.5), ((9, 7), [Prompt()], 0.0), ((20, 30), [BOX, POINTS, Prompt()], 0.3))
    logits = torch.randn(6, 64, 64, generator=torch.Generator().manual_seed(0))
    names = ("recall", "hd95", "auroc", "s_measure")
    metrics = OverlapMetrics(THRESHOLDS, added=AddedScores(names, spacing=(2.0, 0.5)))
    sums = sum_over_pixels(logits, batch, SQUARE, metrics.reduces(batch))
    metrics.collect(batch, sums, answers=metrics.answers(logits, batch, SQUARE))
    found = metrics.per_prompt()
    assert len(found) == 6
    for at, (query, image) in enumerate(zip(batch.queries, batch.image_index, strict=True)):
        annotation, kind = batch.annotations[image], query.prompt.kind
        assert annotation is not None
        counted = annotation.counted()
        assert counted is not None
        given = FullSizeAnswer(
            logits=SQUARE.to_original_size(logits[at : at + 1], batch.original_sizes[image])[0],
            target=annotation.target(1).numpy(),
            counted=counted.numpy(),
            threshold=THRESHOLDS[kind],
            spacing=(2.0, 0.5),
        )
        row = found[Answer(10 + image, kind)]
        assert list(row)[-6:-2] == ["recall", "hd95", "highest_probability", "s_measure"]
        for name in ("hd95", "s_measure"):
            assert row[name] == pytest.approx(look_up(MORE_METRICS, name)(given), abs=1e-12)
        assert row["highest_probability"] == pytest.approx(highest_probability(given))
        target = given.target
        assert row["recall"] == pytest.approx((given.mask & target).sum() / target.sum() if target.any() else 1)
        assert row["tp"] == (given.mask & target).sum()


Row = tuple[int, AskedKind, float, bool]
"""Image, kind of prompt, value of both scores, and whether there is foreground."""


def collected(rows: list[Row]) -> OverlapMetrics:
    """Pictures of two pixels with given values in place of their recall and highest probability."""
    metrics = OverlapMetrics(added=AddedScores(("recall", "auroc")))
    for index, kind, value, present in rows:
        row = scores_of(count_pixels(torch.tensor([[1.0, 0]]), torch.tensor([[float(present), 0]])))
        metrics.update(index, row, kind=kind, added=torch.tensor([value, value]))
    return metrics


def test_added_scores_are_means_with_intervals_and_auroc_is_of_all_pictures_without_a_prompt():
    filled: list[Row] = [(0, "box", 0.2, True), (0, "none", 0.8, True), (1, "box", 0.4, True), (1, "none", 0.3, True)]
    metrics = collected([*filled, (2, "none", 0.5, False), (3, "none", 0.1, False)])
    found = metrics.compute()
    assert found["recall_box"] == pytest.approx(0.3)
    assert found["recall_none"] == pytest.approx(0.55)  # pictures without foreground are not in the mean
    assert found["recall"] == pytest.approx(0.425)
    assert found["recall_box_low"] == pytest.approx(0.2)
    assert found["recall_box_high"] == pytest.approx(0.4)
    assert found["auroc"] == found["auroc_none"] == pytest.approx(3 / 4)
    assert found["auroc_low"] == found["auroc_none_low"] < 0.75 < found["auroc_high"]
    assert "auroc_box" not in found
    assert metrics.per_prompt()[Answer(2, "none")]["highest_probability"] == 0.5
    assert metrics.compute() == found


def test_auroc_is_absent_where_nothing_was_asked_without_a_prompt():
    found = collected([(0, "box", 0.8, True), (1, "points", 0.3, True)]).compute()
    assert not [name for name in found if name.startswith("auroc")]


@pytest.mark.parametrize("present", [True, False])
def test_auroc_is_absent_where_all_pictures_are_of_one_sort(present: bool):
    found = collected([(0, "none", 0.8, present), (1, "none", 0.3, present)]).compute()
    assert not [name for name in found if name.startswith("auroc")]
    assert ("recall" in found) == present


def test_auroc_intervals_leave_out_samples_of_one_sort():
    found = collected([(0, "none", 0.8, True), (1, "none", 0.9, False)]).compute()
    assert (found["auroc_low"], found["auroc"], found["auroc_high"]) == (0, 0, 0)


def test_wrong_numbers_of_values_are_refused():
    row = scores_of(count_pixels(torch.zeros(1, 2), torch.zeros(1, 2)))
    with pytest.raises(ValueError, match="values of recall, highest_probability, got 0"):
        OverlapMetrics(added=AddedScores(("recall", "auroc"))).update(0, row, kind="none")
    with pytest.raises(ValueError, match="no added score, got 1"):
        OverlapMetrics().update(0, row, kind="none", added=torch.zeros(1))


def test_a_process_without_answers_has_rows_of_the_same_length():
    metrics = collected([(0, "none", 0.8, True)])
    metrics.collect_nothing()
    assert {one.shape[1] for one in metrics.rows} == {metrics.rows[0].shape[1]}


def test_answers_are_not_made_where_counts_are_enough():
    def never():
        raise AssertionError
        yield

    batch = asked(((5, 6), [Prompt()], 0.5))
    for names in ((), ("precision", "specificity")):
        metrics = OverlapMetrics(added=AddedScores(names))
        sums = sum_over_pixels(torch.randn(1, 8, 8), batch, SQUARE, metrics.reduces(batch))
        metrics.collect(batch, sums, answers=never())
        assert set(names) <= metrics.compute().keys()


def test_every_added_score_has_a_place_and_a_heading():
    shown = [entry.heading for entry in MORE_METRICS.values()]
    assert len({*shown, *HEADINGS.values()}) == len(shown) + len(HEADINGS)
    assert not MORE_METRICS.keys() & HEADINGS.keys()
    for name in MORE_METRICS:
        assert callable(look_up(MORE_METRICS, name))
