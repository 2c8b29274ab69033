"""Losses on mask logits at original size, and their weighted sum."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .batch import by_group

SMOOTHING = 1e-3


Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits and 0/1 targets, both ``(..., K, H, W)``, to the loss of each image ``(...)``."""


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy, mean over pixels."""
    return _cross_entropy(logits, target).mean((-3, -2, -1))


def balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy in which foreground and background weigh the same; an absent one weighs nothing."""
    losses = _cross_entropy(logits, target)
    sides = torch.stack([target, 1 - target])  # (2, ..., K, H, W)
    pixels = sides.sum((-3, -2, -1))
    means = (losses * sides).sum((-3, -2, -1)) / pixels.clamp(min=1)
    return means.sum(0) / (pixels > 0).sum(0)


def iou(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft intersection over union of each mask, mean over masks."""
    probabilities = logits.sigmoid()
    intersection = (probabilities * target).sum((-2, -1))
    union = (probabilities + target).sum((-2, -1)) - intersection
    return (1 - (intersection + SMOOTHING) / (union + SMOOTHING)).mean(-1)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each mask, mean over masks."""
    probabilities = logits.sigmoid()
    intersection = (probabilities * target).sum((-2, -1))
    total = (probabilities + target).sum((-2, -1))
    return (1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)).mean(-1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


LOSSES: Mapping[str, Loss] = {
    "bce": bce,
    "balanced_bce": balanced_bce,
    "iou": iou,
    "dice": dice,
}


def image_losses(logits: Sequence[Tensor], targets: Sequence[Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Losses of each image at its own size; images of one size are computed together.

    Args:
        logits: For each image ``(K, H, W)``.
        targets: For each image ``(K, H, W)``, 0 or 1.
        names: Losses in `LOSSES`.

    Returns:
        For each name ``(images,)``.
    """
    chosen = {name: LOSSES[name] for name in names}

    def together(members: list[int]) -> Tensor:
        some_logits = torch.stack([logits[at] for at in members]).float()  # (n, K, H, W)
        some_targets = torch.stack([targets[at] for at in members]).float()
        return torch.stack([loss(some_logits, some_targets) for loss in chosen.values()], -1)  # (n, losses)

    shapes = [(one.shape, target.shape) for one, target in zip(logits, targets, strict=True)]
    rows = torch.stack(by_group(shapes, together))  # (images, losses)
    return dict(zip(chosen, rows.unbind(-1), strict=True))


def weighted_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of losses, each taken image by image at its own size and averaged over the images.

    Args:
        logits: For each image ``(K, H, W)``.
        targets: For each image ``(K, H, W)``, 0 or 1.
        weights: Name of a loss in `LOSSES` to its weight.

    Returns:
        The sum, and each loss by name without its weight.
    """
    terms = {name: values.mean() for name, values in image_losses(logits, targets, weights).items()}
    return weighted_sum(terms, weights), terms


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of terms of one shape, each times its weight."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum(0)
