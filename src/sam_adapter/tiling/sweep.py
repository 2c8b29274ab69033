"""A picture tile by tile: its tiles through the model in batches, the answers in strips of rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, Query, Window
from ..preprocessing import Preprocessing
from .asking import prompts_in_tiles
from .blending import TileAnswers, TiledLogits
from .grid import Tiling

AnswerTiles = Callable[[Batch], tuple[Tensor, Tensor]]
"""A model: a batch of tiles to low-resolution logits ``(Q, h, w)`` and predicted quality ``(Q,)`` of its queries."""

Pixels = TypeVar("Pixels", Tensor, np.ndarray)


@dataclass(frozen=True)
class Strip:
    """Some rows of a picture with the answers about them.

    Attributes:
        rows: Of the picture.
        mask_logits: The answers to all queries; of these rows alone.
    """

    rows: slice
    mask_logits: TiledLogits


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Answers queries about whole pictures by asking about their tiles.

    Attributes:
        answer: The model.
        tiling: How pictures are cut.
        preprocessing: A tile to the model's input, and its logits back.
        batch_size: Tiles that go through the model together.
        device: Where the model is.
    """

    answer: AnswerTiles
    tiling: Tiling
    preprocessing: Preprocessing
    batch_size: int = 1
    device: torch.device | str = "cpu"

    def strips(self, picture: Tensor, queries: Sequence[Query]) -> Iterator[Strip]:
        """The answers about a picture from its top to its bottom.

        Of the tiles only those are held whose rows a strip needs: memory grows with the picture's width, not with its
        height, for however many queries.

        Args:
            picture: ``(H, W, 3)`` uint8.
            queries: In pixels of the picture.

        Yields:
            Strips of rows, which together are the picture.
        """
        size = (picture.shape[0], picture.shape[1])
        grid = self.tiling.rows(size)
        tops = [row[0].top for row in grid]
        answered = self._answered(picture, queries, [window for row in grid for window in row])
        held: list[TileAnswers] = []
        for row, top, end in zip(grid, tops, [*tops[1:], size[0]], strict=True):
            held += [next(answered) for _ in row]
            held = [one for one in held if one.window.top + one.window.height > top]
            logits = TiledLogits(
                tiles=tuple(held),
                queries=tuple(range(len(queries))),
                size=size,
                tiling=self.tiling,
                preprocessing=self.preprocessing,
            )
            yield Strip(slice(top, end), logits)

    def _answered(self, picture: Tensor, queries: Sequence[Query], windows: Sequence[Window]) -> Iterator[TileAnswers]:
        """The answers of the tiles, in their order; tiles that nothing is asked about do not reach the model."""
        plans: list[dict[int, Query]] = [{} for _ in windows]
        background: list[set[int]] = [set() for _ in windows]
        for at, query in enumerate(queries):
            asked, untouched = prompts_in_tiles(query.prompt, windows)
            for tile, prompt in asked.items():
                plans[tile][at] = replace(query, prompt=prompt)
            for tile in untouched:
                background[tile].add(at)
        waiting = [at for at, plan in enumerate(plans) if plan]
        done: dict[int, tuple[Tensor, Tensor]] = {}
        for at, (window, plan) in enumerate(zip(windows, plans, strict=True)):
            if plan and at not in done:
                some, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
                done |= zip(some, self._together(picture, [(windows[one], plans[one]) for one in some]), strict=True)
            logits, scores = done.pop(at) if plan else self._nothing()
            yield TileAnswers(window, tuple(plan), logits, scores, frozenset(background[at]))

    def _together(
        self, picture: Tensor, tiles: Sequence[tuple[Window, dict[int, Query]]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The answers of some tiles, of each ``(q, h, w)`` and ``(q,)``."""
        pixels = [self.preprocessing.pixel_values(shown(picture, window).numpy()) for window, _ in tiles]
        queries = [list(plan.values()) for _, plan in tiles]
        batch = Batch(
            indices=list(range(len(tiles))),
            names=[""] * len(tiles),
            pixel_values=torch.stack(pixels),
            annotations=[None] * len(tiles),
            queries=[query for some in queries for query in some],
            original_sizes=[(window.height, window.width) for window, _ in tiles],
            image_index=[at for at, some in enumerate(queries) for _ in some],
        )
        logits, scores = self.answer(batch.to(self.device))
        counts = [len(some) for some in queries]
        return zip(logits.detach().float().split(counts), scores.detach().float().split(counts), strict=True)

    def _nothing(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(0, 1, 1, device=self.device), torch.zeros(0, device=self.device)


def shown(picture: Pixels, window: Window) -> Pixels:
    """The part of a picture, or of its label map, ``(H, W, ...)`` that a tile shows."""
    top, left, height, width = window
    return picture[top : top + height, left : left + width]


def alone(batch: Batch, image: int) -> Batch:
    """The picture at a position of a batch of whole pictures alone, with the queries about it."""
    about = batch.queries_about(image)
    return replace(
        batch,
        indices=[batch.indices[image]],
        names=[batch.names[image]],
        annotations=[batch.annotations[image]],
        queries=[batch.queries[query] for query in about],
        original_sizes=[batch.original_sizes[image]],
        image_index=[0] * len(about),
        weight=[batch.weight[query] for query in about],
        pictures=[batch.pictures[image]],
    )


def joined(strips: Iterable[Strip], *, keep: bool = True, device: torch.device | str = "cpu") -> TiledLogits:
    """The answers about a whole picture, with the low-resolution logits of all its tiles in memory.

    Args:
        strips: From `Sweep.strips`.
        keep: Whether logits are kept; without them only `TiledLogits.iou_scores` is left.
        device: Where they are kept.
    """
    found: dict[Window, TileAnswers] = {}
    last: TiledLogits | None = None
    for strip in strips:
        last = strip.mask_logits
        for tile in last.tiles:
            if tile.window not in found:
                logits = tile.mask_logits if keep else tile.mask_logits[:, :0, :0]
                found[tile.window] = replace(tile, mask_logits=logits.to(device))
    assert last is not None
    return replace(last, tiles=tuple(found.values()))


def blended_maps(strips: Iterable[Strip]) -> Tensor:
    """Logits at original size of the answers to some queries about a whole picture, such as learned ones.

    Args:
        strips: From `Sweep.strips` with these K queries.

    Returns:
        ``(K, H, W)`` float32 on the CPU; memory grows with pixels times K.
    """
    maps: Tensor | None = None
    for strip in strips:
        logits = strip.mask_logits
        if maps is None:
            maps = torch.empty(len(logits), *logits.size)
        maps[:, strip.rows] = logits.at_original_size(strip.rows).cpu()
    assert maps is not None
    return maps
