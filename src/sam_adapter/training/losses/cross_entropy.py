"""Binary cross entropy: plain, balanced between foreground and background, and focal.

Focal: Lin et al., "Focal loss for dense object detection", ICCV 2017.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .base import Loss, over_pixels

FOCUS, FOREGROUND_SHARE = 2, 0.25
"""Gamma and alpha of the focal loss, as in its paper and in the training of SAM."""


def _plain_sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    pixels = torch.ones_like(target) if counted is None else counted
    return torch.cat([over_pixels([cross_entropy(logits, target)], counted), over_pixels([pixels])], -1)


def _plain_value(sums: Tensor) -> Tensor:
    loss, pixels = sums.unbind(-1)
    return loss / pixels.clamp(min=1)


def _focal_sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    share = FOREGROUND_SHARE * target + (1 - FOREGROUND_SHARE) * (1 - target)
    missing = (logits.sigmoid() - target).abs()  # one minus the probability of what is true
    pixels = torch.ones_like(target) if counted is None else counted
    losses = share * missing**FOCUS * cross_entropy(logits, target)
    return torch.cat([over_pixels([losses], counted), over_pixels([pixels])], -1)


def _balanced_sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    losses = cross_entropy(logits, target)
    return over_pixels([losses * target, losses * (1 - target), target, 1 - target], counted)


def _balanced_value(sums: Tensor) -> Tensor:
    losses, pixels = sums[..., :2], sums[..., 2:]
    return (losses / pixels.clamp(min=1)).sum(-1) / (pixels > 0).sum(-1).clamp(min=1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of every pixel, of the shape of both."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


bce = Loss(_plain_sums, _plain_value, 2, local=True)
"""Binary cross entropy, mean over pixels."""

balanced_bce = Loss(_balanced_sums, _balanced_value, 4, local=True)
"""Binary cross entropy in which foreground and background weigh the same; an absent one weighs nothing."""

focal = Loss(_focal_sums, _plain_value, 2, local=True)
"""Focal loss, mean over pixels: the cross entropy of a pixel times the square of the probability that its truth lacks,
so that pixels that are already right count little, and times .25 for foreground and .75 for background."""
