"""Attention with SAM's decomposed relative positions, in forms that never hold all scores at once.

The score of a query for the key at row ``i`` and column ``j`` of the grid is
``scale * query . key + bias_rows[i] + bias_columns[j]`` (MViTv2, Li et al., 2022; SAM, Kirillov et al., 2023). All
forms take the same arguments and give the same result:

- `plain_attention` is the definition, the twin that the others are tested against;
- `blocked_attention` works through blocks of queries and computes their scores again in the backward pass (Rabe and
  Staats, 2021), so that a block stays in the processor's cache;
- `folded_attention` writes the bias into the width of queries and keys, for kernels that take no bias.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ..options import AttentionKind

BLOCK_BYTES = 8 << 20
"""Scores that a block of one head holds. Smaller ones starve the matrix products, larger ones leave the cache."""
WHOLE_HEADS_BYTES = 2 << 20
"""The same where a block is several whole heads, or windows."""


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, bias_rows: Tensor, bias_columns: Tensor, scale: float
) -> Tensor:
    """Attention over a grid of keys with a bias for the key's row and one for its column.

    Args:
        query: ``(N, L, D)``.
        key: ``(N, H*W, D)``, row after row.
        value: ``(N, H*W, D)``.
        bias_rows: ``(N, L, H)``.
        bias_columns: ``(N, L, W)``.
        scale: Factor on the products of queries and keys.

    Returns:
        ``(N, L, D)``.
    """
    bias = bias_rows[..., :, None] + bias_columns[..., None, :]  # (N, L, H, W)
    scores = (query * scale) @ key.transpose(1, 2) + bias.flatten(2)  # (N, L, H*W)
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


def blocked_attention(
    query: Tensor, key: Tensor, value: Tensor, bias_rows: Tensor, bias_columns: Tensor, scale: float
) -> Tensor:
    """`plain_attention` with memory for one block of scores, forward and backward.

    Small grids in half precision, SAM's windows, are folded first: the wider product costs less than adding the bias.
    """
    small = bias_rows.shape[-1] + bias_columns.shape[-1] <= query.shape[-1]
    if small and query.element_size() == 2:
        query, key = _folded(query, key, bias_rows, bias_columns, scale)
        result = _BlockedAttention.apply(query, key, value, None, None, 1.0)
    else:
        result = _BlockedAttention.apply(query, key, value, bias_rows, bias_columns, scale)
    assert isinstance(result, Tensor)
    return result


def folded_attention(
    query: Tensor, key: Tensor, value: Tensor, bias_rows: Tensor, bias_columns: Tensor, scale: float
) -> Tensor:
    """`plain_attention` as a product of wider queries and keys, so that PyTorch's fused kernels can do it."""
    query, key = _folded(query, key, bias_rows, bias_columns, scale)
    wide_value = functional.pad(value, (0, key.shape[-1] - value.shape[-1]))  # the flash kernel wants one width
    attended = functional.scaled_dot_product_attention(query[:, None], key[:, None], wide_value[:, None], scale=1.0)
    return attended[:, 0, :, : value.shape[-1]]


def _folded(query: Tensor, key: Tensor, bias_rows: Tensor, bias_columns: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Queries and keys ``(N, L, D')`` whose products are the scores, with ``D'`` a multiple of 8.

    The bias of row ``i`` is the product of the query's row biases with the ``i``-th unit vector.
    """
    height, width = bias_rows.shape[-1], bias_columns.shape[-1]
    rows = torch.eye(height, dtype=key.dtype, device=key.device).repeat_interleave(width, 0)  # (H*W, H)
    columns = torch.eye(width, dtype=key.dtype, device=key.device).repeat(height, 1)  # (H*W, W)
    positions = torch.cat([rows, columns], 1).expand(len(key), -1, -1)  # (N, H*W, H+W)
    wide_query = torch.cat([query * scale, bias_rows, bias_columns], -1)  # (N, L, D+H+W)
    wide_key = torch.cat([key, positions], -1)
    missing = -wide_key.shape[-1] % 8
    return functional.pad(wide_query, (0, missing)), functional.pad(wide_key, (0, missing))


Attention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]

ATTENTION: Mapping[str, Attention] = {
    "plain": plain_attention,
    "blocked": blocked_attention,
    "folded": folded_attention,
}


def choose_attention(kind: AttentionKind, device_type: str) -> str:
    """The form that is meant: ``auto`` is folded on CUDA, whose kernels are fused, and blocked elsewhere.

    Returns:
        A key of `ATTENTION`.
    """
    if kind == "auto":
        return "folded" if device_type == "cuda" else "blocked"
    return kind


class _BlockedAttention(torch.autograd.Function):
    """Forward and backward of `blocked_attention`; both biases may be None."""

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
