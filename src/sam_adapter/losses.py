"""Losses on mask logits at original size, and their weighted sum."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

SMOOTHING = 1e-3


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy, mean over pixels."""
    return functional.binary_cross_entropy_with_logits(logits, target)


def balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy in which foreground and background weigh the same; an absent one weighs nothing."""
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    background = 1 - target
    sides = [(losses * side).sum() / side.sum().clamp(min=1) for side in (target, background)]
    present = (target.any().float() + background.any().float()).clamp(min=1)
    return (sides[0] + sides[1]) / present


def iou(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft intersection over union of each mask, mean over masks."""
    probabilities = logits.sigmoid()
    intersection = (probabilities * target).sum((-2, -1))
    union = (probabilities + target).sum((-2, -1)) - intersection
    return (1 - (intersection + SMOOTHING) / (union + SMOOTHING)).mean()


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each mask, mean over masks."""
    probabilities = logits.sigmoid()
    intersection = (probabilities * target).sum((-2, -1))
    total = (probabilities + target).sum((-2, -1))
    return (1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)).mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": bce,
    "balanced_bce": balanced_bce,
    "iou": iou,
    "dice": dice,
}


def weighted_loss(
    logits: list[Tensor], targets: list[Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of losses, each taken image by image at its own size and averaged over the images.

    Args:
        logits: For each image ``(K, H, W)``.
        targets: For each image ``(K, H, W)``, 0 or 1.
        weights: Name of a loss in `LOSSES` to its weight.

    Returns:
        The sum, and each loss by name without its weight.
    """
    terms = {
        name: torch.stack(
            [LOSSES[name](one.float(), target.float()) for one, target in zip(logits, targets, strict=True)]
        ).mean()
        for name in weights
    }
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms
