"""What the tiny model is taught: masks, their quality, and, through a helper head, what belongs together."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mask_targets(labels: Tensor, asked: Tensor, side: int) -> Tensor:
    """Coverage of the objects asked for.

    Args:
        labels: ``(B, H, W)``.
        asked: Object numbers, ``(B, N)``.
        side: Side of the result.

    Returns:
        ``(B, N, side, side)`` in 0..1.
    """
    masks = (labels[:, None] == asked[:, :, None, None]).float()
    return F.adaptive_avg_pool2d(masks, side)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and Dice, ``(..., h, w)`` to ``(...)``."""
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum(dim=(-2, -1)) + 1
    dice = 1 - overlap / (probability.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1)) + 1)
    return 4 * entropy.mean(dim=(-2, -1)) + dice


def overlap_of(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of the thresholded mask with the thresholded target, ``(...)``."""
    predicted, truth = logits > 0, target.expand_as(logits) >= 0.5
    both = (predicted & truth).sum(dim=(-2, -1))
    either = (predicted | truth).sum(dim=(-2, -1))
    return both / either.clamp_min(1)


def prompt_loss(logits: Tensor, iou_scores: Tensor, target: Tensor) -> Tensor:
    """Loss of the best of the masks offered for a prompt, and of every quality estimate.

    Args:
        logits: ``(B, N, M, h, w)``, `M` masks for each prompt.
        iou_scores: ``(B, N, M)``.
        target: ``(B, N, h, w)``.
    """
    logits, iou_scores, target = logits.float(), iou_scores.float(), target[:, :, None]
    per_mask = mask_loss(logits, target)  # (B, N, M)
    best = per_mask.min(dim=-1).values.mean()
    # The others follow a little, so that none of them is left behind for good.
    return 0.95 * best + 0.05 * per_mask.mean() + F.mse_loss(iou_scores, overlap_of(logits.detach(), target))


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
        features = maps[:, 2:].flatten(2)[:, :, chosen].transpose(1, 2)  # (B, samples, features)
        region = cells[..., step * step // 2].flatten(1)[:, chosen]
        same = (region[:, :, None] == region[:, None, :]).float()
        distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
        return dense + entropy(self.offset - distance, same)
