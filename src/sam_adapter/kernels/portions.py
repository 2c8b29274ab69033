"""Attention's queries, keys and values a cacheful at a time: some heads of a grid, or of a row of windows.

They are read from the projected tokens into small buffers and what was found is written back to its place, so that the
tokens are never laid out anew as a whole.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .windows import copy_to_grid, copy_to_windows

PORTION_BYTES = 4 << 20
"""Scores of the heads, or windows, of a portion, unless those of a single one are more."""


@dataclass(frozen=True)
class HeadLayout:
    """How the tokens of a grid attend to each other.

    Attributes:
        heads: Number of heads N; the channels are N times D.
        scale: Factor on the products of queries and keys.
        window: Side of the windows that attend within themselves; 0 for the grid as a whole.
    """

    heads: int
    scale: float
    window: int = 0

    def window_shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of what attends within itself, for a grid of a height and width."""
        return (self.window, self.window) if self.window else (height, width)


@dataclass(frozen=True)
class Place:
    """Where a portion lies: some images and heads of the grid, or of one row of windows."""

    images: slice
    rows: slice
    heads: slice


class Portion:
    """Buffers for one portion after another.

    ``S`` sequences, in the order image, head, window, have ``L`` tokens each, h rows of w. Biases are kept divided by
    the scale, so that one factor serves the whole score. Small windows have them folded into the width of queries and
    keys, where the product costs less than adding them does: the bias of row ``i`` is the product of the query's row
    biases with the ``i``-th unit vector.

    Args:
        qkv: ``(B, H, W, 3*N*D)``.
        row_table: ``(2*h - 1, D)``, h rows of what attends within itself.
        column_table: ``(2*w - 1, D)``.
        fill: What tokens beyond the grid are, ``(3*N*D,)``; None for zeros.
        layout: Heads, scale and window.

    Attributes:
        query: ``(most S, L, >= D)``, the biases after the channels if they are folded.
        key: ``(most S, L, >= D)``, unit vectors after the channels if biases are folded.
        value: ``(most S, L, D)``.
        bias_rows: ``(most S, L, h)``.
        bias_columns: ``(most S, L, w)``.
        count: The S of the portion that was read; buffers are longer where portions are of unequal size.
        live: Tokens of a sequence in rows of the grid; those of rows beyond it need no result.
    """

    def __init__(
        self, qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> None:
        batch, height, width, _ = qkv.shape
        self.layout = layout
        self.tokens = qkv.unflatten(-1, (3, layout.heads, -1))  # (B, H, W, 3, N, D)
        self.fill = None if fill is None else fill.to(qkv.dtype).view(3, layout.heads, -1)
        self.channels = self.tokens.shape[-1]
        self.window = rows, columns = layout.window_shape(height, width)
        self.across = -(-width // columns)  # windows in a row
        self.length = rows * columns
        assert (len(row_table), len(column_table)) == (2 * rows - 1, 2 * columns - 1)
        # Relative positions in the order of keys: entry (last - query + key) belongs to a query and a key.
        self.table = (torch.cat([row_table.flip(0), column_table.flip(0)]) / layout.scale).to(qkv.dtype)
        self.folded = rows + columns <= self.channels
        wide = self.channels + rows + columns if self.folded else self.channels
        self.images, self.heads = self._extent(batch, qkv.element_size())
        most = self.images * self.heads * self.across
        self.query, self.key = qkv.new_zeros(2, most, self.length, wide + -wide % 8)
        self.value = qkv.new_empty(most, self.length, self.channels)
        self.relative = qkv.new_empty(most, self.length, len(self.table))
        self.bias_rows, self.bias_columns = self.biases_of(self.query)
        if self.folded:
            for axis, of_keys in enumerate(self.biases_of(self.key)):
                units = torch.eye(self.window[axis], device=qkv.device)
                of_keys.unflatten(1, self.window).copy_(units if axis else units[:, None])
        self.count, self.live = most, self.length

    def _extent(self, batch: int, element_size: int) -> tuple[int, int]:
        """Images and heads of a portion."""
        heads = self.layout.heads
        many = max(PORTION_BYTES // (self.across * self.length**2 * element_size), 1)
        if many >= heads:
            return min(many // heads, batch), heads
        return 1, -(-heads // -(-heads // many))  # equal shares

    def places(self) -> Iterator[Place]:
        """All portions, one after another."""
        batch, height = self.tokens.shape[:2]
        for image in range(0, batch, self.images):
            for row in range(0, height, self.window[0]):
                for head in range(0, self.layout.heads, self.heads):
                    yield Place(
                        slice(image, min(image + self.images, batch)),
                        slice(row, min(row + self.window[0], height)),
                        slice(head, min(head + self.heads, self.layout.heads)),
                    )

    def read(self, place: Place) -> None:
        """Fetch the portion's queries, keys and values, and find the queries' biases."""
        self.place = place
        images, heads = (span.stop - span.start for span in (place.images, place.heads))
        self.count = images * heads * self.across
        self.live = (place.rows.stop - place.rows.start) * self.window[1]
        for which, sequences in enumerate((self.query, self.key, self.value)):
            fill = None if self.fill is None else self.fill[which, place.heads]
            self.fetch(self.tokens, which, sequences, fill)
        query = self.query[: self.count, :, : self.channels].flatten(0, 1)
        torch.mm(query, self.table.T, out=self.relative[: self.count].flatten(0, 1))
        wanted = self.bias_rows, self.bias_columns
        for biases, relative in zip(wanted, self.relative_views(self.relative), strict=True):
            biases[: self.count].unflatten(1, self.window).copy_(relative)

    def fetch(self, tokens: Tensor, which: int, sequences: Tensor, fill: Tensor | None = None) -> None:
        """Copy this portion of ``(B, H, W, ., N, D)`` to ``(S, L, >= D)``."""
        place = self.place
        copy_to_windows(tokens[place.images, place.rows, :, which, place.heads], self._windows(sequences), fill)

    def write(self, tokens: Tensor, which: int, sequences: Tensor) -> None:
        """Copy ``(S, L, >= D)`` to this portion of ``(B, H, W, ., N, D)``."""
        place = self.place
        copy_to_grid(self._windows(sequences), tokens[place.images, place.rows, :, which, place.heads])

    def _windows(self, sequences: Tensor) -> Tensor:
        """``(S, L, >= D)`` seen as ``(B, h, windows, w, N, D)``."""
        images = self.place.images.stop - self.place.images.start
        split = sequences[: self.count, :, : self.channels].unflatten(0, (images, -1, self.across))
        return split.unflatten(3, self.window).permute(0, 3, 2, 4, 1, 5)

    def biases_of(self, wide: Tensor) -> tuple[Tensor, Tensor]:
        """Places for biases of queries ``(S, L, h)`` and ``(S, L, w)``: in them if they are folded, else new ones."""
        rows, columns = self.window
        if self.folded:
            return wide[..., self.channels :][..., :rows], wide[..., self.channels + rows :][..., :columns]
        return wide.new_empty(*wide.shape[:2], rows), wide.new_empty(*wide.shape[:2], columns)

    def relative_views(self, relative: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of ``(S, L, 2*h + 2*w - 2)`` that belong to keys, ``(S, h, w, h)`` and ``(S, h, w, w)``."""
        rows, columns = self.window
        wide = len(self.table)
        shape, strides = (self.count, rows, columns), (self.length * wide, columns * wide, wide)
        in_rows = relative.as_strided((*shape, rows), (strides[0], strides[1] - 1, strides[2], 1), rows - 1)
        first = 2 * rows - 1 + columns - 1
        in_columns = relative.as_strided((*shape, columns), (*strides[:2], strides[2] - 1, 1), first)
        return in_rows, in_columns

    def on_grid(self, scores: Tensor) -> Tensor:
        """``(S, l, L)`` seen as ``(S, l, h, w)``."""
        return scores.unflatten(-1, self.window)


def block_of(buffer: Tensor, *shape: int) -> Tensor:
    """The beginning of a flat buffer in a shape."""
    return buffer[: math.prod(shape)].view(shape)
