"""Attention on a grid without ever holding all scores: a head group at a time, and a tile of its scores at a time.

The scores of a tile are computed again in the backward pass (Rabe and Staats, 2021). What is held::

    kept for the backward pass     qkv (B, H, W, 3*N*D), which the linear layer gave anyway, and the small tables
    while a head group is done     query, key, value (S, L, D) and biases (S, L, h+w), copied from their heads of qkv;
                                   backward also the gradients of these five
    while a tile is done           scores, which the softmax overwrites with weights;
                                   backward also their gradient

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

from .windows import HeadLayout, filled_up, on_grid_again, sequences

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
    tables = (relative(table, side, qkv) for table, side in zip((row_table, column_table), sides, strict=True))
    attended = _BlockedAttention.apply(qkv, *tables, fill, layout)
    assert isinstance(attended, Tensor)
    return attended[:, :height, :width].contiguous()


def relative(table: Tensor, size: int, like: Tensor) -> Tensor:
    """Entries of a table for each query and key of an axis, ``(size, size, D)``, in another tensor's type."""
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places + size - 1].to(like.dtype)


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
            by_head[images, :, :, heads] = group.on_grid(group.attended())
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
            d_group, d_biases = group.backward(d_attended[images, :, :, heads])
            for which, gradient in enumerate(d_group):
                by_head[images, :, :, which, heads] = group.on_grid(gradient)
            if trained:
                queries = group.query.unflatten(1, group.shape).float()
                d_rows += torch.einsum("shwk,shwd->hkd", d_biases[0].float(), queries)
                d_columns += torch.einsum("shwk,shwd->wkd", d_biases[1].float(), queries)
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
    """Queries, keys, values and biases of some heads of some images, S sequences of L tokens, h rows of w.

    Args:
        qkv: ``(B, H, W, 3*N*D)``, of these images.
        heads: The heads.
        rows: Relative positions of rows, ``(h, h, D)``.
        columns: ``(w, w, D)``.
        fill: What tokens beyond the grid are, ``(3*N*D,)``; None for zeros.
        layout: Heads, scale and window.
    """

    def __init__(
        self, qkv: Tensor, heads: slice, rows: Tensor, columns: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> None:
        self.layout, self.rows, self.columns = layout, rows, columns
        self.grid = (qkv.shape[1], qkv.shape[2])
        self.shape = (len(rows), len(columns))
        tokens = qkv.unflatten(-1, (3, layout.heads, -1))[..., heads, :]  # (B, H, W, 3, n, D)
        fills = (None,) * 3 if fill is None else fill.unflatten(0, (3, layout.heads, -1))[:, heads]
        self.heads = tokens.shape[-2]
        self.query, self.key, self.value = (self._read(tokens[:, :, :, i], fills[i]) for i in range(3))
        queries = self.query.unflatten(1, self.shape)
        by_row = torch.einsum("shwd,hkd->shwk", queries, rows)
        by_column = torch.einsum("shwd,wkd->shwk", queries, columns)
        self.biases = torch.cat([by_row, by_column], -1).flatten(1, 2)  # (S, L, h+w)
        self.units = _unit_vectors(self.shape, qkv) if sum(self.shape) <= qkv.shape[-1] // (3 * layout.heads) else None

    def _read(self, tokens: Tensor, fill: Tensor | None) -> Tensor:
        """``(B, H, W, n, D)`` to ``(S, L, D)``, a copy."""
        return sequences(filled_up(tokens, self.layout.window, fill), self.shape)

    def on_grid(self, found: Tensor) -> Tensor:
        """``(S, L, D)`` back to ``(B, H, W, n, D)``."""
        return on_grid_again(found, self.shape, self.grid, self.heads)

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

    def weights(self, some: slice, rows: slice) -> Tensor:
        """A tile's attention weights, ``(s, l, L)``."""
        query, key, biases = self.query[some, rows], self.key[some], self.biases[some, rows]
        scores = query.new_empty(*query.shape[:2], key.shape[1])
        if self.units is None:
            height = self.shape[0]
            by_row, by_column = biases[..., :height, None], biases[..., None, height:]
            torch.add(by_row, by_column, out=scores.unflatten(-1, self.shape))
        else:
            torch.mm(biases.flatten(0, 1), self.units, out=scores.flatten(0, 1))
        torch.baddbmm(scores, query, key.mT, alpha=self.layout.scale, out=scores)
        return torch.softmax(scores, -1, out=scores)

    def attended(self) -> Tensor:
        """``(S, L, D)``."""
        found = torch.empty_like(self.value)
        for some, rows in self.tiles():
            torch.bmm(self.weights(some, rows), self.value[some], out=found[some, rows])
        return found

    def backward(self, d_attended: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Gradients for that of the result.

        Args:
            d_attended: ``(B, H, W, n, D)``.

        Returns:
            Gradients of query, key and value, ``(S, L, D)`` each, and of the biases, ``(S, h, w, h)`` and
            ``(S, h, w, w)``.
        """
        gradient = self._read(d_attended, None)
        d_query, d_biases = torch.empty_like(self.query), torch.empty_like(self.biases)
        d_key, d_value = (torch.zeros_like(self.key, dtype=torch.float32) for _ in range(2))  # sums over tiles
        for some, rows in self.tiles():
            weights = self.weights(some, rows)
            d_value[some] += torch.bmm(weights.mT, gradient[some, rows])
            d_scores = torch.bmm(gradient[some, rows], self.value[some].mT).mul_(weights)
            d_scores.addcmul_(weights, d_scores.sum(-1, keepdim=True), value=-1)  # backward of the softmax
            torch.bmm(d_scores, self.key[some], out=d_query[some, rows])
            d_key[some] += torch.bmm(d_scores.mT, self.query[some, rows])
            self._sum_by_axis(d_scores, d_biases[some, rows])
        by_row, by_column = d_biases.unflatten(1, self.shape).split(self.shape, -1)
        through_rows = torch.einsum("shwk,hkd->shwd", by_row, self.rows)
        through_columns = torch.einsum("shwk,wkd->shwd", by_column, self.columns)
        d_query.mul_(self.layout.scale).add_((through_rows + through_columns).flatten(1, 2))
        return (d_query, d_key.mul_(self.layout.scale), d_value), (by_row, by_column)

    def _sum_by_axis(self, d_scores: Tensor, d_biases: Tensor) -> None:
        """Sums of ``(s, l, L)`` over the keys of each row, and of each column, into ``(s, l, h+w)``."""
        if self.units is None:
            on_grid, height = d_scores.unflatten(-1, self.shape), self.shape[0]
            torch.sum(on_grid, -1, out=d_biases[..., :height])
            torch.sum(on_grid, -2, out=d_biases[..., height:])
        else:
            torch.mm(d_scores.flatten(0, 1), self.units.T, out=d_biases.flatten(0, 1))


def _unit_vectors(shape: tuple[int, int], like: Tensor) -> Tensor:
    """``(h+w, h*w)`` of zeros and ones: a key's column has a one at its row and one at its column.

    Biases ``(L, h+w)`` times this are the biases of all keys. In small windows the product is faster than adding the
    two with broadcasting, whose inner loops are as short as a row.
    """
    height, width = shape
    rows = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, 1)
    columns = torch.eye(width, dtype=like.dtype, device=like.device).repeat(1, height)
    return torch.cat([rows, columns])
