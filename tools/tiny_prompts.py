"""Questions about scenes, made on the device: which objects, their boxes, points on them, and the right answers."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tiny_data import LABELS, Scenes

LEAST_PIXELS = 16
"""Smaller visible objects are not asked for."""


@dataclass(frozen=True)
class Maps:
    """What lies at each pixel, each ``(B, H, W)``."""

    inner: Tensor
    """The innermost object."""
    whole: Tensor
    """The outermost one."""
    holder: Tensor
    """What holds the innermost object; 0 where nothing does."""
    cluster: Tensor
    """The group of objects that touch; 0 for those alone."""


def maps_of(scenes: Scenes) -> Maps:
    """The maps of some scenes."""
    inner = scenes.labels.long()
    flat = inner.flatten(1)
    parents, clusters = scenes.parents.long(), scenes.clusters.long()
    own = torch.arange(LABELS, device=inner.device)
    roots = torch.where(parents > 0, parents, own)
    found = (table.gather(1, flat).view_as(inner) for table in (roots, parents, clusters))
    return Maps(inner, *found)


def choose(scenes: Scenes, maps: Maps, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Objects to ask for ``(B, count)``, small and large ones equally often; the first of a plain scene is 1."""
    flat = maps.inner.flatten(1)
    device = flat.device
    parents = scenes.parents.long()
    own = torch.zeros(len(flat), LABELS, device=device).scatter_add_(1, flat, torch.ones_like(flat).float())
    held = torch.zeros_like(own).scatter_add_(1, parents, own)
    areas = own + held
    present = (areas >= LEAST_PIXELS) & (own > 0)
    present[:, 0] = False
    size = areas.clamp_min(1).log2().floor().masked_fill(~present, -1)  # half octaves of the side
    like = (size[:, :, None] == size[:, None, :]).sum(dim=2)
    weights = present / like
    uniform = torch.rand(len(flat), count, LABELS, generator=generator, device=device).clamp(1e-9, 1 - 1e-7)
    chosen = (weights.clamp_min(1e-30).log()[:, None] - (-uniform.log()).log()).argmax(dim=2)
    chosen[:, 0].masked_fill_(scenes.crowded == 0, 1)
    return chosen


def object_masks(maps: Maps, asked: Tensor) -> Tensor:
    """The objects asked for with what they hold, bool, ``(B, N, H, W)``."""
    asked = asked[:, :, None, None]
    return (maps.inner[:, None] == asked) | (maps.holder[:, None] == asked)


def wider_masks(scenes: Scenes, maps: Maps, asked: Tensor) -> tuple[Tensor, Tensor]:
    """What holds each object, and the group that it touches.

    Returns:
        Masks ``(B, N, 2, H, W)`` and whether there is such a thing, ``(B, N, 2)``.
    """
    holder, cluster = (table.long().gather(1, asked) for table in (scenes.parents, scenes.clusters))
    masks = torch.stack(
        [maps.whole[:, None] == holder[:, :, None, None], maps.cluster[:, None] == cluster[:, :, None, None]], dim=2
    )
    return masks, torch.stack([holder, cluster], dim=2) > 0


def boxes_of(masks: Tensor, jitter: float = 0.0) -> Tensor:
    """Boxes ``(B, N, 4)`` of masks ``(B, N, H, W)``, XYXY.

    Args:
        masks: None of them empty.
        jitter: Deviation of each side in parts of its length; with any there is half a pixel besides.
    """
    ends = []
    for axis in (2, 3):  # columns, then rows
        used = masks.any(dim=axis).float()
        length = used.shape[-1]
        ends += [used.argmax(dim=-1), length - used.flip(-1).argmax(dim=-1)]
    left, right, top, bottom = ends
    corners = torch.stack([left, top, right, bottom], dim=-1).float()
    if jitter:
        sides = (corners[..., 2:] - corners[..., :2]).repeat(1, 1, 2)
        corners = corners + torch.randn_like(corners) * (jitter * sides + 0.5)
    return corners.clamp(0, masks.shape[-1] - 1)


def points_in(weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A random place XY ``(..., 2)`` where the weights ``(..., H, W)`` are not 0; larger weights win."""
    noise = torch.rand(weights.shape, generator=generator, device=weights.device) + 1e-6
    best = (noise * weights).flatten(-2).argmax(dim=-1)
    width = weights.shape[-1]
    return torch.stack([best % width, best // width], dim=-1).float()


def point_sets(maps: Maps, asked: Tensor, masks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Several points for each object: the first on it, of the others one in four off it, half of those on another.

    Returns:
        Places ``(B, N, count, 2)`` and signs ``(B, N, count)``.
    """
    others = ~masks * (
        1.0 + (maps.inner[:, None] > 0) * (torch.rand(masks.shape[:2], device=masks.device) < 0.5)[..., None, None]
    )
    own = (maps.inner[:, None] == asked[:, :, None, None]).float()
    places, signs = [points_in(own)], [torch.ones_like(asked)]
    for _ in range(count - 1):
        sign = (torch.rand(asked.shape, device=asked.device) < 0.75).long()
        places.append(points_in(torch.where(sign[..., None, None] > 0, masks.float(), others)))
        signs.append(sign)
    return torch.stack(places, dim=2), torch.stack(signs, dim=2)


def correction(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """A point in the error of an answer, or on the object where there is no error.

    Args:
        logits: ``(R, h, w)``.
        masks: ``(R, H, W)``.

    Returns:
        Places ``(R, 2)`` and signs ``(R,)``: 1 where the object was missed.
    """
    answers = F.interpolate(logits[:, None], masks.shape[-2:], mode="bilinear")[:, 0] > 0
    error = answers ^ masks
    places = points_in(error + 1e-7 * masks)
    column, row = places.long().unbind(-1)
    signs = masks.flatten(1).gather(1, (row * masks.shape[-1] + column)[:, None])[:, 0]
    return places, signs.long()


def everything(maps: Maps, side: int) -> Tensor:
    """Answers about the whole picture, ``(B, 3, side, side)`` in 0..1: all objects, their borders, their insides."""
    foreground = (maps.whole > 0).float()[:, None]
    whole = maps.whole.float()[:, None]
    high = F.max_pool2d(whole, 5, stride=1, padding=2)
    low = -F.max_pool2d(-whole, 5, stride=1, padding=2)
    border = (high != low).float()
    answers = torch.cat([foreground, border, foreground * (1 - border)], dim=1)
    return F.avg_pool2d(answers, answers.shape[-1] // side)
