"""Attention on a grid without ever holding all scores: a head group at a time, and a tile of its scores at a time.

The scores of a tile are computed again in the backward pass (Rabe and Staats, 2021). What is held::

    kept for the backward pass     qkv (B, H, W, 3*N*D), which the linear layer gave anyway, and the small tables
    while a head group is done     query, key, value (S, L, D), copied from its part of qkv, and biases (S, L, h) and
                                   (S, L, w); backward also the gradients of these five
    while a tile is done           scores, which the softmax overwrites with weights; backward also their gradient

                    keys                          A head group is as many heads, of as many images, as have 4 MB of
              +------------------+                scores, or a single head whose scores are more. It has S sequences of
              |      tile 0      |                L tokens: one for each head, image and window. A tile has 8 MB of
     queries  +------------------+                scores: some whole sequences, or some queries of one. It is what
              |      tile 1      |  8 MB          stays in the cache from the product that makes scores to the one
              +------------------+                that uses them.
              |       ...        |
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .windows import HeadLayout, filled_up, on_grid_again, position_biases, relative, sequences

GROUP_BYTES = 4 << 20
"""Scores of a head group, unless a single head has more."""
TILE_BYTES = 8 << 20
"""Scores of a tile. Fewer starve the matrix products, more leave the cache."""


def blocked_attention(
    qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
) -> Tensor:
    """See `sam_adapter.kernels.attention.Attention`."""
    height, width = qkv.shape[1:3]
    if fill is not None and fill.requires_grad:  # filled up outside, it gets its gradient
        qkv = filled_up(qkv, layout.window, fill)
    sides = layout.window_shape(*qkv.shape[1:3])
    rows, columns = (relative(table, side, qkv) for table, side in zip((row_table, column_table), sides, strict=True))
    attended = _BlockedAttention.apply(qkv, rows, columns, fill, layout)
    assert isinstance(attended, Tensor)
    return attended[:, :height, :width].contiguous()


class _BlockedAttention(torch.autograd.Function):
    """Forward and backward of `blocked_attention`; the fill gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, rows: Tensor, columns: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> Tensor:
        """Only the inputs are kept for the backward pass."""
        ctx.save_for_backward(qkv, rows, columns, fill)
        ctx.layout = layout
        attended = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
        by_head = attended.unflatten(-1, (layout.heads, -1))  # (B, H, W, N, D)
        for images, heads in _head_groups(qkv, layout):
            group = _HeadGroup(qkv[images], heads, rows, columns, fill, layout)
            group.write(group.attended(), by_head[images, :, :, heads])
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the tokens and, where they are wanted, of the relative positions."""
        qkv, rows, columns, fill = ctx.saved_tensors
        layout: HeadLayout = ctx.layout
        d_qkv = torch.empty_like(qkv)
        by_head = d_qkv.unflatten(-1, (3, layout.heads, -1))  # (B, H, W, 3, N, D)
        d_attended = gradients[0].unflatten(-1, (layout.heads, -1))
        trained = any(ctx.needs_input_grad[1:3])
        d_rows, d_columns = (torch.zeros_like(table, dtype=torch.float32) for table in (rows, columns))
        for images, heads in _head_groups(qkv, layout):
            group = _HeadGroup(qkv[images], heads, rows, columns, fill, layout)
            d_group, d_biases = group.backward(group.read(d_attended[images, :, :, heads], None))
            for which, gradient in enumerate(d_group):
                group.write(gradient, by_head[images, :, :, which, heads])
            if trained:
                by_row, by_column, queries = (
                    part.unflatten(1, group.shape).float() for part in (*d_biases, group.query)
                )
                d_rows += torch.einsum("nhwk,nhwd->hkd", by_row, queries)
                d_columns += torch.einsum("nhwk,nhwd->wkd", by_column, queries)
        return d_qkv, d_rows.to(rows.dtype), d_columns.to(columns.dtype), None, None


def _head_groups(qkv: Tensor, layout: HeadLayout) -> Iterator[tuple[slice, slice]]:
    """Images and heads of one group after another."""
    batch, height, width = qkv.shape[:3]
    rows, columns = layout.window_shape(height, width)
    windows = -(-height // rows) * -(-width // columns)
    many = max(GROUP_BYTES // (windows * (rows * columns) ** 2 * qkv.element_size()), 1)  # heads of a group
    images = max(many // layout.heads, 1)
    heads = -(-layout.heads // -(-layout.heads // many))  # equal shares
    for image in range(0, batch, images):
        for head in range(0, layout.heads, heads):
            yield slice(image, image + images), slice(head, head + heads)


class _HeadGroup:
    """Queries, keys, values and biases of n heads of some images: S sequences of L tokens, h rows of w.

    Made of the images' projected tokens ``(B, H, W, 3*N*D)``, relative positions of rows ``(h, h, D)`` and of columns
    ``(w, w, D)``, and what tokens beyond the grid are, ``(3*N*D,)`` or None for zeros.
    """

    def __init__(
        self, qkv: Tensor, heads: slice, rows: Tensor, columns: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> None:
        self.layout, self.rows, self.columns = layout, rows, columns
        self.grid = (qkv.shape[1], qkv.shape[2])
        self.shape = (len(rows), len(columns))
        tokens = qkv.unflatten(-1, (3, layout.heads, -1))[..., heads, :]  # (B, H, W, 3, n, D)
        fills = (None,) * 3 if fill is None else fill.unflatten(0, (3, layout.heads, -1))[:, heads]
        self.query, self.key, self.value = (self.read(tokens[:, :, :, which], fills[which]) for which in range(3))
        self.biases = position_biases(self.query, rows, columns)

    def read(self, tokens: Tensor, fill: Tensor | None) -> Tensor:
        """``(B, H, W, n, D)`` to ``(S, L, D)``, a copy."""
        return sequences(filled_up(tokens, self.layout.window, fill), self.shape)

    def write(self, found: Tensor, tokens: Tensor) -> None:
        """``(S, L, D)`` back to ``(B, H, W, n, D)``."""
        tokens.copy_(on_grid_again(found, self.shape, self.grid, tokens.shape[-2]))

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Sequences and queries of one tile after another."""
        count, length, _ = self.query.shape
        queries = max(TILE_BYTES // (length * self.query.element_size()), 1)
        if queries >= length:
            step = queries // length
            yield from ((slice(start, start + step), slice(None)) for start in range(0, count, step))
        else:
            for one in range(count):
                yield from ((slice(one, one + 1), slice(at, at + queries)) for at in range(0, length, queries))

    def weights(self, some: slice, queries: slice) -> Tensor:
        """A tile's attention weights, ``(s, l, L)``."""
        query, key = self.query[some, queries], self.key[some]
        by_row, by_column = (biases[some, queries] for biases in self.biases)
        scores = query.new_empty(*query.shape[:2], key.shape[1])
        torch.add(by_row[..., :, None], by_column[..., None, :], out=scores.unflatten(-1, self.shape))
        torch.baddbmm(scores, query, key.mT, alpha=self.layout.scale, out=scores)
        return torch.softmax(scores, -1, out=scores)

    def attended(self) -> Tensor:
        """``(S, L, D)``."""
        found = torch.empty_like(self.value)
        for some, queries in self.tiles():
            torch.bmm(self.weights(some, queries), self.value[some], out=found[some, queries])
        return found

    def backward(self, gradient: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
        """Gradients of query, key and value, ``(S, L, D)`` each, and of the two biases, for that of the result."""
        d_query, d_biases = torch.empty_like(self.query), [torch.empty_like(biases) for biases in self.biases]
        d_key, d_value = (torch.zeros_like(self.key, dtype=torch.float32) for _ in range(2))  # sums over tiles
        for some, queries in self.tiles():
            weights = self.weights(some, queries)
            d_value[some] += torch.bmm(weights.mT, gradient[some, queries])
            d_scores = softmax_backward(torch.bmm(gradient[some, queries], self.value[some].mT), weights)
            torch.bmm(d_scores, self.key[some], out=d_query[some, queries])
            d_key[some] += torch.bmm(d_scores.mT, self.query[some, queries])
            by_key = d_scores.unflatten(-1, self.shape)  # (s, l, h, w)
            for d_axis, summed in zip(d_biases, (-1, -2), strict=True):
                torch.sum(by_key, summed, out=d_axis[some, queries])
        by_row, by_column = (biases.unflatten(1, self.shape) for biases in d_biases)
        through = torch.einsum("nhwk,hkd->nhwd", by_row, self.rows)
        through += torch.einsum("nhwk,wkd->nhwd", by_column, self.columns)
        d_query.mul_(self.layout.scale).add_(through.flatten(1, 2))
        return (d_query, d_key.mul_(self.layout.scale), d_value), (d_biases[0], d_biases[1])


def softmax_backward(d_weights: Tensor, weights: Tensor) -> Tensor:
    """Gradient of the scores, ``weights * (d_weights - sum of weights * d_weights)``, in the place of the weights'."""
    d_weights.mul_(weights)
    return d_weights.addcmul_(weights, d_weights.sum(-1, keepdim=True), value=-1)
