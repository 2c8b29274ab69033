"""Binary cross entropy, plain and balanced between foreground and background."""

import torch
from torch import Tensor
from torch.nn import functional

from .base import Loss, over_pixels


def _plain_sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    pixels = torch.ones_like(target) if counted is None else counted
    return torch.cat([over_pixels([_entropy(logits, target)], counted), over_pixels([pixels])], -1)


def _plain_value(sums: Tensor) -> Tensor:
    loss, pixels = sums.unbind(-1)
    return loss / pixels.clamp(min=1)


def _balanced_sums(logits: Tensor, target: Tensor, counted: Tensor | None) -> Tensor:
    losses = _entropy(logits, target)
    return over_pixels([losses * target, losses * (1 - target), target, 1 - target], counted)


def _balanced_value(sums: Tensor) -> Tensor:
    losses, pixels = sums[..., :2], sums[..., 2:]
    return (losses / pixels.clamp(min=1)).sum(-1) / (pixels > 0).sum(-1).clamp(min=1)


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


bce = Loss(_plain_sums, _plain_value, 2)
"""Binary cross entropy, mean over pixels."""

balanced_bce = Loss(_balanced_sums, _balanced_value, 4)
"""Binary cross entropy in which foreground and background weigh the same; an absent one weighs nothing."""
