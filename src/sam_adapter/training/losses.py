"""Losses on mask logits at original size, and their weighted sum."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..batch import by_group
from ..tasks.metrics.shapes import require_same_shape

SMOOTHING = 1e-3


class Loss(Protocol):
    """Logits and 0/1 targets, both ``(..., K, H, W)``, to the loss of each image ``(...)``.

    ``valid``, ``(..., K, H, W)`` or ``(..., 1, H, W)`` bool, is False at pixels that do not count; None counts all.
    A loss raises ``ValueError`` if shapes differ otherwise: they are never broadcast.
    """

    def __call__(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """See the class."""
        ...


def bce(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross entropy, mean over pixels."""
    counted = _counted(logits, target, valid)
    losses = _cross_entropy(logits, target)
    if counted is None:
        return losses.mean((-3, -2, -1))
    return (losses * counted).sum((-3, -2, -1)) / counted.sum((-3, -2, -1)).clamp(min=1)


def balanced_bce(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross entropy in which foreground and background weigh the same; an absent one weighs nothing."""
    counted = _counted(logits, target, valid)
    losses = _cross_entropy(logits, target)
    sides = torch.stack([target, 1 - target])  # (2, ..., K, H, W)
    if counted is not None:
        sides = sides * counted
    pixels = sides.sum((-3, -2, -1))
    means = (losses * sides).sum((-3, -2, -1)) / pixels.clamp(min=1)
    return means.sum(0) / (pixels > 0).sum(0).clamp(min=1)


def iou(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """One minus the soft intersection over union of each mask, mean over masks."""
    intersection, total = _overlap(logits, target, valid)
    return (1 - (intersection + SMOOTHING) / (total - intersection + SMOOTHING)).mean(-1)


def dice(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """One minus the soft Dice coefficient of each mask, mean over masks."""
    intersection, total = _overlap(logits, target, valid)
    return (1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)).mean(-1)


def _counted(logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor | None:
    """The pixels that count, as 0 and 1 of the target's shape, or None for all."""
    if valid is not None and valid.ndim == target.ndim and valid.shape[-3] == 1:
        valid = valid.expand(*valid.shape[:-3], target.shape[-3], *valid.shape[-2:])
    require_same_shape(logits, target, valid)
    return None if valid is None else valid.to(target.dtype)


def _overlap(logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Soft intersection of each mask with its target, and the sum of both, ``(..., K)``."""
    counted = _counted(logits, target, valid)
    probabilities = logits.sigmoid()
    if counted is not None:
        probabilities, target = probabilities * counted, target * counted
    return (probabilities * target).sum((-2, -1)), (probabilities + target).sum((-2, -1))


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


LOSSES: Mapping[str, Loss] = {
    "bce": bce,
    "balanced_bce": balanced_bce,
    "iou": iou,
    "dice": dice,
}


def image_losses(
    logits: Sequence[Tensor],
    targets: Sequence[Tensor],
    names: Iterable[str],
    *,
    valid: Sequence[Tensor | None] | None = None,
) -> dict[str, Tensor]:
    """Losses of each image at its own size; images of one size are computed together.

    Args:
        logits: For each image ``(K, H, W)``.
        targets: For each image ``(K, H, W)``, 0 or 1.
        names: Losses in `LOSSES`.
        valid: For each image ``(1, H, W)`` or ``(K, H, W)`` bool, False where nothing counts, or None for everywhere.

    Returns:
        For each name ``(images,)``.

    Raises:
        ValueError: If the shapes of an image's logits, target and valid pixels do not fit.
    """
    chosen = {name: LOSSES[name] for name in names}
    counted = [None] * len(logits) if valid is None else valid

    def together(members: list[int]) -> Tensor:
        some_logits = torch.stack([logits[at] for at in members]).float()  # (n, K, H, W)
        some_targets = torch.stack([targets[at] for at in members]).float()
        given = [one for at in members if (one := counted[at]) is not None]
        some_valid = torch.stack(given) if given else None
        losses = [loss(some_logits, some_targets, some_valid) for loss in chosen.values()]
        return torch.stack(losses, -1)  # (n, losses)

    keys = [
        (one.shape, target.shape, None if some is None else some.shape)
        for one, target, some in zip(logits, targets, counted, strict=True)
    ]
    rows = torch.stack(by_group(keys, together))  # (images, losses)
    return dict(zip(chosen, rows.unbind(-1), strict=True))


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of terms of one shape, each times its weight."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum(0)
