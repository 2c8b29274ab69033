"""The structure loss: cross entropy and intersection over union that weigh pixels near edges and of thin parts more.

Wei et al., "F3Net: fusion, feedback and focus for salient object detection", AAAI 2020, where it is the pixel position
aware loss; called structure loss since PraNet (Fan et al., MICCAI 2020). Published code says ``reduce='none'``, which
PyTorch reads as the mean, so that its cross entropy is the plain one; here it is weighted, as the papers have it.
"""

import cv2
import numpy as np
from torch import Tensor

from .base import Loss, over_pixels
from .cross_entropy import cross_entropy

WINDOW = 31
"""Side of the square around a pixel whose mean its target is compared with."""
STRENGTH = 5
SMOOTHING = 1
"""Added to the weighted intersection and union, as in the published code."""


def weights(target: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
    """How much each pixel weighs: 1 + 5 |mean of the target in the square of 31 pixels around it - target|.

    What lies outside the picture is background, as in the published code. Void pixels are left out of the means.

    Args:
        target: ``(H, W)`` bool, False at void pixels.
        counted: ``(H, W)`` bool, False at void pixels, or None if all count.

    Returns:
        ``(H, W)`` float32 from 1 to 6.
    """
    truth = target.astype(np.float32)
    pixels = np.float32(WINDOW**2)
    if counted is not None:
        pixels = pixels - _window_sums((~counted).astype(np.float32))
    mean = _window_sums(truth) / np.maximum(pixels, 1)
    return 1 + STRENGTH * np.abs(mean - truth)


def _window_sums(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, cv2.CV_32F, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)


def _sums(logits: Tensor, target: Tensor, counted: Tensor | None, weight: Tensor) -> Tensor:
    probabilities = logits.sigmoid()
    both, either = probabilities * target, probabilities + target
    return over_pixels([weight * cross_entropy(logits, target), weight * both, weight * either, weight], counted)


def _value(sums: Tensor) -> Tensor:
    entropy, both, either, weight = sums.unbind(-1)
    return entropy / weight.clamp(min=1) + 1 - (both + SMOOTHING) / (either - both + SMOOTHING)


structure = Loss(_sums, _value, 4, weights)
"""Weighted binary cross entropy plus one minus the weighted soft intersection over union."""
