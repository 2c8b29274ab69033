"""Attention block by block, with the scores of a block computed again in the backward pass (Rabe and Staats, 2021).

A block stays in the processor's cache, and no more than one is ever held.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_BYTES = 8 << 20
"""Scores that a block of one head holds. Smaller ones starve the matrix products, larger ones leave the cache."""
WHOLE_HEADS_BYTES = 2 << 20
"""The same where a block is several whole heads, or windows."""


def attention_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, bias_rows: Tensor | None, bias_columns: Tensor | None, scale: float
) -> Tensor:
    """Attention with memory for one block of scores, forward and backward.

    Args:
        query: ``(N, L, D)``.
        key: ``(N, H*W, D)``.
        value: ``(N, H*W, D')``.
        bias_rows: ``(N, L, H)``, or None together with the other.
        bias_columns: ``(N, L, W)``.
        scale: Factor on the products of queries and keys.

    Returns:
        ``(N, L, D')``.
    """
    result = _BlockedAttention.apply(query, key, value, bias_rows, bias_columns, scale)
    assert isinstance(result, Tensor)
    return result


class _BlockedAttention(torch.autograd.Function):
    """Forward and backward of `attention_in_blocks`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias_rows: Tensor | None,
        bias_columns: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Attend block by block; only the inputs are kept for the backward pass."""
        ctx.save_for_backward(query, key, value, bias_rows, bias_columns)
        ctx.scale = scale
        attended = value.new_empty(*query.shape[:2], value.shape[2])
        scores = _Scores(query, key, bias_rows, bias_columns, scale)
        for heads, rows in _blocks(query, key):
            torch.bmm(scores.weights(heads, rows), value[heads], out=attended[heads, rows])
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all but the scale, with the weights of each block computed again."""
        query, key, value, bias_rows, bias_columns = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        scores = _Scores(query, key, bias_rows, bias_columns, ctx.scale)
        value_turned = value.transpose(1, 2).contiguous()  # (N, D, K)
        d_query = torch.empty_like(query)
        d_biases = [None if bias is None else torch.empty_like(bias) for bias in (bias_rows, bias_columns)]
        d_key, d_value = _KeySum(key), _KeySum(value)
        buffer = _block_buffer(query, key)
        for heads, rows in _blocks(query, key):
            weights = scores.weights(heads, rows)  # (n, l, K)
            d_value.add(heads, weights, gradient[heads, rows])
            d_weights = buffer[: weights.numel()].view_as(weights)
            torch.bmm(gradient[heads, rows], value_turned[heads], out=d_weights)
            d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            torch.bmm(d_scores, key[heads], out=d_query[heads, rows])
            d_key.add(heads, d_scores, query[heads, rows])
            for axis, d_bias in zip((-1, -2), d_biases, strict=True):
                if d_bias is not None:
                    torch.sum(scores.on_grid(d_scores), axis, out=d_bias[heads, rows])
        return d_query.mul_(ctx.scale), d_key.result(ctx.scale), d_value.result(), *d_biases, None


class _Scores:
    """Softmax of the scores, for any block and always in the same memory.

    Args:
        query: ``(N, L, D)``.
        key: ``(N, K, D)``.
        bias_rows: ``(N, L, H)``, or None.
        bias_columns: ``(N, L, W)``, or None.
        scale: Factor on the products of queries and keys.
    """

    def __init__(
        self, query: Tensor, key: Tensor, bias_rows: Tensor | None, bias_columns: Tensor | None, scale: float
    ) -> None:
        self.query = query
        self.key_turned = key.transpose(1, 2).contiguous()  # (N, D, K)
        self.bias_rows = bias_rows
        self.bias_columns = bias_columns
        self.scale = scale
        self.buffer = _block_buffer(query, key)

    def weights(self, heads: slice, rows: slice) -> Tensor:
        """The block's attention weights ``(n, l, K)``; overwritten by the next call."""
        query, key_turned = self.query[heads, rows], self.key_turned[heads]
        shape = (*query.shape[:2], key_turned.shape[2])
        scores = self.buffer[: math.prod(shape)].view(shape)
        beta = 0.0
        if self.bias_rows is not None and self.bias_columns is not None:
            rows_and_columns = self.bias_rows[heads, rows, :, None], self.bias_columns[heads, rows, None, :]
            torch.add(*rows_and_columns, out=self.on_grid(scores))
            beta = 1.0
        torch.baddbmm(scores, query, key_turned, beta=beta, alpha=self.scale, out=scores)
        return torch.softmax(scores, -1, out=scores)

    def on_grid(self, scores: Tensor) -> Tensor:
        """``(n, l, H*W)`` seen as ``(n, l, H, W)``."""
        assert self.bias_rows is not None
        assert self.bias_columns is not None
        return scores.unflatten(-1, (self.bias_rows.shape[-1], self.bias_columns.shape[-1]))


class _KeySum:
    """Gradient of keys or values: a sum over blocks of queries, kept in float32.

    In bfloat16 the product is taken in the other order, in which the processor is a third faster.

    Args:
        like: Keys or values ``(N, K, D)``.
    """

    def __init__(self, like: Tensor) -> None:
        self.dtype = like.dtype
        self.turned = like.dtype != torch.float32
        shape = like.transpose(1, 2).shape if self.turned else like.shape
        self.total = torch.zeros(shape, dtype=torch.float32, device=like.device)

    def add(self, heads: slice, scores: Tensor, rows: Tensor) -> None:
        """Add ``scores.T @ rows`` of a block: ``(n, l, K)`` and ``(n, l, D)``."""
        if self.turned:
            self.total[heads].add_(torch.bmm(rows.transpose(1, 2), scores))  # (n, D, K)
        else:
            self.total[heads].baddbmm_(scores.transpose(1, 2), rows)  # (n, K, D)

    def result(self, factor: float = 1.0) -> Tensor:
        """The sum times a factor, ``(N, K, D)``."""
        total = self.total.mul_(factor)
        return (total.transpose(1, 2) if self.turned else total).to(self.dtype)


def _blocks(query: Tensor, key: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of heads and of queries: several heads whole where they are small, parts of one where it is large."""
    many, rows = _block_shape(query, key)
    heads, length = query.shape[:2]
    for head in range(0, heads, many):
        for row in range(0, length, rows):
            yield slice(head, min(head + many, heads)), slice(row, min(row + rows, length))


def _block_shape(query: Tensor, key: Tensor) -> tuple[int, int]:
    """Heads and queries of a block: one of the two is whole."""
    heads, length = query.shape[:2]
    row_bytes = key.shape[1] * query.element_size()
    many = min(max(WHOLE_HEADS_BYTES // (length * row_bytes), 1), heads)
    return many, length if many > 1 else min(max(BLOCK_BYTES // row_bytes, 1), length)


def _block_buffer(query: Tensor, key: Tensor) -> Tensor:
    """Memory for the scores of any block."""
    many, rows = _block_shape(query, key)
    return query.new_empty(many * rows * key.shape[1])
