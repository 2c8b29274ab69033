"""The answers of tiles as the answer about their picture: a weighted mean of logits where tiles overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from ..batch import Size, Window
from ..preprocessing import Preprocessing, Reach
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

    @cached_property
    def position(self) -> dict[int, int]:
        """Position among the answers of each query that was asked."""
        return {query: at for at, query in enumerate(self.asked)}


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

    def at_original_size(self, rows: slice | None = None, columns: slice | None = None) -> Tensor:
        """Logits of a part of the picture, ``(n, rows, columns)`` float32; see `Preprocessing.to_original_size`."""
        first, last = (0, self.size[0]) if rows is None else (rows.start, rows.stop)
        begin, end = (0, self.size[1]) if columns is None else (columns.start, columns.stop)
        total = torch.zeros(len(self), last - first, end - begin, device=self.device)
        weight = torch.zeros_like(total)
        for tile in self.tiles:
            top, left, height, width = tile.window
            low, high = max(first, top), min(last, top + height)
            near, far = max(begin, left), min(end, left + width)
            if low >= high or near >= far:
                continue
            place = (slice(low - first, high - first), slice(near - begin, far - begin))
            own, across = slice(low - top, high - top), slice(near - left, far - left)
            weights = self.tiling.weights(tile.window, own)[:, across].to(self.device)
            into = [at for at, query in enumerate(self.queries) if query in tile.position]
            if into:
                logits = tile.mask_logits[[tile.position[self.queries[at]] for at in into]]
                some = None if (near, far) == (left, left + width) else across
                full = self.preprocessing.to_original_size(logits, (height, width), own, some)
                total[into, place[0], place[1]] += full * weights
                weight[into, place[0], place[1]] += weights
            unasked = [at for at, query in enumerate(self.queries) if query in tile.background]
            if unasked:
                total[unasked, place[0], place[1]] += BACKGROUND * weights
                weight[unasked, place[0], place[1]] += weights
        return torch.where(weight > 0, total / weight.clamp(min=1e-12), BACKGROUND)

    def reach(self, least: float) -> Reach | None:
        """See `Preprocessing.reach`: what the tiles reach together, as a mean is not above all of them."""
        if least < BACKGROUND:
            return Reach(slice(0, self.size[0]), slice(0, self.size[1]))
        found: list[tuple[int, int, int, int]] = []
        for tile in self.tiles:
            asked = [tile.position[query] for query in self.queries if query in tile.position]
            if not asked:
                continue
            top, left, height, width = tile.window
            own = self.preprocessing.reach(tile.mask_logits[asked], (height, width), least)
            if own is not None:
                (rows, columns) = own
                found.append((top + rows.start, top + rows.stop, left + columns.start, left + columns.stop))
        if not found:
            return None
        tops, bottoms, lefts, rights = zip(*found, strict=True)
        return Reach(slice(min(tops), max(bottoms)), slice(min(lefts), max(rights)))

    def pixels_each(self) -> float:
        """See `Preprocessing.pixels_each`."""
        window = self.tiles[0].window
        return self.preprocessing.pixels_each(self.tiles[0].mask_logits, (window[2], window[3]))

    def iou_scores(self) -> Tensor:
        """Predicted quality of each answer ``(Q,)``: the mean over the tiles that were asked; 0 where none was."""
        found: dict[int, list[Tensor]] = {}
        for tile in self.tiles:
            for query, score in zip(tile.asked, tile.iou_scores.float().cpu(), strict=True):
                found.setdefault(query, []).append(score)
        means = [torch.stack(found[query]).mean() if query in found else torch.zeros(()) for query in self.queries]
        return torch.stack(means) if means else torch.zeros(0)
