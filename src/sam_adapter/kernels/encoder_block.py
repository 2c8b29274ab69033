"""The forward pass of one block of SAM's image encoder, with the attention of our choice.

The block itself, its weights and its names, is `transformers`' ``SamVisionLayer``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers.activations import GELUActivation

from .attention import ATTENTION, Attention
from .frozen import added_linear, added_mlp, normed_linear
from .portions import HeadLayout


def encoder_block(layer: Any, hidden_states: Tensor, attend: Attention, *, by_rows: bool = False) -> Tensor:
    """Run a block.

    Args:
        layer: A ``SamVisionLayer``.
        hidden_states: ``(B, H, W, C)``.
        attend: One of `sam_adapter.kernels.attention.ATTENTION`.
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
    """Whether `kernels.frozen` can do a block: on a CPU, frozen, and with weights of the products' own type."""
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
        attention: A key of `sam_adapter.kernels.attention.ATTENTION`.
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
    attention = layer.attn
    layout = HeadLayout(attention.num_attention_heads, attention.scale, layer.window_size)
    if attention.use_rel_pos:
        row_table, column_table = attention.rel_pos_h, attention.rel_pos_w
    else:
        channels = qkv.shape[-1] // (3 * layout.heads)
        sides = layout.window_shape(*qkv.shape[1:3])
        row_table, column_table = (qkv.new_zeros(2 * side - 1, channels) for side in sides)
    # SAM fills the grid up with zero tokens to whole windows. What a zero token projects to is the bias, so that they
    # need not be projected.
    return attend(qkv, row_table, column_table, attention.qkv.bias, layout)
