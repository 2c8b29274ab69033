import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from sam_adapter import losses
from sam_adapter.errors import ConfigError
from sam_adapter.metrics import OverlapMetrics, score
from sam_adapter.options import parse_loss


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


def test_weighted_loss_averages_images_of_different_size():
    one, two = example(1), (torch.randn(1, 5, 7), torch.ones(1, 5, 7))
    total, terms = losses.weighted_loss([one[0], two[0]], [one[1], two[1]], parse_loss("0.5*bce + 2*dice"))
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
    metrics = OverlapMetrics()
    metrics.update(0, score(empty, empty))
    assert metrics.compute()["ber"] == 0


def test_balanced_error_rate_counts_pixels_of_the_whole_set():
    metrics = OverlapMetrics()
    metrics.update(0, score(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[1.0, 1, 0, 0]])))
    metrics.update(1, score(torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[0.0, 0, 0, 0]])))
    # foreground: 1 of 2 missed; background: 2 of 6 wrong
    assert metrics.compute()["ber"] == pytest.approx(100 * (1 / 2 + 2 / 6) / 2)


def test_an_image_seen_twice_counts_once():
    rng = np.random.default_rng(0)
    rows = [score(torch.from_numpy(rng.random((5, 5))), torch.from_numpy(rng.random((5, 5)) > 0.5)) for _ in range(3)]
    once, twice = OverlapMetrics(), OverlapMetrics()
    for index in (0, 1, 2):
        once.update(index, rows[index])
    for index in (2, 0, 1, 0):
        twice.update(index, rows[index])
    assert once.compute() == pytest.approx(twice.compute())
    assert list(twice.per_image()) == [0, 1, 2]
