"""Attention with SAM's decomposed relative positions: its definition, and forms that never hold all scores at once.

The score of a query for the key at row ``i`` and column ``j`` of the grid is
``scale * query . key + bias_rows[i] + bias_columns[j]``, and the biases are products of the query with a table of
relative positions (MViTv2, Li et al., 2022; SAM, Kirillov et al., 2023). All forms give the same result:

- ``plain`` is the definition, the twin that the others are tested against;
- ``blocked`` makes the scores of a tile at a time and makes them again in the backward pass;
- ``folded`` writes the bias into the width of queries and keys, for kernels that take no bias;
- ``flex`` hands the bias to PyTorch's FlexAttention, which makes a kernel of it (Dong et al., 2024).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import flex_attention as flex

from .blocked import blocked_attention
from .windows import HeadLayout, filled_up, on_grid_again, position_biases, relative, sequences

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None, HeadLayout], Tensor]
"""Attention among the tokens of a grid, or within its windows.

Args:
    qkv: Projected tokens ``(B, H, W, 3*N*D)``: queries, keys, values, each N heads of D channels.
    row_table: Relative positions ``(2*h - 1, D)`` of what attends within itself, h rows and w columns: entry
        ``query - key + h - 1``.
    column_table: ``(2*w - 1, D)``.
    fill: What the tokens are, ``(3*N*D,)``, that fill up the last windows; None for zeros.
    layout: Heads, scale and window.

Returns:
    ``(B, H, W, N*D)``.
"""

HeadAttention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""Attention of heads that are laid out apart; arguments and result of `plain_attention`."""


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


def flex_attention(
    query: Tensor, key: Tensor, value: Tensor, bias_rows: Tensor, bias_columns: Tensor, scale: float
) -> Tensor:
    """`plain_attention` by FlexAttention: compiled on a GPU; without gradients, and not fused, on a CPU."""
    width = bias_columns.shape[-1]

    def with_bias(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return score + bias_rows[batch, row, column // width] + bias_columns[batch, row, column % width]

    alone = query.is_cuda and not torch.compiler.is_compiling()
    kernel = _compiled_flex() if alone else flex.flex_attention
    attended = kernel(query[:, None], key[:, None], value[:, None], score_mod=with_bias, scale=scale)
    return attended[:, 0]


@cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex.flex_attention, dynamic=False)


def on_grid(attend: HeadAttention) -> Attention:
    """Attention on a grid from one for heads laid out apart."""

    def attention(
        qkv: Tensor, row_table: Tensor, column_table: Tensor, fill: Tensor | None, layout: HeadLayout
    ) -> Tensor:
        grid = (qkv.shape[1], qkv.shape[2])
        shape = layout.window_shape(*grid)
        tokens = filled_up(qkv, layout.window, fill).unflatten(-1, (3, layout.heads, -1))  # (B, H', W', 3, N, D)
        query, key, value = (sequences(tokens[:, :, :, which], shape) for which in range(3))
        rows, columns = (relative(*one, qkv) for one in zip((row_table, column_table), shape, strict=True))
        biases = position_biases(query, rows, columns)
        attended = attend(query, key, value, *biases, layout.scale)
        on_grid = on_grid_again(attended, shape, grid, layout.heads).flatten(3)
        return on_grid.contiguous()  # PyTorch's linear layer is slow on a part of a larger tensor

    return attention


ATTENTION: Mapping[str, Attention] = {
    "plain": on_grid(plain_attention),
    "blocked": blocked_attention,
    "folded": on_grid(folded_attention),
    "flex": on_grid(flex_attention),
}
