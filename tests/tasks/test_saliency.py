"""S-measure, E-measure, weighted F-measure and stretched MAE against `pysodmetrics`, papers' formulas, and by hand."""

from collections.abc import Callable

import numpy as np
import py_sod_metrics
import pytest
import torch

from sam_adapter.tasks.metrics.full_size_answer import FullSizeAnswer
from sam_adapter.tasks.metrics.saliency import e_measure, s_measure, stretched, stretched_mae, weighted_f

SCORES: dict[str, tuple[Callable[[FullSizeAnswer], float], Callable[[], object], Callable[[dict], float]]] = {
    "s_measure": (s_measure, py_sod_metrics.Smeasure, lambda found: found["sm"]),
    "e_measure": (e_measure, py_sod_metrics.Emeasure, lambda found: found["em"]["curve"].mean()),
    "weighted_f": (weighted_f, py_sod_metrics.WeightedFmeasure, lambda found: found["wfm"]),
    "stretched_mae": (stretched_mae, py_sod_metrics.MAE, lambda found: found["mae"]),
}


def answer(probability: np.ndarray, target: np.ndarray, counted: np.ndarray | None = None) -> FullSizeAnswer:
    return FullSizeAnswer(
        logits=torch.from_numpy(np.asarray(probability, np.float64)).logit().float(),
        target=np.asarray(target, bool),
        counted=counted,
    )


def blobs(seed: int, size: tuple[int, int] = (40, 52)) -> tuple[np.ndarray, np.ndarray]:
    """A probability that does not reach 0 or 1, and a target that is near it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = rng.uniform(0.3, 0.7, 2) * size
    distance = np.hypot(rows - middle[0], columns - middle[1])
    probability = 0.05 + 0.8 / (1 + np.exp((distance - 11) / 3)) + rng.uniform(0, 0.1, size)
    return probability, distance + rng.uniform(-2, 2, size) < 12


def published(name: str, pred: np.ndarray, target: np.ndarray, *, normalize: bool = True) -> float:
    """By `pysodmetrics`; normalised, from pictures of 8 bits."""
    _, kind, read = SCORES[name]
    measure = kind()
    measure.step(pred, target, normalize=normalize)  # type: ignore[attr-defined]
    return float(read(measure.get_results()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_what_pysodmetrics_says_of_the_maps_saved_as_pictures(name: str, seed: int):
    probability, target = blobs(seed)
    saved = np.round(answer(probability, target).probability * 255).astype(np.uint8)
    expected = published(name, saved, target.astype(np.uint8) * 255)
    assert SCORES[name][0](answer(probability, target)) == expected
    assert expected != published(name, probability, target, normalize=False)  # the stretch shows


def test_s_measure_is_that_of_its_paper():
    """Objects: mean and deviation in each; regions: structural similarity in the four parts around the centroid."""
    probability, target = blobs(7)
    x, truth = stretched(answer(probability, target)), target.astype(float)
    share = truth.mean()

    def of_object(values: np.ndarray) -> float:
        return 2 * values.mean() / (values.mean() ** 2 + 1 + values.std(ddof=1))

    objects = share * of_object(x[target]) + (1 - share) * of_object(1 - x[~target])
    row, column = (int(np.round(at.mean())) + 1 for at in np.nonzero(target))
    regions = 0.0
    for part in np.s_[:row, :column], np.s_[:row, column:], np.s_[row:, :column], np.s_[row:, column:]:
        a, b = x[part].ravel(), truth[part].ravel()
        (aa, ab), (_, bb) = np.cov(a, b)
        similarity = 4 * a.mean() * b.mean() * ab / ((a.mean() ** 2 + b.mean() ** 2) * (aa + bb))
        regions += similarity * a.size / x.size
    assert s_measure(answer(probability, target)) == pytest.approx((objects + regions) / 2, rel=1e-9)


def test_e_measure_is_that_of_its_paper():
    """The mean over thresholds of the enhanced alignment of both masks about their means."""
    probability, target = blobs(8)
    levels, truth = (stretched(answer(probability, target)) * 255).astype(int), target.astype(float)
    found = []
    for threshold in range(256):
        mask = (levels >= threshold).astype(float)
        a, b = mask - mask.mean(), truth - truth.mean()
        alignment = 2 * a * b / (a**2 + b**2 + np.spacing(1))
        found.append((((alignment + 1) ** 2) / 4).sum() / (truth.size - 1))
    assert e_measure(answer(probability, target)) == pytest.approx(np.mean(found), rel=1e-9)


def test_weighted_f_is_that_of_its_paper_around_one_pixel():
    """Errors of the background are those of the nearest foreground, smoothed, and weigh more further away."""
    probability, target = blobs(9)[0], np.zeros((40, 52), bool)
    target[17, 21] = True
    error = np.abs(stretched(answer(probability, target)) - target)
    offsets = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-(offsets**2).sum(0) / (2 * 5**2))
    smoothed = error[17, 21] * kernel.sum() / kernel.sum()  # all around it have the error of the one pixel
    distance = np.hypot(*(np.mgrid[:40, :52] - np.array([17, 21])[:, None, None]))
    inside = min(error[17, 21], smoothed)
    outside = (error * (2 - np.exp(np.log(0.5) / 5 * distance)))[~target].sum()
    recall, precision = 1 - inside, (1 - inside) / (1 - inside + outside)
    expected = 2 * recall * precision / (recall + precision)
    assert weighted_f(answer(probability, target)) == pytest.approx(expected, rel=1e-9)


def test_stretched_mae_by_hand():
    probability, target = np.array([[51, 102, 153, 204]]) / 255, np.array([[0, 0, 1, 1]])
    assert stretched_mae(answer(probability, target)) == pytest.approx((0 + 1 / 3 + 1 / 3 + 0) / 4)


@pytest.mark.parametrize(
    ("probability", "fill", "expected"),
    [
        # S-measure and E-measure have their own rules there; F is 0 without foreground; a flat map is not stretched.
        (0.2, 0, {"s_measure": 0.8, "e_measure": 204.0 / 256, "weighted_f": 0, "stretched_mae": 0.2}),
        (0.2, 1, {"s_measure": 0.2, "e_measure": 52.0 / 256, "stretched_mae": 0.8}),
        (1.0, 1, {"s_measure": 1, "e_measure": 1, "weighted_f": 1, "stretched_mae": 0}),
        (0.0, 0, {"s_measure": 1, "e_measure": 255 / 256, "weighted_f": 0, "stretched_mae": 0}),
        (1.0, 0, {"s_measure": 0, "e_measure": 0, "weighted_f": 0, "stretched_mae": 1}),
        (0.0, 1, {"s_measure": 0, "e_measure": 1 / 256, "stretched_mae": 1}),
    ],
)
def test_empty_and_full_targets(probability: float, fill: int, expected: dict[str, float]):
    given = answer(np.full((90, 80), probability), np.full((90, 80), fill))
    for name, value in expected.items():
        assert SCORES[name][0](given) == pytest.approx(value, abs=2e-4), name  # E divides by one pixel less


def test_e_measure_of_a_picture_of_one_pixel_is_no_more_than_1():
    assert e_measure(answer(np.array([[0.9]]), np.array([[1]]))) == 1


@pytest.mark.parametrize("at", [np.s_[:, -1], np.s_[-1, :], np.s_[-1, -1], np.s_[3, -1]])
def test_foreground_at_the_last_row_or_column_has_an_s_measure(at):
    """`pysodmetrics` gives NaN; when this fails, it no longer does and `saliency._Smeasure` can go."""
    target = np.zeros((20, 30), bool)
    target[at] = True
    with pytest.warns(RuntimeWarning, match="empty slice|invalid value"):
        assert np.isnan(published("s_measure", target.astype(float), target, normalize=False))
    assert s_measure(FullSizeAnswer.of_mask(target, target)) == pytest.approx(1)
    assert 0 < s_measure(answer(np.full((20, 30), 0.4) + 0.4 * target, target)) <= 1


def test_void_is_background_in_both_and_left_out_of_the_stretch():
    probability, target = blobs(3)
    counted = np.arange(target.size).reshape(target.shape) % 5 > 0
    probability[~counted] = 0.999
    given = answer(probability, target & counted, counted)
    known = np.round(given.probability * 255).astype(np.uint8)[counted] / 255
    whole = np.zeros(target.shape)
    whole[counted] = (known - known.min()) / (known.max() - known.min())
    assert (stretched(given) == whole).all()
    for name in ("s_measure", "e_measure", "weighted_f"):
        assert SCORES[name][0](given) == published(name, whole, target & counted, normalize=False)
    assert stretched_mae(given) == pytest.approx(np.abs(whole - target)[counted].mean())
    other = answer(np.where(counted, probability, 0.001), target & counted, counted)
    for function, *_ in SCORES.values():
        assert function(other) == function(given)


@pytest.mark.parametrize("name", SCORES)
def test_a_picture_of_nothing_but_void_has_a_finite_score(name: str):
    nothing = np.zeros((4, 5), bool)
    assert np.isfinite(SCORES[name][0](answer(np.full((4, 5), 0.7), nothing, nothing)))
