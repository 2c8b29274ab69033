"""Objects by a grid of points, as SAM's automatic mask generator finds them (Kirillov et al., 2023, appendix B)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Prompt, Size, Window
from .parts import logit
from .splitting import LEAST_AREA, FoundObjects
from .windows import KeptMask, SeenPicture

STABILITY_OFFSET = 1.0
"""Logits above and below the threshold at which masks are compared; SAM's stability_score_offset."""
COVERED = 0.5
"""A mask of which better ones cover a larger share is no object of its own."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How objects are found by points.

    Attributes:
        points: Along each side of a picture, or of a tile.
        multimask: Whether each point has three masks.
        quality: Predicted quality above which an answer is kept.
        stability: Score of `stability_of` from which it is kept.
        overlap: IoU of two masks above which the better one alone is kept.
    """

    points: int
    multimask: bool = True
    quality: float = 0.88
    stability: float = 0.95
    overlap: float = 0.7

    def prompts(self, size: Size) -> list[Prompt]:
        """The points, evenly spread over ``(H, W)``."""
        along = (np.arange(self.points, dtype=np.float32) + 0.5) / self.points
        label = torch.ones(1, dtype=torch.int64)
        return [
            Prompt(points=torch.tensor([[x * size[1], y * size[0]]], dtype=torch.float32), point_labels=label)
            for y in along
            for x in along
        ]


def find_by_grid(seen: SeenPicture, grid: Grid, threshold: float) -> FoundObjects:
    """The objects of a picture.

    Of each window's answers those of good quality are kept that are stable and differ from better ones, at low
    resolution. The best of all windows then take their pixels first, at the picture's size and one at a time; masks
    that a tile's border cuts come after all others.

    Args:
        seen: The picture.
        grid: How it is asked.
        threshold: Probability above which a pixel is foreground.
    """
    kept: list[KeptMask] = []
    for at, encoded in seen.encode(range(len(seen.windows))):
        window = seen.windows[at]
        own: list[KeptMask] = []
        prompts = grid.prompts((window.height, window.width))
        for _, logits, scores in seen.answers(encoded, window, prompts, multimask=grid.multimask):
            own += _kept_of(seen, grid, window, logits.flatten(0, 1), scores.flatten(), logit(threshold))
        kept += _different(own, logit(threshold), grid.overlap)
    kept.sort(key=lambda one: (one.cut, -one.score))
    return _painted(kept, seen, threshold, grid.overlap)


def stability_of(logits: Tensor, least: float) -> Tensor:
    """IoU of the masks of answers at a higher and at a lower threshold.

    Args:
        logits: ``(Q, h, w)``.
        least: Logit of the threshold between the two.

    Returns:
        ``(Q,)``; 0 where both are empty.
    """
    inner = (logits > least + STABILITY_OFFSET).sum((1, 2))
    outer = (logits > least - STABILITY_OFFSET).sum((1, 2))
    return inner / outer.clamp(min=1)


def _kept_of(
    seen: SeenPicture, grid: Grid, window: Window, logits: Tensor, scores: Tensor, least: float
) -> list[KeptMask]:
    """The answers ``(Q, h, w)`` that are good and stable."""
    rows, columns = seen.filled(window, (logits.shape[-2], logits.shape[-1]))
    good = (scores > grid.quality).nonzero()[:, 0]
    shown = logits[good, :rows, :columns]
    good = good[(stability_of(shown, least) >= grid.stability) & (shown > least).any(2).any(1)]
    above = logits[good, :rows, :columns] > least
    edges = torch.stack([above[:, 0].any(1), above[:, -1].any(1), above[:, :, 0].any(1), above[:, :, -1].any(1)], 1)
    cut = (edges & torch.tensor(seen.inner_borders(window), device=edges.device)).any(1).tolist()
    found = zip(good.tolist(), scores[good].tolist(), cut, strict=True)
    return [KeptMask.of(logits[one], least, window=window, score=score, cut=is_cut) for one, score, is_cut in found]


def _different(masks: Sequence[KeptMask], least: float, overlap: float) -> list[KeptMask]:
    """Those masks of one window that differ from all better ones, at low resolution."""
    kept: list[tuple[KeptMask, Tensor, int]] = []
    for one in sorted(masks, key=lambda one: -one.score):
        own = one.logits > least
        area = int(own.sum())
        if all(_iou(one, own, area, *other) <= overlap for other in kept):
            kept.append((one, own, area))
    return [one for one, _, _ in kept]


def _iou(one: KeptMask, own: Tensor, area: int, other: KeptMask, its: Tensor, its_area: int) -> float:
    top, left = max(one.corner[0], other.corner[0]), max(one.corner[1], other.corner[1])
    bottom = min(one.corner[0] + own.shape[0], other.corner[0] + its.shape[0])
    right = min(one.corner[1] + own.shape[1], other.corner[1] + its.shape[1])
    if top >= bottom or left >= right:
        return 0.0
    place = (top, left, bottom, right)
    both = int((_inside(own, one.corner, place) & _inside(its, other.corner, place)).sum())
    return both / max(area + its_area - both, 1)


def _inside(mask: Tensor, corner: tuple[int, int], place: tuple[int, int, int, int]) -> Tensor:
    top, left, bottom, right = place
    return mask[top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]]


def _painted(masks: Iterable[KeptMask], seen: SeenPicture, threshold: float, overlap: float) -> FoundObjects:
    """Masks as separate objects: each takes the pixels that no better one has."""
    labels = np.zeros(seen.size, np.int32)
    areas, scores = [0], []
    for one in masks:
        part = one.part(seen.model.preprocessing, threshold)
        if part is None:
            continue
        place = labels[part.rows, part.columns]
        free = part.mask & (place == 0)
        area, left = int(part.mask.sum()), int(free.sum())
        if left < max(LEAST_AREA, (1 - COVERED) * area):
            continue
        numbers, both = np.unique(place[part.mask], return_counts=True)
        shared = [(areas[number], n) for number, n in zip(numbers.tolist(), both.tolist(), strict=True) if number]
        ious = [n / (area + its - n) for its, n in shared]
        if max(ious, default=0) > overlap:
            continue
        areas.append(area)
        scores.append(one.score)
        place[free] = len(scores)
    return FoundObjects(labels, np.array(scores, np.float32).clip(0, 1))
