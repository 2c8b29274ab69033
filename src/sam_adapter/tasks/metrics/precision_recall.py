"""Precision, recall, Dice and mean IoU at 256 thresholds at once, from counts alone."""

import torch
from torch import Tensor

from ...system.float64 import with_float64
from .overlap import SMOOTHING
from .shapes import require_same_shape
from .thresholds import above, levels

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
        """Count one image.

        Args:
            probabilities: ``(H, W)`` from 0 to 1.
            target: ``(H, W)``, 0 or 1.
            valid: ``(H, W)`` bool, False where the ground truth says nothing; None if every pixel counts.

        Raises:
            ValueError: If the shapes differ.
        """
        require_same_shape(probabilities, target, valid)
        probabilities, target = with_float64(probabilities), with_float64(target)
        level = levels(probabilities, LEVELS)
        counted = torch.ones_like(target, dtype=torch.bool) if valid is None else with_float64(valid)
        truth = target.bool() & counted
        tp, fp = (above(level[pixels], LEVELS).cpu() for pixels in (truth, counted & ~truth))
        foreground = float(truth.sum())
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
