"""Scores of one mask from counts of its pixels: a function, and a line in `sam_adapter.config.registry.METRICS` each.

All give ``(...)`` float64 from counts ``(...)`` float64. Where the ground truth is empty, IoU and Dice are 1 for an
empty mask and practically 0 for any other. A score that every run has is in ``METRICS``, one that ``--metrics`` adds in
``MORE_METRICS``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...config.registry import METRICS, look_up
from ...system.float64 import with_float64
from .shapes import require_same_shape

SMOOTHING = 1e-3
"""Added to intersection and union."""


class Counts(NamedTuple):
    """Pixels of masks, ``(...)`` float64 each.

    Attributes:
        tp: Foreground marked.
        fp: Background marked.
        fn: Foreground missed.
        tn: Background left.
        error: Sum of the absolute differences between probability and target.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor
    error: Tensor


def iou(counts: Counts) -> Tensor:
    """Intersection over union, with smoothing."""
    return (counts.tp + SMOOTHING) / (counts.tp + counts.fp + counts.fn + SMOOTHING)


def dice(counts: Counts) -> Tensor:
    """Dice coefficient, with smoothing."""
    return (2 * counts.tp + SMOOTHING) / (2 * counts.tp + counts.fp + counts.fn + SMOOTHING)


def mae(counts: Counts) -> Tensor:
    """Mean absolute difference between probability and target."""
    return counts.error / (counts.tp + counts.fp + counts.fn + counts.tn).clamp(min=1)


def precision(counts: Counts) -> Tensor:
    """Share of the marked pixels that are foreground. Where nothing is marked: 1 if there is no foreground, else 0."""
    return _share(counts.tp, counts.fp, counts.fn == 0)


def recall(counts: Counts) -> Tensor:
    """Share of the foreground that is marked, or sensitivity; 1 where there is no foreground."""
    return _share(counts.tp, counts.fn, torch.ones_like(counts.tp))


def specificity(counts: Counts) -> Tensor:
    """Share of the background that is left; 1 where there is no background."""
    return _share(counts.tn, counts.fp, torch.ones_like(counts.tn))


def mean_ber(counts: Counts) -> Tensor:
    """Balanced error rate of one mask in percent: half of what recall and specificity lack. Its mean is papers' BER."""
    return 50 * (2 - recall(counts) - specificity(counts))


def _share(right: Tensor, wrong: Tensor, otherwise: Tensor) -> Tensor:
    """What is right of both, without smoothing; where there are neither, something else."""
    total = right + wrong
    return torch.where(total > 0, right / total.clamp(min=1), otherwise.to(right))


def count_pixels(
    probabilities: Tensor, target: Tensor, threshold: float | Tensor = 0.5, *, valid: Tensor | None = None
) -> Tensor:
    """Count the pixels of masks, or of some rows of them: the counts of rows add up.

    Args:
        probabilities: ``(..., H, W)`` from 0 to 1.
        target: ``(..., H, W)``, 0 or 1.
        threshold: Probability above which a pixel is foreground; a tensor is broadcast.
        valid: ``(..., H, W)`` bool, False at pixels that do not count; None counts all.

    Returns:
        ``(..., 5)`` float64 in the order of `Counts`.

    Raises:
        ValueError: If shapes differ.
    """
    require_same_shape(probabilities, target, valid)
    probabilities, target = with_float64(probabilities), with_float64(target)
    if isinstance(threshold, Tensor):
        threshold = threshold.to(probabilities.device)
    counted = torch.ones_like(target, dtype=torch.bool) if valid is None else with_float64(valid).bool()
    truth = target.bool() & counted
    mask = (probabilities > threshold) & counted
    tp, marked, present, pixels = (one.sum((-2, -1)).double() for one in (mask & truth, mask, truth, counted))
    fp, fn = marked - tp, present - tp
    errors = (probabilities.float() - truth.float()).abs() * counted
    return torch.stack([tp, fp, fn, pixels - tp - fp - fn, errors.sum((-2, -1), dtype=torch.float64)], -1)


def scores_of(counts: Tensor) -> Tensor:
    """Scores of masks from their pixel counts.

    Args:
        counts: ``(..., 5)`` from `count_pixels`.

    Returns:
        ``(..., len(COLUMNS))`` float64 in the order of `COLUMNS` in `means`.
    """
    named = Counts(*counts.unbind(-1))
    return torch.stack([*(look_up(METRICS, name)(named) for name in METRICS), *named[:4]], -1)


def score(probabilities: Tensor, target: Tensor, threshold: float = 0.5, *, valid: Tensor | None = None) -> Tensor:
    """`scores_of` whole masks at their original size; for the arguments see `count_pixels`."""
    return scores_of(count_pixels(probabilities, target, threshold, valid=valid))
