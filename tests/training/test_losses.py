"""Losses of published papers against hand-computed cases, their formulas, and finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from sam_adapter.batch import VOID, Annotation, Batch, Prompt, Query, Sample, Size
from sam_adapter.config.choices import parse_loss
from sam_adapter.config.registry import LOSSES, look_up
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks import pixels
from sam_adapter.tasks.pixels import sum_over_pixels, whole_target
from sam_adapter.training.losses.base import Loss, WeightedLosses
from sam_adapter.training.losses.boundary import signed_distance
from sam_adapter.training.losses.structure import weights

ALL: dict[str, Loss] = {name: look_up(LOSSES, name) for name in LOSSES}
WITH_MAPS = [name for name, loss in ALL.items() if loss.target_map is not None]


def logits_of(*probabilities: float) -> Tensor:
    """A picture of one row."""
    return torch.tensor([probabilities], dtype=torch.float64).logit().float()


def blots(size: Size, *, seed: int = 0) -> np.ndarray:
    """Foreground in patches that touch the border too, ``(H, W)`` bool."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.sin(rows / 3 + seed) + np.cos(columns / 4) > 0.3


HAND: dict[str, tuple[Tensor, list[int], float]] = {
    # Two pixels at probability a half: ln 2 each, times a quarter, times .25 and .75; the mean.
    "focal": (logits_of(0.5, 0.5), [1, 0], 0.0866434),
    # Found .8 + .4, alarms .5, missed .2 + .6: 1 - 1.201 / (1.2 + .3 * .5 + .7 * .8 + .001).
    "tversky": (logits_of(0.8, 0.4, 0.5), [1, 1, 0], 0.3715332),
    # Means of the square 1/961: weights 1 + 5 * 960/961 and 1 + 5/961, 7 in all; cross entropy ln 2;
    # both 2.9973985, either 9.4947971: 1 - 3.9973985 / 7.4973985.
    "structure": (logits_of(0.5, 0.5), [1, 0], 0.6931472 + 0.4668286),
    # Half a pixel inside, one half and three halves outside, of a diagonal of sqrt(10): (.25 + .25 + 0) / sqrt(10) / 3.
    "boundary": (logits_of(0.5, 0.5, 1e-12), [1, 0, 0], 0.0527046),
    # ln 2 of the one foreground pixel and the mean of 0 and ln 2 of the background, halved.
    "balanced_bce": (logits_of(0.5, 0.5, 1e-12), [1, 0, 0], (0.6931472 + 0.3465736) / 2),
    "bce": (logits_of(0.5, 0.5, 1e-12), [1, 0, 0], 2 * 0.6931472 / 3),
    # Both .8 + .4, sum 1.7 + 2.
    "dice": (logits_of(0.8, 0.4, 0.5), [1, 1, 0], 1 - 2.401 / 3.701),
    "iou": (logits_of(0.8, 0.4, 0.5), [1, 1, 0], 1 - 1.201 / 2.501),
}


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_in_a_case_computed_by_hand(name: str):
    logits, target, expected = HAND[name]
    assert ALL[name](logits, torch.tensor([target])).item() == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("size", [(20, 30), (75, 61), (1, 40)])
def test_structure_loss_is_that_of_the_published_code_with_its_cross_entropy_weighted(size: Size):
    """PraNet's, but that ``reduction='none'`` stands where it has ``reduce='none'``, which is the mean."""
    logits = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    mask = torch.from_numpy(np.stack([blots(size), blots(size, seed=2)])).float()[:, None]
    weight = 1 + 5 * (functional.avg_pool2d(mask, kernel_size=31, stride=1, padding=15) - mask).abs()
    entropy = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    entropy = (weight * entropy).sum((2, 3)) / weight.sum((2, 3))
    probabilities = logits.sigmoid()
    inter = (probabilities * mask * weight).sum((2, 3))
    union = ((probabilities + mask) * weight).sum((2, 3))
    expected = entropy + 1 - (inter + 1) / (union - inter + 1)
    torch.testing.assert_close(ALL["structure"](logits, mask), expected)


@pytest.mark.parametrize("size", [(20, 30), (75, 61), (1, 40)])
def test_signed_distance_is_that_of_the_published_code_but_for_half_a_pixel(size: Size):
    target = blots(size)
    outside, inside = np.asarray(distance_transform_edt(~target)), np.asarray(distance_transform_edt(target))
    published = outside * ~target - (inside - 1) * target
    found = signed_distance(target, None) * np.hypot(*size)
    np.testing.assert_allclose(found, published - 0.5, atol=1e-4)
    assert (found[target] < 0).all()
    assert (found[~target] > 0).all()


def test_focal_loss_is_that_of_its_paper():
    logits, target = torch.randn(4, 9, 8), torch.rand(4, 9, 8) > 0.5
    true = torch.where(target, logits.sigmoid(), 1 - logits.sigmoid()).double()
    expected = torch.where(target, 0.25, 0.75) * (1 - true) ** 2 * -true.log()
    torch.testing.assert_close(ALL["focal"](logits, target), expected.mean((-2, -1)).float())


def test_a_missed_pixel_costs_more_than_a_false_alarm_in_the_tversky_loss():
    target = torch.tensor([[1, 1, 0, 0]])
    missed, alarm = logits_of(1 - 1e-9, 1e-9, 1e-9, 1e-9), logits_of(1 - 1e-9, 1 - 1e-9, 1 - 1e-9, 1e-9)
    assert ALL["tversky"](missed, target) == pytest.approx(1 - 1.001 / 1.701, abs=1e-6)
    assert ALL["tversky"](alarm, target) == pytest.approx(1 - 2.001 / 2.301, abs=1e-6)


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str, void: bool):
    loss, target = ALL[name], blots((6, 7))
    counted = (np.arange(42).reshape(6, 7) % 5 != 2) if void else None
    target = target if counted is None else target & counted
    maps = [] if loss.target_map is None else [torch.from_numpy(loss.target_map(target, counted)).double()]
    some = None if counted is None else torch.from_numpy(counted).double()

    def value(logits: Tensor) -> Tensor:
        return loss.value(loss.sums(logits, torch.from_numpy(target).double(), some, *maps))

    logits = torch.randn(6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, logits, eps=1e-6, atol=1e-7)


def test_the_boundary_loss_does_not_depend_on_the_size_of_the_picture():
    target, probabilities = blots((30, 44)), np.random.default_rng(0).random((30, 44))
    small, large = (
        ALL["boundary"](torch.from_numpy(np.kron(probabilities, once)).logit(), torch.from_numpy(np.kron(target, once)))
        for once in (np.ones((1, 1)), np.ones((4, 4)))
    )
    assert large.item() == pytest.approx(small.item(), rel=0.05)


def test_without_an_edge_all_pixels_are_a_diagonal_away():
    nothing = np.zeros((5, 6), bool)
    assert (signed_distance(nothing, None) == 1).all()
    assert (signed_distance(~nothing, None) == -1).all()
    some = np.arange(30).reshape(5, 6) % 3 > 0
    assert (signed_distance(nothing, some) == 1).all()  # void is no edge either
    assert (signed_distance(some, some) == -1).all()
    for fill, right in ((0.0, 0.2), (1.0, 0.8)):
        logits, target = torch.full((5, 6), right).logit(), torch.full((5, 6), fill)
        assert ALL["boundary"](logits, target).item() == pytest.approx(0.2)


def test_void_is_left_out_of_the_weights_of_the_structure_loss():
    """Between two foreground and two background pixels lies one that says nothing: half of what is known is marked."""
    target, counted = np.array([[1, 1, 0, 0, 0]], bool), np.array([[1, 1, 0, 1, 1]], bool)
    mean = 2 / (31 * 31 - 1)
    expected = np.where(target, 1 + 5 * (1 - mean), 1 + 5 * mean)
    np.testing.assert_allclose(weights(target, counted)[counted], expected[counted], rtol=1e-6)


def test_distances_are_to_what_is_known():
    """Void beside the object is no background."""
    target, counted = np.array([[1, 1, 0, 0, 0, 0]], bool), np.array([[1, 1, 0, 0, 1, 1]], bool)
    found = signed_distance(target, counted) * np.hypot(1, 6)
    np.testing.assert_allclose(found[counted], [-3.5, -2.5, 2.5, 3.5], rtol=1e-6)


@pytest.mark.parametrize("name", WITH_MAPS)
def test_a_map_is_told_of_the_void_of_its_picture(name: str):
    make = ALL[name].target_map
    assert make is not None
    counted = torch.arange(20 * 30).reshape(20, 30) % 7 > 1
    labels = torch.from_numpy(blots((20, 30)).astype(np.uint8))
    labels[~counted] = VOID
    sample = Sample(0, "0", None, Annotation.of(labels), [Query()], (20, 30))
    losses, logits = WeightedLosses({name: 1.0}), torch.randn(1, 16, 16)
    preprocessing = Preprocessing(image_size=16, resize="squash")
    (sums,) = sum_over_pixels(logits, Batch.collate([sample]), preprocessing, [losses])
    full, target = preprocessing.to_original_size(logits, (20, 30)), torch.from_numpy(blots((20, 30)))[None]
    found = losses.terms(sums)[name]
    torch.testing.assert_close(found, ALL[name](full, target, counted[None]))
    known = target[0].numpy() & counted.numpy()
    assert (make(known, counted.numpy()) != make(known, None))[counted].any()


@pytest.mark.parametrize("band", [1, 100, 1 << 20])
@pytest.mark.parametrize("void", [False, True])
def test_a_whole_target_is_put_together_from_bands(band: int, void: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "BAND_PIXELS", band)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (17, 23)).astype(np.uint8))
    labels[labels == 2] = VOID if void else 2
    target, counted = whole_target(Annotation.of(labels), 1, (17, 23))
    assert (torch.from_numpy(target) == (labels == 1)).all()
    assert counted is None if not void else (torch.from_numpy(counted) == (labels != VOID)).all()


def test_no_target_is_void(monkeypatch: pytest.MonkeyPatch):
    """Whatever an annotation says of void."""
    labels = torch.tensor([[1, 0, VOID]], dtype=torch.uint8)
    monkeypatch.setattr(Annotation, "target", lambda self, label, rows: self.labels[rows] > 0)
    target, counted = whole_target(Annotation.of(labels), 1, (1, 3))
    assert target.tolist() == [[True, False, False]]
    assert counted is not None
    assert counted.tolist() == [[True, True, False]]


PROMPTS = [Prompt(box=torch.zeros(4)), Prompt(), Prompt(points=torch.zeros(1, 2), point_labels=torch.ones(1))]


def asked(*pictures: tuple[Size, list[int]]) -> Batch:
    """Pictures that are asked for labels, each with every kind of prompt."""
    samples = []
    for index, (size, labels) in enumerate(pictures):
        given = torch.from_numpy(np.random.default_rng(index).integers(0, 3, size).astype(np.uint8))
        queries = [Query(prompt=prompt, label=label) for label in labels for prompt in PROMPTS]
        samples.append(Sample(index, str(index), None, Annotation.of(given), queries, size))
    return Batch.collate(samples)


@pytest.mark.parametrize(("band", "size"), [(300, (40, 30)), (1 << 20, (40, 30))], ids=["bands", "whole"])
def test_a_map_is_made_once_for_all_that_is_asked_about_a_target(
    band: int, size: Size, monkeypatch: pytest.MonkeyPatch
):
    """And again in the backward pass if the bands are; then it is given up."""
    made: list[Size] = []
    held: list[int] = []
    comparisons: list[Any] = []

    def make(target: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
        made.append((target.shape[0], target.shape[1]))
        return target.astype(np.float32)

    comparison = pixels._Comparison

    class Watched(comparison):
        def of_piece(self, *arguments: Any) -> list[Tensor]:
            sums = super().of_piece(*arguments)
            held.append(len(self.held))
            comparisons.append(self)
            return sums

    monkeypatch.setattr(pixels, "_Comparison", Watched)
    monkeypatch.setattr(pixels, "BAND_PIXELS", band)
    monkeypatch.setattr(pixels, "KEPT_PIXELS", 0)
    batch = asked((size, [1, 2]), (size, [1]))
    losses = WeightedLosses({"structure": 1.0})
    losses.maps = (make,)
    logits = torch.randn(9, 16, 16, requires_grad=True)
    (sums,) = sum_over_pixels(logits, batch, Preprocessing(image_size=16, resize="squash"), [losses])
    assert made == [size] * 3
    assert not comparisons[-1].held
    losses.weighted(losses.terms(sums)).sum().backward()
    assert made == [size] * 6
    assert not comparisons[-1].held
    assert set(held) == ({1} if band == 300 else {3})


def test_each_loss_gets_its_own_map_whatever_is_summed_beside_it():
    batch = asked(((20, 30), [1]), ((9, 8), [1, 2]))
    logits, preprocessing = torch.randn(9, 16, 16), Preprocessing(image_size=16, resize="squash")
    several = [WeightedLosses(parse_loss(text)) for text in ("bce+structure", "boundary+iou+structure", "dice")]
    together = sum_over_pixels(logits, batch, preprocessing, several)
    for losses, sums in zip(several, together, strict=True):
        for name, values in losses.terms(sums).items():
            for at, (query, image) in enumerate(zip(batch.queries, batch.image_index, strict=True)):
                truth, size = batch.annotations[image], batch.original_sizes[image]
                assert truth is not None
                full = preprocessing.to_original_size(logits[at : at + 1], size)[0]
                torch.testing.assert_close(values[at], ALL[name](full, truth.target(query.label)))


def test_the_weighted_sum_of_new_losses():
    losses = WeightedLosses(parse_loss("0.5*focal+2*structure+tversky"))
    terms = {name: torch.tensor([value]) for name, value in (("focal", 2.0), ("structure", 0.25), ("tversky", 1.0))}
    assert losses.weighted(terms).item() == 2.5
