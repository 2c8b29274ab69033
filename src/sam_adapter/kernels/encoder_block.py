"""The forward pass of one block of SAM's image encoder, with the attention of our choice.

The block itself, its weights and its names, is `transformers`' ``SamVisionLayer``, or SAM-HQ's, which is the same.
"""

from collections.abc import Callable
from functools import cache, partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation
from transformers.models.sam import modeling_sam as sam
from transformers.models.sam_hq import modeling_sam_hq as hq

from .attention import ATTENTION, Attention
from .row_chunks import frozen_linear, in_chunks
from .windows import HeadLayout

LAYERS = (sam.SamVisionLayer, hq.SamHQVisionLayer)
"""The blocks whose forward pass is written out here."""
ATTENTIONS = (
    sam.SamVisionAttention,
    sam.SamVisionSdpaAttention,
    hq.SamHQVisionAttention,
    hq.SamHQVisionSdpaAttention,
)
"""Their attention with decomposed relative positions."""
MLPS = (sam.SamMLPBlock, hq.SamHQMLPBlock)

Block = Callable[[Any, Tensor], Tensor]
"""A ``SamVisionLayer`` and hidden states ``(B, H, W, C)`` to new hidden states."""


def encoder_block(layer: Any, hidden_states: Tensor, attend: Attention) -> Tensor:
    """Run a block.

    Its modules are called as they are, whatever they were replaced by; a block that is not one of `LAYERS` runs itself.

    Args:
        layer: One of `LAYERS`.
        hidden_states: ``(B, H, W, C)``.
        attend: One of `sam_adapter.kernels.attention.ATTENTION`.

    Returns:
        ``(B, H, W, C)``.
    """
    if type(layer) not in LAYERS or type(layer.attn) not in ATTENTIONS:
        return layer(hidden_states)
    chunked = not torch.compiler.is_compiling() and goes_in_chunks(layer, hidden_states)
    linear, run = (frozen_linear, in_chunks) if chunked else (_called, _called)

    def before(hidden: Tensor) -> Tensor:
        return linear(layer.attn.qkv, layer.layer_norm1(hidden))

    def after(hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = hidden + linear(layer.attn.proj, attended)
        normed = layer.layer_norm2(hidden)
        if not chunked:
            return hidden + layer.mlp(normed)
        return hidden + linear(layer.mlp.lin2, layer.mlp.act(linear(layer.mlp.lin1, normed)))

    qkv = run(before, hidden_states)  # (B, H, W, 3*C)
    return run(after, hidden_states, _attended(layer, qkv, attend))


def _called(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    return function(*inputs)


def goes_in_chunks(layer: Any, hidden_states: Tensor) -> bool:
    """Whether a block may go in `row_chunks`: on a CPU, of plain modules alone, frozen, in the products' own type.

    A module that wraps or extends a plain one, such as LoRA's, is not plain even if all its weights are frozen.
    """
    attention, mlp = layer.attn, layer.mlp
    plain = (
        type(mlp) in MLPS
        and type(mlp.act) is GELUActivation
        and all(type(norm) is nn.LayerNorm for norm in (layer.layer_norm1, layer.layer_norm2))
        and all(type(linear) is nn.Linear for linear in (attention.qkv, attention.proj, mlp.lin1, mlp.lin2))
    )
    if not plain or hidden_states.device.type != "cpu":
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_states.dtype
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    return frozen and mlp.lin1.weight.dtype == dtype


def block_runner(attention: str, *, compiled: bool) -> Block:
    """`encoder_block` with one of `ATTENTION`; compiled, blocks of one kind share what is compiled."""
    return _compiled(attention) if compiled else partial(encoder_block, attend=ATTENTION[attention])


@cache
def _compiled(attention: str) -> Block:
    attend: Any = ATTENTION[attention]
    if attention == "blocked":
        attend = torch.compiler.disable(attend)  # a loop over parts of tensors, which would be compiled one by one
    # Windows or not, with gradients or without, a full batch or the last: each has code of its own. Beyond the limit,
    # 8 unless it is raised, PyTorch silently stops compiling; where it takes no limit the 8 must do.
    raised: Any = {"recompile_limit": 64} if "recompile_limit" in signature(torch.compile).parameters else {}
    return partial(torch.compile(encoder_block, dynamic=False, **raised), attend=attend)


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
    # SAM fills the grid up with zero tokens to whole windows, and they need not be projected one by one: a plain layer
    # makes its bias of each.
    plain = type(attention.qkv) is nn.Linear
    fill = attention.qkv.bias if plain else attention.qkv(qkv.new_zeros(1, qkv.shape[-1] // 3))[0]
    return attend(qkv, row_table, column_table, fill, layout)
