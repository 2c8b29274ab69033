"""Precision, recall, Dice and mean IoU at 256 thresholds at once, from counts alone."""

import torch
from torch import Tensor

from .counts import SMOOTHING
from .thresholds import count_levels

LEVELS = 256


class ThresholdCurve:
    """Counts the pixels of a set of masks above each of the thresholds 0, 1/256, ..., 255/256.

    Precision, recall and Dice are over all pixels of the set; IoU is the mean over images with foreground, as in
    `OverlapMetrics`.
    """

    def __init__(self) -> None:
        self._tp = torch.zeros(LEVELS, dtype=torch.float64)
        self._fp = torch.zeros(LEVELS, dtype=torch.float64)
        self._iou = torch.zeros(LEVELS, dtype=torch.float64)
        self._foreground = 0.0
        self._images = 0

    @property
    def thresholds(self) -> Tensor:
        """``(256,)`` probabilities above which a pixel is foreground."""
        return torch.arange(LEVELS, dtype=torch.float64) / LEVELS

    def update(self, probabilities: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count one image; for the arguments see `count_levels`."""
        self.add(count_levels(probabilities, target, LEVELS, valid=valid))

    def add(self, counts: Tensor) -> None:
        """Add the counts of one image, ``(2 * 256 + 1,)`` from `count_levels`."""
        tp, fp, present = counts.cpu().split([LEVELS, LEVELS, 1])
        foreground = float(present)
        self._tp += tp
        self._fp += fp
        self._foreground += foreground
        if foreground:
            self._iou += (tp + SMOOTHING) / (foreground + fp + SMOOTHING)
            self._images += 1

    @property
    def precision(self) -> Tensor:
        """``(256,)``; 1 where nothing is marked."""
        marked = self._tp + self._fp
        return torch.where(marked > 0, self._tp / marked.clamp_min(1), 1.0)

    @property
    def recall(self) -> Tensor:
        """``(256,)``; 1 where there is nothing to find."""
        if not self._foreground:
            return torch.ones_like(self._tp)
        return self._tp / self._foreground

    @property
    def dice(self) -> Tensor:
        """``(256,)``, over all pixels: the harmonic mean of precision and recall, or F1."""
        both = self._tp + self._fp + self._foreground
        return torch.where(both > 0, 2 * self._tp / both.clamp_min(1), 1.0)

    @property
    def iou(self) -> Tensor:
        """``(256,)``, the mean over images with foreground; 1 where there is none."""
        return self._iou / self._images if self._images else torch.ones_like(self._iou)

    @property
    def best(self) -> int:
        """Position of the threshold with the highest Dice over all pixels, where large objects count for more."""
        return int(self.dice.argmax())

    @property
    def best_iou(self) -> int:
        """Position of the threshold with the highest mean IoU."""
        return int(self.iou.argmax())
