"""The boundary loss: each wrong pixel counts as much as it is away from the target's edge.

Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from .base import Loss, over_pixels


def signed_distance(target: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
    """How far each pixel is from the target's edge, negative inside, in diagonals of the picture.

    The edge lies between pixels, so that those beside it are half a pixel away: half a pixel less than in the published
    code, whose edge runs through the outermost pixels of the foreground, which then weigh nothing. Distances are
    divided by the picture's diagonal: a picture of twice the size has the same map, and the loss the same value. Where
    there is no foreground there is no edge, and all pixels count as a diagonal outside of it; where there is no
    background, inside. Void pixels are neither.

    Args:
        target: ``(H, W)`` bool, False at void pixels.
        counted: ``(H, W)`` bool, False at void pixels, or None if all count.

    Returns:
        ``(H, W)`` float32 from -1 to 1.
    """
    background = ~target if counted is None else ~target & counted
    if not target.any() or not background.any():
        return np.full(target.shape, -1.0 if target.any() else 1.0, dtype=np.float32)
    diagonal = np.float32(np.hypot(*target.shape))
    distance = np.where(target, -(_distance_to(background) - 0.5), _distance_to(target) - 0.5)
    return (distance / diagonal).astype(np.float32)


def _distance_to(some: np.ndarray) -> np.ndarray:
    """From the middle of each pixel to that of the nearest of some, ``(H, W)`` float32 pixels."""
    return cv2.distanceTransform((~some).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _sums(logits: Tensor, target: Tensor, counted: Tensor | None, distance: Tensor) -> Tensor:
    pixels = torch.ones_like(target) if counted is None else counted
    return torch.cat([over_pixels([distance * (logits.sigmoid() - target)], counted), over_pixels([pixels])], -1)


def _value(sums: Tensor) -> Tensor:
    distances, pixels = sums.unbind(-1)
    return distances / pixels.clamp(min=1)


boundary = Loss(_sums, _value, 2, signed_distance)
"""Signed distance times the difference of probability and target, mean over pixels; 0 is the target itself. The paper
leaves the target's own part out, which shifts the value and not the gradient. It is meant to be added to a loss of the
region, such as ``dice+boundary``: where all of a small target is missed, it is small."""
