"""The answers of tiles as the answer about their picture: a weighted mean of logits where tiles overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..batch import Size, Window
from ..preprocessing import Preprocessing
from .grid import Tiling

BACKGROUND = -10.0
"""Logit where no tile was asked, and of tiles that a box does not touch."""


@dataclass(frozen=True)
class TileAnswers:
    """What one tile answered.

    Attributes:
        window: The tile.
        asked: Positions of the queries that were asked in it.
        mask_logits: ``(len(asked), h, w)`` low-resolution logits.
        iou_scores: ``(len(asked),)`` predicted quality.
        background: Positions of the queries to which it answers background unasked.
    """

    window: Window
    asked: tuple[int, ...]
    mask_logits: Tensor
    iou_scores: Tensor
    background: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class TiledLogits:
    """The answers to queries about one picture, kept as low-resolution logits of tiles.

    It stands where ``(Q, h, w)`` low-resolution logits of a whole picture do: `Preprocessing.to_original_size` takes
    it, and makes of it as many rows as are wanted.

    Attributes:
        tiles: In any order; those that see the wanted rows are enough.
        queries: Positions, among those that the tiles were asked, of the queries whose answers these are.
        size: ``(H, W)`` of the picture.
        tiling: How the picture is cut.
        preprocessing: How logits of a tile come to its size.
    """

    tiles: Sequence[TileAnswers]
    queries: tuple[int, ...]
    size: Size
    tiling: Tiling
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, which: slice | Sequence[int]) -> Self:
        """Some of the answers."""
        some = self.queries[which] if isinstance(which, slice) else tuple(self.queries[at] for at in which)
        return replace(self, queries=some)

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self.tiles[0].mask_logits.device

    @property
    def requires_grad(self) -> bool:
        """Answers of tiles are not trained on: training shows single tiles."""
        return False

    def detach(self) -> Self:
        """See `requires_grad`."""
        return self

    def at_original_size(self, rows: slice | None = None) -> Tensor:
        """Logits of some rows of the picture, ``(n, rows, W)`` float32; see `Preprocessing.to_original_size`."""
        first, last = (0, self.size[0]) if rows is None else (rows.start, rows.stop)
        total = torch.zeros(len(self), last - first, self.size[1], device=self.device)
        weight = torch.zeros_like(total)
        for tile in self.tiles:
            top, left, height, width = tile.window
            low, high = max(first, top), min(last, top + height)
            if low >= high:
                continue
            place = (slice(low - first, high - first), slice(left, left + width))
            own = slice(low - top, high - top)
            weights = self.tiling.weights(tile.window, own).to(self.device)
            answered = {query: at for at, query in enumerate(tile.asked)}
            into = [at for at, query in enumerate(self.queries) if query in answered]
            if into:
                logits = tile.mask_logits[[answered[self.queries[at]] for at in into]]
                full = self.preprocessing.to_original_size(logits, (height, width), own)
                total[into, place[0], place[1]] += full * weights
                weight[into, place[0], place[1]] += weights
            for at, query in enumerate(self.queries):
                if query in tile.background:
                    total[at, place[0], place[1]] += BACKGROUND * weights
                    weight[at, place[0], place[1]] += weights
        return torch.where(weight > 0, total / weight.clamp(min=1e-12), BACKGROUND)

    def iou_scores(self) -> Tensor:
        """Predicted quality of each answer ``(Q,)``: the mean over the tiles that were asked; 0 where none was."""
        found: dict[int, list[Tensor]] = {}
        for tile in self.tiles:
            for query, score in zip(tile.asked, tile.iou_scores.float().cpu(), strict=True):
                found.setdefault(query, []).append(score)
        means = [torch.stack(found[query]).mean() if query in found else torch.zeros(()) for query in self.queries]
        return torch.stack(means) if means else torch.zeros(0)
