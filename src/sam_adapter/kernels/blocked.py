"""Attention on a grid, a cacheful at a time: no more than a block of scores is held, forward and backward.

The scores of a block are computed again in the backward pass (Rabe and Staats, 2021).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .portions import HeadLayout, Portion, block_of
from .windows import filled_up

BLOCK_BYTES = 8 << 20
"""Scores of some queries of one head. Fewer starve the matrix products, more leave the cache."""


def blocked_attention(
    qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
) -> Tensor:
    """See `sam_adapter.kernels.attention.Attention`."""
    height, width = qkv.shape[1:3]
    if layout.window and fill is not None and fill.requires_grad:  # filled up outside, it gets its gradient
        qkv = filled_up(qkv, layout.window, fill)
    attended = _BlockedAttention.apply(qkv, row_table, column_table, fill, layout)
    assert isinstance(attended, Tensor)
    return attended[:, :height, :width].contiguous()


class _BlockedAttention(torch.autograd.Function):
    """Forward and backward of `blocked_attention`; the fill gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> Tensor:
        """Only the inputs are kept for the backward pass."""
        ctx.save_for_backward(qkv, row_table, column_table, fill)
        ctx.layout = layout
        attended = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
        portion = _AttendingPortion(qkv, row_table, column_table, fill, layout)
        found = torch.empty_like(portion.value)
        for place in portion.places():
            portion.read(place)
            for rows in portion.blocks():
                torch.bmm(portion.weights(rows), portion.value[: portion.count], out=found[: portion.count, rows])
            portion.write(attended.unflatten(-1, (1, layout.heads, -1)), 0, found)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the tokens and of the two tables, with the weights of each block computed again."""
        qkv, row_table, column_table, fill = ctx.saved_tensors
        layout: HeadLayout = ctx.layout
        d_qkv = torch.empty_like(qkv)
        d_tokens = d_qkv.unflatten(-1, (3, layout.heads, -1))
        d_attended = gradients[0].unflatten(-1, (1, layout.heads, -1))
        portion = _PortionGradients(qkv, row_table, column_table, fill, layout)
        d_table = torch.zeros_like(portion.table, dtype=torch.float32) if any(ctx.needs_input_grad[1:3]) else None
        for place in portion.places():
            portion.read(place)
            for which, gradient in enumerate(portion.backward(d_attended, d_table)):
                portion.write(d_tokens, which, gradient)
        if d_table is None:
            return d_qkv, None, None, None, None
        d_rows, d_columns = d_table.split([len(row_table), len(column_table)])
        return d_qkv, d_rows.flip(0).to(row_table.dtype), d_columns.flip(0).to(column_table.dtype), None, None


class _AttendingPortion(Portion):
    """A portion with the softmax of its scores, for one block of queries after another in the same memory."""

    def __init__(
        self, qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> None:
        super().__init__(qkv, row_table, column_table, fill, layout)
        some = max(BLOCK_BYTES // (self.length * qkv.element_size()), 1)
        self.block = self.length if len(self.query) > 1 else min(some, self.length)
        self.scores = self.scores_buffer()

    def scores_buffer(self) -> Tensor:
        """Memory for the scores of any block."""
        return self.value.new_empty(len(self.value) * self.block * self.length)

    def blocks(self) -> Iterator[slice]:
        """Queries of one block after another; those beyond the grid's last row are left out."""
        for row in range(0, self.live, self.block):
            yield slice(row, min(row + self.block, self.live))

    def weights(self, rows: slice) -> Tensor:
        """A block's attention weights ``(S, l, L)``; overwritten by the next call."""
        query, key = self.query[: self.count, rows], self.key[: self.count]
        scores = block_of(self.scores, *query.shape[:2], self.length)
        beta = 0.0
        if not self.folded:
            bias_rows, bias_columns = self.bias_rows[: self.count, rows], self.bias_columns[: self.count, rows]
            torch.add(bias_rows[..., None], bias_columns[..., None, :], out=self.on_grid(scores))
            beta = self.layout.scale
        torch.baddbmm(scores, query, key.transpose(1, 2), beta=beta, alpha=self.layout.scale, out=scores)
        return torch.softmax(scores, -1, out=scores)


class _PortionGradients(_AttendingPortion):
    """A portion with what its backward pass needs."""

    def __init__(
        self, qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> None:
        super().__init__(qkv, row_table, column_table, fill, layout)
        self.gradient = torch.empty_like(self.value)
        self.d_query = torch.empty_like(self.query)
        self.d_bias_rows, self.d_bias_columns = self.biases_of(self.d_query)
        self.d_relative = torch.zeros_like(self.relative)  # most entries belong to no key and stay zero
        self.d_weights, self.d_scores = self.scores_buffer(), self.scores_buffer()

    def backward(self, d_attended: Tensor, d_table: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the portion that was read.

        Args:
            d_attended: ``(B, H, W, 1, N, D)``.
            d_table: The gradient of the table is added to it, if it is wanted.

        Returns:
            Gradients of queries, keys and values, ``(S, L, D)`` each.
        """
        count, channels = self.count, self.channels
        self.fetch(d_attended, 0, self.gradient)
        d_key, d_value = _KeySum(), _KeySum()
        for rows in self.blocks():
            weights = self.weights(rows)
            gradient = self.gradient[:count, rows]
            d_value.add(weights, gradient)
            d_weights = block_of(self.d_weights, *weights.shape)
            d_scores = block_of(self.d_scores, *weights.shape)
            torch.bmm(gradient, self.value[:count].transpose(1, 2), out=d_weights)
            torch.ops.aten._softmax_backward_data.out(d_weights, weights, -1, weights.dtype, grad_input=d_scores)
            torch.bmm(d_scores, self.key[:count], out=self.d_query[:count, rows])
            d_key.add(d_scores, self.query[:count, rows, :channels])
            if not self.folded:
                torch.sum(self.on_grid(d_scores), -1, out=self.d_bias_rows[:count, rows])
                torch.sum(self.on_grid(d_scores), -2, out=self.d_bias_columns[:count, rows])
        d_query = self.d_query[:count, :, :channels]
        self._through_biases(d_query, d_table)
        return d_query.mul_(self.layout.scale), d_key.total().mul_(self.layout.scale), d_value.total()

    def _through_biases(self, d_query: Tensor, d_table: Tensor | None) -> None:
        """Add what reaches the queries, and the table, by way of the biases."""
        biases = self.d_bias_rows, self.d_bias_columns
        for d_relative, d_biases in zip(self.relative_views(self.d_relative), biases, strict=True):
            d_relative.copy_(d_biases[: self.count].unflatten(1, self.window))
        d_relative = self.d_relative[: self.count]
        d_query.flatten(0, 1).addmm_(d_relative.flatten(0, 1), self.table)
        if d_table is not None:
            query = self.query[: self.count, : self.live, : self.channels].flatten(0, 1)
            d_relative = d_relative[:, : self.live].flatten(0, 1)
            d_table.addmm_(d_relative.T.float(), query.float())


class _KeySum:
    """Gradient of keys or values: a sum over blocks of queries, in float32 if there are several.

    In half precision the product is taken in the other order, in which the processor is faster.
    """

    def __init__(self) -> None:
        self.turned = False
        self.sum: Tensor | None = None

    def add(self, scores: Tensor, rows: Tensor) -> None:
        """Add ``scores.T @ rows`` of a block: ``(S, l, L)`` and ``(S, l, D)``."""
        self.turned = rows.element_size() == 2
        left, right = (rows, scores) if self.turned else (scores, rows)
        product = torch.bmm(left.transpose(1, 2), right)
        self.sum = product if self.sum is None else self.sum.float().add_(product)

    def total(self) -> Tensor:
        """``(S, L, D)``."""
        assert self.sum is not None
        return self.sum.transpose(1, 2) if self.turned else self.sum
