"""One minus the soft overlap of a mask with its target: intersection over union, Dice, or Tversky's index.

Tversky: Salehi et al., "Tversky loss function for image segmentation using 3D fully convolutional deep networks",
MLMI 2017.
"""

from torch import Tensor

from .base import SMOOTHING, Loss, over_pixels

FALSE_ALARM, MISS = 0.3, 0.7
"""Weights of background that is marked and of foreground that is missed in Tversky's index, the best of its paper."""


def _sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    probabilities = logits.sigmoid()
    return over_pixels([probabilities * target, probabilities + target], counted)


def _iou(sums: Tensor) -> Tensor:
    intersection, total = sums.unbind(-1)
    return 1 - (intersection + SMOOTHING) / (total - intersection + SMOOTHING)


def _dice(sums: Tensor) -> Tensor:
    intersection, total = sums.unbind(-1)
    return 1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)


def _tversky_sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    probabilities = logits.sigmoid()
    return over_pixels([probabilities * target, probabilities * (1 - target), (1 - probabilities) * target], counted)


def _tversky(sums: Tensor) -> Tensor:
    found, alarms, missed = sums.unbind(-1)
    return 1 - (found + SMOOTHING) / (found + FALSE_ALARM * alarms + MISS * missed + SMOOTHING)


iou = Loss(_sums, _iou, 2)
"""One minus the soft intersection over union."""

dice = Loss(_sums, _dice, 2)
"""One minus the soft Dice coefficient."""

tversky = Loss(_tversky_sums, _tversky, 3)
"""One minus the soft Tversky index, in which a missed pixel weighs .7 and a wrongly marked one .3."""
