"""What the tiny model is taught: masks, their quality, and, through a helper head, what belongs together."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pooled(masks: Tensor, side: int) -> Tensor:
    """Coverage ``(..., side, side)`` in 0..1 of masks ``(..., H, W)``, squares of a multiple of the side."""
    grey = masks.flatten(0, -3)[:, None].to(torch.float32)
    return F.avg_pool2d(grey, masks.shape[-1] // side).view(*masks.shape[:-2], side, side)


def near_masks(targets: Tensor, reach: int) -> Tensor:
    """1 in the box of each target and a border of it, ``(R, T, h, w)``: there the outline is decided."""
    used = targets > 0
    rows, columns = used.any(dim=3).float(), used.any(dim=2).float()

    def spread(line: Tensor) -> Tensor:
        grown = F.max_pool1d(line, 2 * reach + 1, stride=1, padding=reach)
        return torch.minimum(grown.cummax(dim=-1).values, grown.flip(-1).cummax(dim=-1).values.flip(-1))

    return spread(rows)[..., :, None] * spread(columns)[..., None, :]


def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the picture and of the surroundings of the target, and Dice, for each pair.

    Args:
        logits: ``(R, M, h, w)``.
        targets: ``(R, T, h, w)`` in 0..1.

    Returns:
        ``(R, M, T)``.
    """
    area = near_masks(targets, targets.shape[-1] // 32).flatten(2).transpose(1, 2)  # (R, hw, T)
    logits, targets = logits.flatten(2), targets.flatten(2).transpose(1, 2)
    wrong_if_off = F.softplus(logits)
    entropy = (wrong_if_off.sum(dim=-1, keepdim=True) - logits @ targets) / logits.shape[-1]
    nearby = (wrong_if_off @ area - logits @ (area * targets)) / area.sum(dim=1, keepdim=True).clamp_min(1)
    probability = logits.sigmoid()
    sizes = probability.sum(dim=-1, keepdim=True) + targets.sum(dim=1, keepdim=True)
    dice = 1 - (2 * (probability @ targets) + 1) / (sizes + 1)
    return 2 * entropy + 2 * nearby + dice


def overlaps(logits: Tensor, target: Tensor) -> Tensor:
    """IoU ``(R, M)`` of the thresholded masks ``(R, M, h, w)`` with the thresholded target ``(R, h, w)``."""
    predicted, truth = (logits > 0).flatten(2), (target >= 0.5).flatten(1)[:, None]
    both = (predicted & truth).sum(dim=-1)
    return both / (predicted | truth).sum(dim=-1).clamp_min(1)


@dataclass(frozen=True)
class AnswerLoss:
    """Parts of the loss of some answers, each a mean over prompts."""

    single: Tensor
    """Of the single mask."""
    several: Tensor
    """Of the best of the three masks for each thing that may be meant."""
    quality: Tensor
    """Of the predicted quality of all four."""


def answer_loss(
    logits: Tensor, scores: Tensor, target: Tensor, wider: Tensor | None = None, valid: Tensor | None = None
) -> AnswerLoss:
    """Loss of all four masks of the decoder.

    Args:
        logits: ``(R, 4, h, w)``; the first is the single mask.
        scores: Their predicted quality, ``(R, 4)``.
        target: What was asked for, ``(R, s, s)``; answers are compared in this size.
        wider: Other things that a point may mean, ``(R, T, s, s)``.
        valid: Whether there are such things, ``(R, T)``.
    """
    logits = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear")
    targets = target[:, None] if wider is None else torch.cat([target[:, None], wider], dim=1)
    losses = mask_losses(logits, targets)
    three = losses[:, 1:]
    several = three[:, :, 0].amin(dim=1).mean()
    if valid is not None:
        best = three[:, :, 1:].amin(dim=1)
        several = several + 0.5 * (best * valid).sum() / valid.sum().clamp_min(1)
    # The others follow a little, so that none of them is left behind for good.
    several = 0.95 * several + 0.05 * three[:, :, 0].mean()
    quality = F.mse_loss(scores.float(), overlaps(logits.detach(), target))
    return AnswerLoss(losses[:, 0, 0].mean(), several, quality)


class GroupingHead(nn.Module):
    """Reads objects, borders and grouping from the image embeddings; teaches the encoder, is not exported."""

    def __init__(self, channels: int, cell: int = 4, features: int = 8) -> None:
        super().__init__()
        self.cell = cell
        self.project = nn.Linear(channels, cell * cell * (2 + features))
        self.offset = nn.Parameter(torch.tensor(2.0))

    def forward(self, image_embeddings: Tensor) -> Tensor:
        """``(B, C, h, w)`` to object, border and grouping maps, ``(B, 2 + features, cell * h, cell * w)``."""
        maps = self.project(image_embeddings.permute(0, 2, 3, 1))
        return F.pixel_shuffle(maps.permute(0, 3, 1, 2).float(), self.cell)

    def loss(self, image_embeddings: Tensor, labels: Tensor, samples: int = 192) -> Tensor:
        """Cross-entropy of objects, of borders, and of "same region?" for pairs of random places."""
        maps = self(image_embeddings)
        side = maps.shape[-1]
        step = labels.shape[-1] // side
        cells = labels.unfold(1, step, step).unfold(2, step, step).flatten(3)  # (B, side, side, step*step)
        low, high = cells.amin(dim=-1), cells.amax(dim=-1)
        objects = (cells > 0).float().mean(dim=-1)
        entropy = F.binary_cross_entropy_with_logits
        dense = entropy(maps[:, 0], objects) + entropy(maps[:, 1], (low != high).float())
        chosen = torch.randint(side * side, (samples,), device=labels.device)
        features = maps[:, 2:].flatten(2).index_select(2, chosen).transpose(1, 2)  # (B, samples, features)
        region = cells[..., step * step // 2].flatten(1)[:, chosen]
        same = (region[:, :, None] == region[:, None, :]).float()
        distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
        return dense + entropy(self.offset - distance, same)
