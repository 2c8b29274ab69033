import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from golden_cases import mean_loss
from sam_adapter.config.options import AskedKind, parse_loss
from sam_adapter.errors import ConfigError
from sam_adapter.tasks.metrics import OverlapMetrics, score
from sam_adapter.training import losses


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
        assert losses.LOSSES[name](logits, target).item() == pytest.approx(value.item(), abs=1e-6), name


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_losses_on_empty_and_full_masks_are_finite_and_reward_the_right_answer(fill: float):
    target = torch.full((1, 8, 8), fill)
    for name, loss in losses.LOSSES.items():
        right, wrong = (torch.full((1, 8, 8), value) for value in ((fill - 0.5) * 40, (0.5 - fill) * 40))
        assert torch.isfinite(loss(wrong, target)), name
        assert loss(right, target) < 1e-2 < loss(wrong, target), name


def test_the_mean_loss_averages_images_of_different_size():
    one, two = example(1), (torch.randn(1, 5, 7), torch.ones(1, 5, 7))
    total, terms = mean_loss([one[0], two[0]], [one[1], two[1]], parse_loss("0.5*bce + 2*dice"))
    bce = (losses.bce(*one) + losses.bce(*two)) / 2
    dice = (losses.dice(*one) + losses.dice(*two)) / 2
    torch.testing.assert_close(total, 0.5 * bce + 2 * dice)
    torch.testing.assert_close(terms["bce"], bce)


def test_images_of_one_size_together_lose_what_each_loses_alone():
    sizes = [(20, 30), (5, 7), (20, 30), (9, 4), (5, 7)]
    generator = torch.Generator().manual_seed(3)
    logits = [torch.randn(2, *size, generator=generator) for size in sizes]
    targets = [torch.rand(2, *size, generator=generator) > 0.6 for size in sizes]
    found = losses.image_losses(logits, targets, losses.LOSSES)
    for name, loss in losses.LOSSES.items():
        alone = torch.stack([loss(one, target.float()) for one, target in zip(logits, targets, strict=True)])
        torch.testing.assert_close(found[name], alone)


@pytest.mark.parametrize("text", ["", "bce+", "focal", "bce-iou", "2bce", "bce*2"])
def test_wrong_loss_is_named(text: str):
    with pytest.raises(ConfigError, match="loss"):
        parse_loss(text)


def test_scores_against_torchmetrics():
    logits, target = example(2)
    p = logits.sigmoid()[0]
    iou, dice, mae, tp, fp, fn, tn = score(p, target[0]).tolist()
    assert iou == pytest.approx(BinaryJaccardIndex()(p, target[0].long()).item(), abs=1e-5)
    assert dice == pytest.approx(BinaryF1Score()(p, target[0].long()).item(), abs=1e-5)
    assert mae == pytest.approx((p - target[0]).abs().mean().item(), abs=1e-6)
    assert tp + fp + fn + tn == p.numel()


def test_several_masks_score_as_each_alone():
    probabilities, targets = torch.rand(3, 5, 6), torch.rand(3, 5, 6) > 0.5
    alone = torch.stack([score(one, target, 0.4) for one, target in zip(probabilities, targets, strict=True)])
    assert torch.equal(score(probabilities, targets, 0.4), alone)


def test_empty_and_full_ground_truth():
    empty, full = torch.zeros(4, 4), torch.ones(4, 4)
    assert score(empty, empty)[:2].tolist() == [1, 1]
    assert score(full, full)[:2].tolist() == [1, 1]
    assert score(full, empty)[0] < 1e-3


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
    assert single["iou_low"] == single["iou"] == single["iou_high"]


VOID = torch.tensor([[[True, True, True, False], [True, True, False, False]]])


@pytest.mark.parametrize("name", losses.LOSSES)
def test_void_pixels_do_not_count_in_losses(name: str):
    logits, target = example(4)
    logits, target = logits[:, :2, :4], (torch.arange(8).reshape(1, 2, 4) % 2).float()
    loss = losses.LOSSES[name]
    counted = VOID[0]
    expected = loss(logits[0][counted][None, None], target[0][counted][None, None])
    logits.requires_grad_()
    found = loss(logits, target, VOID)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, loss(logits, torch.where(VOID, target, 1 - target), VOID))
    found.backward()
    assert logits.grad is not None
    assert not logits.grad[~VOID].any()
    assert logits.grad[VOID].all()
    nothing = loss(logits, target, torch.zeros_like(VOID))
    assert nothing.item() == pytest.approx(0, abs=1e-6)


def test_void_pixels_do_not_count_in_scores():
    probabilities, target = torch.rand(2, 4), (torch.arange(8).reshape(2, 4) % 2).float()
    found = score(probabilities, target, valid=VOID[0])
    torch.testing.assert_close(found, score(probabilities[VOID[0]][None], target[VOID[0]][None]))
    assert found[3:].sum() == 5
    metrics = OverlapMetrics()
    metrics.update(0, found, kind="box")
    only = metrics.compute()
    metrics.update(1, score(probabilities, target, valid=torch.zeros(2, 4, dtype=torch.bool)), kind="box")
    assert metrics.compute() == only  # nothing is known about this image


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_refuse_shapes_that_would_be_broadcast(name: str):
    loss = losses.LOSSES[name]
    for logits, target in ((torch.zeros(1, 4, 5), torch.ones(3, 4, 5)), (torch.zeros(1, 4, 1), torch.ones(1, 4, 5))):
        with pytest.raises(ValueError, match=re.escape(f"{tuple(logits.shape)} and {tuple(target.shape)}")):
            loss(logits, target)
        with pytest.raises(ValueError, match="same shape"):
            mean_loss([logits], [target], {name: 1.0})
    with pytest.raises(ValueError, match="'valid'"):
        loss(torch.zeros(1, 4, 5), torch.zeros(1, 4, 5), torch.ones(1, 1, 5, dtype=torch.bool))


def test_scores_refuse_shapes_that_would_be_broadcast():
    with pytest.raises(ValueError, match=r"\(1, 4, 5\) and \(3, 4, 5\)"):
        score(torch.zeros(1, 4, 5), torch.ones(3, 4, 5))
    with pytest.raises(ValueError, match="'valid'"):
        score(torch.zeros(4, 5), torch.ones(4, 5), valid=torch.ones(1, 5, dtype=torch.bool))


def test_images_with_void_and_without_are_computed_together():
    logits, targets = [torch.randn(1, 4, 5) for _ in range(4)], [torch.ones(1, 4, 5)] * 4
    valid = [None, torch.rand(1, 4, 5) > 0.5, None, torch.rand(1, 4, 5) > 0.5]
    found = losses.image_losses(logits, targets, ["bce"], valid=valid)["bce"]
    alone = [losses.bce(one, target, some) for one, target, some in zip(logits, targets, valid, strict=True)]
    torch.testing.assert_close(found, torch.stack(alone))
