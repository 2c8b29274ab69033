import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from sam_adapter.batch import VOID, Annotation, Batch, Prompt, Query, Sample
from sam_adapter.config.choices import AskedKind, parse_loss
from sam_adapter.config.registry import LOSSES, look_up
from sam_adapter.errors import ConfigError
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.metrics import COLUMNS, OverlapMetrics, ThresholdCurve, score, threshold_ious
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.training.losses.base import Loss, WeightedLosses
from sam_adapter.training.losses.cross_entropy import bce
from sam_adapter.training.losses.overlap import dice

ALL: dict[str, Loss] = {name: look_up(LOSSES, name) for name in LOSSES}


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 20, 30, generator=generator), (torch.rand(1, 20, 30, generator=generator) > 0.7).float()


def test_losses_against_their_definitions():
    logits, target = example()
    p, t = logits.sigmoid().double(), target.double()
    cross = -(t * p.log() + (1 - t) * (1 - p).log())
    inter, total = (p * t).sum(), (p + t).sum()
    expected = {
        "bce": cross.mean(),
        "balanced_bce": (cross[t == 1].mean() + cross[t == 0].mean()) / 2,
        "iou": 1 - (inter + 1e-3) / (total - inter + 1e-3),
        "dice": 1 - (2 * inter + 1e-3) / (total + 1e-3),
    }
    for name, value in expected.items():
        assert ALL[name](logits, target).item() == pytest.approx(value.item(), abs=1e-6), name


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_losses_on_empty_and_full_masks_are_finite_and_reward_the_right_answer(fill: float):
    target = torch.full((1, 8, 8), fill)
    for name, loss in ALL.items():
        right, wrong = (torch.full((1, 8, 8), value) for value in ((fill - 0.5) * 40, (0.5 - fill) * 40))
        assert torch.isfinite(loss(wrong, target)), name
        assert loss(right, target) < 1e-2 < loss(wrong, target), name


SQUARE = Preprocessing(image_size=64, resize="squash")
"""Logits of any size are those of the whole picture."""


def batch_of(targets: Sequence[torch.Tensor], counted: Sequence[torch.Tensor | None] | None = None) -> Batch:
    """Pictures with targets ``(H, W)``, of which one thing is asked each."""
    samples = []
    for index, (target, some) in enumerate(zip(targets, counted or [None] * len(targets), strict=True)):
        labels = target.to(torch.uint8)
        if some is not None:
            labels[~some] = VOID
        size = (target.shape[0], target.shape[1])
        samples.append(Sample(index, str(index), None, Annotation.of(labels), [Query()], size))
    return Batch.collate(samples)


def test_the_loss_of_a_batch_is_weighed_and_has_its_terms_for_images_of_different_size():
    sizes = [(20, 30), (5, 7)]
    batch = batch_of([torch.rand(size) > 0.6 for size in sizes])
    low = torch.randn(2, 64, 64)
    loss = WeightedLosses(parse_loss("0.5*bce + 2*dice"))
    (sums,) = sum_over_pixels(low, batch, SQUARE, [loss])
    terms = loss.terms(sums)
    for at, size in enumerate(sizes):
        annotation = batch.annotations[at]
        assert annotation is not None
        logits, target = SQUARE.to_original_size(low[at : at + 1], size), annotation.target(1)[None]
        torch.testing.assert_close(terms["bce"][at], bce(logits, target)[0])
        torch.testing.assert_close(terms["dice"][at], dice(logits, target)[0])
    torch.testing.assert_close(loss.weighted(terms), 0.5 * terms["bce"] + 2 * terms["dice"])


def test_masks_of_one_size_together_lose_what_each_loses_alone():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 2, 20, 30, generator=generator)
    targets = torch.rand(3, 2, 20, 30, generator=generator) > 0.6
    for loss in ALL.values():
        alone = torch.stack([loss(one, target) for one, target in zip(logits[:, 1], targets[:, 1], strict=True)])
        assert alone.shape == (3,)
        torch.testing.assert_close(loss(logits, targets)[:, 1], alone)


def test_images_of_one_size_in_a_batch_lose_what_each_loses_alone():
    sizes = [(20, 30), (5, 7), (20, 30), (9, 4), (5, 7)]
    generator = torch.Generator().manual_seed(3)
    low = torch.randn(5, 64, 64, generator=generator)
    targets = [torch.rand(size, generator=generator) > 0.6 for size in sizes]
    loss = WeightedLosses(dict.fromkeys(LOSSES, 1.0))
    (sums,) = sum_over_pixels(low, batch_of(targets), SQUARE, [loss])
    found = loss.terms(sums)
    logits = [SQUARE.to_original_size(one[None], size)[0] for one, size in zip(low, sizes, strict=True)]
    for name, one in ALL.items():
        alone = torch.stack([one(given, target) for given, target in zip(logits, targets, strict=True)])
        torch.testing.assert_close(found[name], alone)


@pytest.mark.parametrize("text", ["", "bce+", "nonsense", "bce-iou", "2bce", "bce*2"])
def test_wrong_loss_is_named(text: str):
    with pytest.raises(ConfigError, match="loss"):
        parse_loss(text)


def named(scores: torch.Tensor) -> dict[str, float]:
    """Scores of one mask by name."""
    return dict(zip(COLUMNS, scores.tolist(), strict=True))


def test_scores_against_torchmetrics():
    logits, target = example(2)
    p = logits.sigmoid()[0]
    found = named(score(p, target[0]))
    assert found["iou"] == pytest.approx(BinaryJaccardIndex()(p, target[0].long()).item(), abs=1e-5)
    assert found["dice"] == pytest.approx(BinaryF1Score()(p, target[0].long()).item(), abs=1e-5)
    assert found["mae"] == pytest.approx((p - target[0]).abs().mean().item(), abs=1e-6)
    assert sum(found[name] for name in ("tp", "fp", "fn", "tn")) == p.numel()
    assert threshold_ious(p, target[0])[31] == pytest.approx(found["iou"])  # at one half


def test_several_masks_score_as_each_alone():
    probabilities, targets = torch.rand(3, 5, 6), torch.rand(3, 5, 6) > 0.5
    alone = torch.stack([score(one, target, 0.4) for one, target in zip(probabilities, targets, strict=True)])
    assert torch.equal(score(probabilities, targets, 0.4), alone)


def test_empty_and_full_ground_truth():
    empty, full = torch.zeros(4, 4), torch.ones(4, 4)
    for mask in (empty, full):
        found = named(score(mask, mask))
        assert (found["iou"], found["dice"]) == (1, 1)
    assert named(score(full, empty))["iou"] < 1e-3


Answer = tuple[int, AskedKind, Sequence[float], Sequence[float]]


def metrics_of(*rows: Answer) -> OverlapMetrics:
    """From (image, kind, probabilities, target)."""
    metrics = OverlapMetrics()
    for index, kind, probabilities, target in rows:
        metrics.update(index, score(torch.tensor([probabilities]), torch.tensor([target])), kind=kind)
    return metrics


def test_balanced_error_rate_counts_pixels_of_the_whole_set():
    metrics = metrics_of((0, "box", [1.0, 0, 0, 0], [1.0, 1, 0, 0]), (1, "box", [1.0, 1, 0, 0], [1.0, 0, 0, 0]))
    # foreground: 1 of 3 missed; background: 1 of 5 wrong
    assert metrics.compute()["ber"] == pytest.approx(100 * (1 / 3 + 1 / 5) / 2)
    full = metrics_of((0, "box", [1.0, 0.0], [1.0, 1.0]))
    assert full.compute()["ber"] == pytest.approx(50)


def test_an_image_seen_twice_counts_once():
    rng = np.random.default_rng(0)
    rows = [score(torch.from_numpy(rng.random((5, 5))), torch.from_numpy(rng.random((5, 5)) > 0.5)) for _ in range(3)]
    once, twice = OverlapMetrics(), OverlapMetrics()
    for index in (0, 1, 2):
        once.update(index, rows[index], kind="box")
    for index in (2, 0, 1, 0):
        twice.update(index, rows[index], kind="box")
    assert once.compute() == pytest.approx(twice.compute())
    assert list(twice.per_image()) == [0, 1, 2]


def test_each_kind_of_prompt_is_scored_apart_and_together():
    metrics = metrics_of(
        (0, "box", [1, 1, 0, 0], [1, 1, 0, 0]),
        (0, "none", [1, 0, 0, 0], [1, 1, 0, 0]),
        (1, "box", [1, 1, 1, 1], [1, 1, 0, 0]),
        (1, "none", [0, 0, 0, 0], [1, 1, 0, 0]),
    )
    scores = metrics.compute()
    assert scores["iou_box"] == pytest.approx((1 + 0.5) / 2, abs=1e-3)
    assert scores["iou_none"] == pytest.approx((0.5 + 0) / 2, abs=1e-3)
    assert scores["iou"] == pytest.approx((scores["iou_box"] + scores["iou_none"]) / 2)
    assert scores["ber"] == pytest.approx((scores["ber_box"] + scores["ber_none"]) / 2)
    assert "iou_points" not in scores
    assert scores["images"] == 2
    assert metrics.per_image()[0]["iou"] == pytest.approx(0.75, abs=1e-3)
    assert metrics.per_image("none")[0]["iou"] == pytest.approx(0.5, abs=1e-3)


def test_images_without_foreground_are_scored_apart():
    filled: list[Answer] = [(0, "box", [1, 1, 0, 0], [1, 0, 0, 0]), (1, "box", [1, 0, 0, 0], [1, 0, 0, 0])]
    wrong: Answer = (2, "none", [0, 0, 1, 0], [0, 0, 0, 0])
    right: Answer = (3, "none", [0, 0, 0, 0], [0, 0, 0, 0])
    alone, together = (
        metrics_of(*filled).compute(),
        metrics_of(*filled, wrong, right, (4, "none", *right[2:])).compute(),
    )
    assert {name: together[name] for name in alone if name not in ("images", "empty")} == {
        name: value for name, value in alone.items() if name not in ("images", "empty")
    }
    assert "empty_correct" not in alone
    assert "iou_none" not in together
    assert together["empty_correct"] == pytest.approx(2 / 3)
    assert (together["images"], together["empty"]) == (5, 3)
    only = metrics_of(right).compute()
    assert "iou" not in only
    assert only["empty_correct"] == 1


def test_bootstrap_intervals_are_those_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 100, 200)
    metrics = OverlapMetrics()
    for index, marked in enumerate(values.tolist()):
        target, found = torch.zeros(1, 100), torch.zeros(1, 100)
        target[0], found[0, :marked] = 1, 1
        metrics.update(index, score(found, target), kind="points")
    scores = metrics.compute()
    deviation = (values / 100).std() / 200**0.5
    assert scores["iou_low"] == pytest.approx(scores["iou"] - 1.96 * deviation, abs=0.2 * deviation)
    assert scores["iou_high"] == pytest.approx(scores["iou"] + 1.96 * deviation, abs=0.2 * deviation)
    assert scores["iou_points_low"] == scores["iou_low"]
    assert metrics.compute() == scores
    single = metrics_of((0, "box", [1, 0], [1, 1])).compute()
    assert "iou" in single
    assert not [name for name in single if name.endswith(("_low", "_high"))]  # one picture says nothing of others


COUNTED = torch.tensor([[[True, True, True, False], [True, True, False, False]]])


@pytest.mark.parametrize("name", LOSSES)
def test_void_pixels_do_not_count_in_losses(name: str):
    logits, target = example(4)
    logits, target = logits[:, :2, :4], (torch.arange(8).reshape(1, 2, 4) % 2).float()
    loss = ALL[name]
    counted = COUNTED[0]
    logits.requires_grad_()
    found = loss(logits, target, COUNTED)
    if loss.target_map is None:  # else where the pixels lie matters
        torch.testing.assert_close(found, loss(logits[0][counted][None, None], target[0][counted][None, None]))
    torch.testing.assert_close(found, loss(torch.where(COUNTED, logits, -logits), target, COUNTED))
    torch.testing.assert_close(found, loss(logits, torch.where(COUNTED, target, 1 - target), COUNTED))
    found.backward()
    assert logits.grad is not None
    assert not logits.grad[~COUNTED].any()
    assert logits.grad[COUNTED].all()
    nothing = loss(logits, target, torch.zeros_like(COUNTED))
    assert nothing.item() == pytest.approx(0, abs=1e-6)


def test_void_pixels_do_not_count_in_scores():
    probabilities, target = torch.rand(2, 4), (torch.arange(8).reshape(2, 4) % 2).float()
    found = score(probabilities, target, valid=COUNTED[0])
    torch.testing.assert_close(found, score(probabilities[COUNTED[0]][None], target[COUNTED[0]][None]))
    assert sum(named(found)[name] for name in ("tp", "fp", "fn", "tn")) == 5
    metrics = OverlapMetrics()
    metrics.update(0, found, kind="box")
    only = metrics.compute()
    metrics.update(1, score(probabilities, target, valid=torch.zeros(2, 4, dtype=torch.bool)), kind="box")
    assert metrics.compute() == only  # nothing is known about this image


@pytest.mark.parametrize("name", LOSSES)
def test_losses_refuse_shapes_that_would_be_broadcast(name: str):
    loss = ALL[name]
    for logits, target in ((torch.zeros(1, 4, 5), torch.ones(3, 4, 5)), (torch.zeros(1, 4, 1), torch.ones(1, 4, 5))):
        with pytest.raises(ValueError, match=re.escape(f"{tuple(logits.shape)} and {tuple(target.shape)}")):
            loss(logits, target)
        with pytest.raises(ValueError, match="same shape"):
            WeightedLosses({name: 1.0})(logits, target, None, [0])
    with pytest.raises(ValueError, match="'valid'"):
        loss(torch.zeros(1, 4, 5), torch.zeros(1, 4, 5), torch.ones(1, 1, 5, dtype=torch.bool))


def test_scores_refuse_shapes_that_would_be_broadcast():
    with pytest.raises(ValueError, match=r"\(1, 4, 5\) and \(3, 4, 5\)"):
        score(torch.zeros(1, 4, 5), torch.ones(3, 4, 5))
    with pytest.raises(ValueError, match="'valid'"):
        score(torch.zeros(4, 5), torch.ones(4, 5), valid=torch.ones(1, 5, dtype=torch.bool))


@pytest.mark.parametrize("scored", [threshold_ious, lambda *masks: ThresholdCurve().update(*masks)])
def test_scores_at_thresholds_refuse_shapes_that_would_be_broadcast(scored):
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(4,\)"):
        scored(torch.zeros(4, 5), torch.ones(4))
    with pytest.raises(ValueError, match="'valid'"):
        scored(torch.zeros(4, 5), torch.ones(4, 5), torch.ones(1, 5, dtype=torch.bool))


def test_the_loss_is_the_mean_over_images_of_the_mean_over_kinds():
    metrics = OverlapMetrics()
    row = score(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    answers: list[tuple[int, AskedKind, float]] = [(0, "box", 1), (0, "none", 3), (1, "box", 5)]
    for index, kind, loss in answers:
        metrics.update(index, row, kind=kind, loss=torch.tensor(loss))
    assert metrics.compute()["loss"] == pytest.approx(3.5)


def test_curves_count_more_pixels_than_single_precision_can():
    curve, counts = ThresholdCurve(), torch.zeros(513, dtype=torch.float64)
    counts[:256], counts[512] = 2**24, 2**25
    curve.add(counts)
    counts[:256], counts[512] = 1, 0
    curve.add(counts)
    assert (curve.recall * 2**25).tolist() == [2**24 + 1] * 256


def test_images_with_void_and_without_are_computed_together():
    low, targets = torch.randn(4, 64, 64), [torch.ones(4, 5)] * 4
    valid = [None, torch.rand(4, 5) > 0.5, None, torch.rand(4, 5) > 0.5]
    loss = WeightedLosses({"bce": 1.0})
    (sums,) = sum_over_pixels(low, batch_of(targets, valid), SQUARE, [loss])
    logits = SQUARE.to_original_size(low, (4, 5))
    alone = [bce(one, target, some) for one, target, some in zip(logits, targets, valid, strict=True)]
    torch.testing.assert_close(loss.terms(sums)["bce"], torch.stack(alone))


def test_what_is_collected_of_a_batch_is_what_each_answer_scores_alone():
    """Thresholds by kind of prompt, IoU at 63 of them, curves, and the loss."""
    torch.manual_seed(0)
    sizes = [(20, 30), (5, 7), (20, 30)]
    prompts = [Prompt(box=torch.zeros(4)), Prompt(), Prompt(points=torch.zeros(1, 2), point_labels=torch.ones(1))]
    voids = [None, torch.rand(5, 7) > 0.3, torch.rand(20, 30) > 0.5]
    samples = []
    for index, (size, void) in enumerate(zip(sizes, voids, strict=True)):
        annotation = batch_of([torch.rand(size) > 0.6], [void]).annotations[0]
        samples.append(Sample(10 + index, "", None, annotation, [Query(prompt=one) for one in prompts], size))
    batch = Batch.collate(samples)
    low, losses = 2 * torch.randn(9, 64, 64), torch.rand(9)
    thresholds: dict[AskedKind, float] = {"box": 0.3, "points": 0.7}
    found = OverlapMetrics(thresholds, search=True, curves=True)
    found.collect(batch, sum_over_pixels(low, batch, SQUARE, found.reduces(batch)), losses)
    alone, curves = OverlapMetrics(), {kind: ThresholdCurve() for kind in ("box", "points", "none")}
    for at, (query, image) in enumerate(zip(batch.queries, batch.image_index, strict=True)):
        probabilities = SQUARE.to_original_size(low[at : at + 1], sizes[image])[0].sigmoid()
        annotation, kind = batch.annotations[image], query.prompt.kind
        assert annotation is not None
        truth = annotation.target(1), annotation.counted()
        row = score(probabilities, truth[0], {"none": 0.5, **thresholds}[kind], valid=truth[1])
        ious = threshold_ious(probabilities, *truth)
        alone.update(10 + image, row, kind=kind, loss=losses[at], ious=ious)
        curves[kind].update(probabilities, *truth)
    assert len(found.per_prompt()) == 9
    for key, scores in alone.per_prompt().items():
        assert found.per_prompt()[key] == pytest.approx(scores)
    assert found.compute() == pytest.approx(alone.compute())
    assert len({found.compute()[f"best_threshold_{kind}"] for kind in curves}) > 1
    assert found.curves is not None
    assert found.curves.keys() == curves.keys()
    for kind, curve in found.curves.items():
        for name in ("precision", "recall", "dice", "iou"):
            torch.testing.assert_close(getattr(curve, name), getattr(curves[kind], name))
