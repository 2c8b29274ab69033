"""The forward pass of one block of SAM's image encoder, with the attention of our choice.

The block itself, its weights and its names, is `transformers`' ``SamVisionLayer``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.activations import GELUActivation

from ..nn.attention import ATTENTION, Attention
from ..nn.frozen import added_linear, added_mlp, normed_linear
from ..nn.windows import filled_up, partition, unpartition


def encoder_block(layer: Any, hidden_states: Tensor, attend: Attention, *, by_rows: bool = False) -> Tensor:
    """Run a block.

    Args:
        layer: A ``SamVisionLayer``.
        hidden_states: ``(B, H, W, C)``.
        attend: One of `sam_adapter.nn.attention.ATTENTION`.
        by_rows: What `can_go_by_rows` says of the layer. The result is the same.

    Returns:
        ``(B, H, W, C)``.
    """
    attention, mlp = layer.attn, layer.mlp
    if by_rows:
        qkv = normed_linear(hidden_states, layer.layer_norm1, attention.qkv)  # (B, H, W, 3*C)
        hidden_states = added_linear(hidden_states, _attended(layer, qkv, attend), attention.proj)
        return added_mlp(hidden_states, layer.layer_norm2, mlp.lin1, mlp.lin2)
    qkv = attention.qkv(layer.layer_norm1(hidden_states))
    hidden_states = hidden_states + attention.proj(_attended(layer, qkv, attend))
    return hidden_states + mlp(layer.layer_norm2(hidden_states))


def can_go_by_rows(layer: Any, hidden_states: Tensor) -> bool:
    """Whether `sam_adapter.nn.frozen` can do a block: on a CPU, frozen, and with weights of the products' own type."""
    weight = layer.mlp.lin1.weight
    on_cpu = hidden_states.device.type == "cpu"
    autocast = on_cpu and torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else hidden_states.dtype
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    return on_cpu and frozen and weight.dtype == dtype and isinstance(layer.mlp.act, GELUActivation)


Block = Callable[[Any, Tensor], Tensor]
"""A ``SamVisionLayer`` and hidden states ``(B, H, W, C)`` to new hidden states."""


def block_runner(attention: str, *, compiled: bool, by_rows: bool) -> Block:
    """`encoder_block` with a form of attention.

    Args:
        attention: A key of `sam_adapter.nn.attention.ATTENTION`.
        compiled: Through torch.compile; blocks of one kind share what is compiled.
        by_rows: See `encoder_block`; compiled blocks never are.
    """
    return _compiled(attention) if compiled else partial(encoder_block, attend=ATTENTION[attention], by_rows=by_rows)


@cache
def _compiled(attention: str) -> Block:
    attend: Any = ATTENTION[attention]
    if attention == "blocked":
        attend = torch.compiler.disable(attend)  # a loop over views of a buffer, which compilers do not follow
    # Windows or not, with gradients or without, a full batch or the last: each has code of its own. Beyond the limit,
    # 8 unless it is raised, PyTorch would silently stop compiling.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return partial(torch.compile(encoder_block, dynamic=False), attend=attend)


def _attended(layer: Any, qkv: Tensor, attend: Attention) -> Tensor:
    """Attention over the whole grid, or in windows; ``(B, H, W, 3*C)`` to ``(B, H, W, C)``."""
    attention, window = layer.attn, layer.window_size
    _, height, width, _ = qkv.shape
    if not window:
        return _grid_attention(attention, qkv, attend)
    # SAM fills the grid up with zero tokens to whole windows. What a zero token projects to is the bias, so that they
    # need not be projected.
    filled = filled_up(qkv, window, attention.qkv.bias)
    attended = _grid_attention(attention, partition(filled, window), attend)
    attended = unpartition(attended, filled.shape[1], filled.shape[2])[:, :height, :width]
    return attended.contiguous()  # PyTorch's linear layer is slow on a part of a larger tensor


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
