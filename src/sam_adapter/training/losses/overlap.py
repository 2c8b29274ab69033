"""One minus the soft overlap of a mask with its target: intersection over union, or Dice."""

from torch import Tensor

from .base import SMOOTHING, Loss, over_pixels


def _sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    probabilities = logits.sigmoid()
    return over_pixels([probabilities * target, probabilities + target], counted)


def _iou(sums: Tensor) -> Tensor:
    intersection, total = sums.unbind(-1)
    return 1 - (intersection + SMOOTHING) / (total - intersection + SMOOTHING)


def _dice(sums: Tensor) -> Tensor:
    intersection, total = sums.unbind(-1)
    return 1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)


iou = Loss(_sums, _iou, 2)
"""One minus the soft intersection over union."""

dice = Loss(_sums, _dice, 2)
"""One minus the soft Dice coefficient."""
