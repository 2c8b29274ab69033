"""Attention with SAM's decomposed relative positions: its definition, and forms that never hold all scores at once.

The score of a query for the key at row ``i`` and column ``j`` of the grid is
``scale * query . key + bias_rows[i] + bias_columns[j]`` (MViTv2, Li et al., 2022; SAM, Kirillov et al., 2023). All
forms take the same arguments and give the same result:

- `plain_attention` is the definition, the twin that the others are tested against;
- `blocked_attention` works through blocks of queries and computes their scores again in the backward pass;
- `folded_attention` writes the bias into the width of queries and keys, for kernels that take no bias;
- `flex_attention` hands the bias to PyTorch's FlexAttention, which makes a kernel of it (Dong et al., 2024).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import flex_attention as flex

from ..options import AttentionKind
from .blocked import attention_in_blocks


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
        return attention_in_blocks(query, key, value, None, None, 1.0)
    return attention_in_blocks(query, key, value, bias_rows, bias_columns, scale)


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


Attention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], Tensor]

ATTENTION: Mapping[str, Attention] = {
    "plain": plain_attention,
    "blocked": blocked_attention,
    "folded": folded_attention,
    "flex": flex_attention,
}


def choose_attention(kind: AttentionKind, device_type: str) -> str:
    """The form that is meant: ``auto`` is folded on CUDA, whose kernels are fused, and blocked elsewhere.

    Returns:
        A key of `ATTENTION`.
    """
    if kind == "auto":
        return "folded" if device_type == "cuda" else "blocked"
    return kind
