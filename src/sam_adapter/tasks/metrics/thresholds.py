"""IoU at many thresholds, and the threshold at which its mean is best."""

import torch
from torch import Tensor

from ...system.float64 import with_float64
from ..pixels import Reduce
from .counts import SMOOTHING
from .shapes import require_same_shape

STEPS = 64
"""Thresholds are 1/64, ..., 63/64; on some dozen validation images a finer choice would be chance."""


def threshold_ious(probabilities: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """IoU of one mask at each threshold; see `count_levels` and `level_ious`."""
    return level_ious(count_levels(probabilities, target, STEPS, valid=valid))


def count_levels(probabilities: Tensor, target: Tensor, steps: int, valid: Tensor | None = None) -> Tensor:
    """Count the pixels of one mask above each of some thresholds 0, 1/steps, ...; the counts of rows add up.

    Args:
        probabilities: ``(H, W)`` from 0 to 1.
        target: ``(H, W)``, 0 or 1.
        steps: Number of thresholds.
        valid: ``(H, W)`` bool, False at pixels that do not count; None counts all.

    Returns:
        ``(2 * steps + 1,)`` float64: foreground above each, background above each, all foreground. A probability that
        is NaN lies above no threshold, as in `score`.

    Raises:
        ValueError: If shapes differ.
    """
    require_same_shape(probabilities, target, valid)
    probabilities, target = with_float64(probabilities), with_float64(target)
    level = levels(probabilities, steps)
    counted = torch.ones_like(target, dtype=torch.bool) if valid is None else with_float64(valid).bool()
    truth = target.bool() & counted
    tp, fp = (above(level[pixels], steps) for pixels in (truth, counted & ~truth))
    return torch.cat([tp, fp, truth.sum().double()[None]])


def level_ious(counts: Tensor) -> Tensor:
    """IoU at each threshold but 0.

    Args:
        counts: ``(..., 2 * steps + 1)`` from `count_levels`.

    Returns:
        ``(..., steps - 1)`` float32.
    """
    steps = counts.shape[-1] // 2
    tp, fp, present = counts.split([steps, steps, 1], -1)
    return ((tp + SMOOTHING) / (present + fp + SMOOTHING))[..., 1:].float()


def best_threshold(ious: Tensor) -> float:
    """The threshold with the highest IoU; of equal ones, that nearest to one half.

    Args:
        ious: ``(63,)``, mean over images.
    """
    thresholds = torch.arange(1, STEPS, dtype=torch.float64) / STEPS
    equal = ious.double().cpu() >= ious.max().item() - 1e-9
    return float(thresholds[equal][(thresholds[equal] - 0.5).abs().argmin()])


def levels(probabilities: Tensor, steps: int) -> Tensor:
    """Probabilities as whole numbers: one is above ``k / steps`` exactly where its level is larger than ``k``.

    Args:
        probabilities: Of any shape, from 0 to 1; NaN lies above nothing.
        steps: A power of two, which scales without rounding.

    Returns:
        The same shape, 0 to ``steps``.
    """
    return (probabilities.float().nan_to_num(0) * steps).ceil().long()


def above(level: Tensor, steps: int) -> Tensor:
    """How many of some levels ``(n,)`` are larger than 0, 1, ..., ``steps - 1``; ``(steps,)`` float64."""
    counts = torch.bincount(level, minlength=steps + 1).double()
    return counts.flip(0).cumsum(0).flip(0)[1:]


def level_counts(steps: int) -> Reduce:
    """Counts at each of some thresholds; see `count_levels`."""

    def counts(logits: Tensor, target: Tensor, counted: Tensor | None, members: list[int]) -> Tensor:
        where = [None] * len(members) if counted is None else list(counted)
        return torch.stack(
            [
                count_levels(one.detach().sigmoid(), truth, steps, valid=some)
                for one, truth, some in zip(logits, target, where, strict=True)
            ]
        )

    return counts
