"""The forward pass of one block of SAM's image encoder, with the attention of our choice.

The block itself, its weights and its names, is `transformers`' ``SamVisionLayer``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..nn.attention import ATTENTION, Attention
from ..nn.windows import filled_up, partition, unpartition


def encoder_block(layer: Any, hidden_states: Tensor, attend: Attention) -> Tensor:
    """Run a block.

    Args:
        layer: A ``SamVisionLayer``.
        hidden_states: ``(B, H, W, C)``.
        attend: One of `sam_adapter.nn.attention.ATTENTION`.

    Returns:
        ``(B, H, W, C)``.
    """
    hidden_states = hidden_states + _attended(layer, layer.layer_norm1(hidden_states), attend)
    return hidden_states + layer.mlp(layer.layer_norm2(hidden_states))


Block = Callable[[Any, Tensor], Tensor]
"""A ``SamVisionLayer`` and hidden states ``(B, H, W, C)`` to new hidden states."""


def block_runner(attention: str, *, compiled: bool) -> Block:
    """`encoder_block` with a form of attention.

    Args:
        attention: A key of `sam_adapter.nn.attention.ATTENTION`.
        compiled: Through torch.compile; blocks of one kind share what is compiled.
    """
    return _compiled(attention) if compiled else partial(encoder_block, attend=ATTENTION[attention])


@cache
def _compiled(attention: str) -> Block:
    attend: Any = ATTENTION[attention]
    if attention == "blocked":
        attend = torch.compiler.disable(attend)  # a loop over views of a buffer, which compilers do not follow
    return partial(torch.compile(encoder_block, dynamic=False), attend=attend)


def _attended(layer: Any, normalised: Tensor, attend: Attention) -> Tensor:
    """Attention over the whole grid, or in windows; ``(B, H, W, C)`` to the same."""
    attention, window = layer.attn, layer.window_size
    _, height, width, _ = normalised.shape
    qkv = attention.qkv(normalised)  # (B, H, W, 3*C)
    if not window:
        return attention.proj(_grid_attention(attention, qkv, attend))
    # SAM fills the grid up with zero tokens to whole windows. What a zero token projects to is the bias, so that they
    # need not be projected.
    filled = filled_up(qkv, window, attention.qkv.bias)
    attended = _grid_attention(attention, partition(filled, window), attend)
    attended = unpartition(attended, filled.shape[1], filled.shape[2])[:, :height, :width]
    return attention.proj(attended.contiguous())  # PyTorch's linear layer is slow on a part of a larger tensor


def _grid_attention(attention: Any, qkv: Tensor, attend: Attention) -> Tensor:
    """Attention among all tokens of each grid, ``(B, h, w, 3*C)`` to ``(B, h, w, C)``."""
    batch, height, width, _ = qkv.shape
    heads = attention.num_attention_heads
    split = qkv.reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)  # (3, B, N, h*w, D)
    query, key, value = split.flatten(1, 2).unbind(0)  # (B*N, h*w, D)
    if attention.use_rel_pos:
        attended = attend(query, key, value, *_position_biases(attention, query, height, width), attention.scale)
    else:
        attended = functional.scaled_dot_product_attention(query, key, value)
    return attended.reshape(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4).flatten(3)


def _position_biases(attention: Any, query: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Score of each query for each row and each column, ``(N, h*w, h)`` and ``(N, h*w, w)``."""
    on_grid = query.unflatten(1, (height, width))  # (N, h, w, D)
    rows = attention.get_rel_pos(height, height, attention.rel_pos_h).to(query.dtype)  # (h, h, D)
    columns = attention.get_rel_pos(width, width, attention.rel_pos_w).to(query.dtype)
    by_row = torch.einsum("nhwd,hkd->nhwk", on_grid, rows)
    by_column = torch.einsum("nhwd,wkd->nhwk", on_grid, columns)
    return by_row.flatten(1, 2), by_column.flatten(1, 2)
