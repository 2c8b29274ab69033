"""A prompt about a picture as prompts about its tiles: boxes and masks are cut, points go where they lie."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..batch import GivenMask, Prompt, Window

SLIVER = 0.05
"""A tile that shows less of a box or a mask, as a share of it or of the tile, is left out if another one shows more."""


def prompts_in_tiles(prompt: Prompt, windows: Sequence[Window]) -> tuple[dict[int, Prompt], list[int]]:
    """What a prompt means in each tile.

    Args:
        prompt: In pixels of the picture, without a mask input.
        windows: The tiles.

    Returns:
        Position of a tile to the prompt in its own pixels, for those that are asked; and the positions of tiles that
        answer background without being asked, as the box or the mask does not touch them. The others have no say.
    """
    if prompt.mask is not None:
        return _of_mask(prompt, prompt.mask, windows)
    if prompt.box is not None:
        return _of_box(prompt, prompt.box, windows)
    if prompt.points is None or prompt.point_labels is None:
        return dict.fromkeys(range(len(windows)), prompt), []
    asked = {at: own for at, window in enumerate(windows) if (own := _points_in(prompt, window)) is not None}
    shown = [at for at, own in asked.items() if own.point_labels is not None and (own.point_labels == 1).any()]
    return ({at: asked[at] for at in shown} if shown else asked), []


def _of_box(prompt: Prompt, box: Tensor, windows: Sequence[Window]) -> tuple[dict[int, Prompt], list[int]]:
    left, top, right, bottom = box.tolist()
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    shares = []
    for window in windows:
        across = min(right, window.left + window.width) - max(left, window.left)
        down = min(bottom, window.top + window.height) - max(top, window.top)
        whole = min((right - left) * (bottom - top), window.width * window.height)
        shares.append(max(across, 0) * max(down, 0) / whole)
    return {at: _cut(prompt, box, windows[at]) for at in _well_shown(shares)}, _untouched(shares)


def _of_mask(prompt: Prompt, mask: GivenMask, windows: Sequence[Window]) -> tuple[dict[int, Prompt], list[int]]:
    area, parts = mask.area, [mask.inside(window) for window in windows]
    shares = [
        0 if part is None else part.area / min(area, window.width * window.height)
        for part, window in zip(parts, windows, strict=True)
    ]
    boxed = {} if prompt.box is None else _of_box(prompt, prompt.box, windows)[0]
    asked = {}
    for at in _well_shown(shares):
        own = boxed.get(at) or _points_in(prompt, windows[at]) or Prompt()
        asked[at] = replace(own, mask=parts[at])
    return asked, _untouched(shares)


def _well_shown(shares: Sequence[float]) -> list[int]:
    """Positions of tiles that show enough; see `SLIVER`."""
    most = max(shares)
    return [at for at, share in enumerate(shares) if share > 0 and not (share < SLIVER and share < most)]


def _untouched(shares: Sequence[float]) -> list[int]:
    """Positions of tiles that show nothing."""
    return [at for at, share in enumerate(shares) if share <= 0]


def _cut(prompt: Prompt, box: Tensor, window: Window) -> Prompt:
    """The part of a box that a tile shows, with the points in it, in pixels of the tile."""
    corner = box.new_tensor([window.left, window.top] * 2)
    limit = box.new_tensor([window.width - 1, window.height - 1] * 2)
    own = torch.minimum((box - corner).clamp(min=0), limit)
    points = _points_in(prompt, window)
    if points is None:
        return replace(prompt, box=own, points=None, point_labels=None)
    return replace(points, box=own)


def _points_in(prompt: Prompt, window: Window) -> Prompt | None:
    """The points that lie in a tile, in pixels of the tile; None if there are none."""
    if prompt.points is None or prompt.point_labels is None:
        return None
    own = prompt.points - prompt.points.new_tensor([window.left, window.top])
    limit = own.new_tensor([window.width, window.height])
    inside = ((own >= 0) & (own < limit)).all(1) & (prompt.point_labels >= 0)
    if not inside.any():
        return None
    return replace(prompt, points=own[inside], point_labels=prompt.point_labels[inside])
