"""The configuration of a SAM 2 from its tensors' shapes, and from what shapes do not say.

Heads, windows and the blocks that attend to the whole grid leave no trace in the tensors; Meta's four sizes are known
here (their ``sam2*_hiera_{t,s,b+,l}.yaml``), any other model brings a file with them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from ..errors import CheckpointError
from .settings_file import described

DECODER_HEADS = 8
"""Of the mask decoder in every SAM."""
PATCH_OF_EMBEDDING = 16
"""Pixels on a side that one position of the image embedding stands for."""


@dataclass(frozen=True, kw_only=True)
class Untold:
    """What tensors do not say of a SAM 2, under the names of Meta's settings.

    Attributes:
        global_att_blocks: Blocks of the trunk that attend to the whole grid.
        num_heads: Of the trunk's first stage; each later stage has twice as many.
        window_spec: Side of the windows of each stage.
        image_size: Side of the input.
        dynamic_multimask_stability_delta: Half the width of the band of logits around zero that a stable mask does
            not have many in.
        dynamic_multimask_stability_thresh: Share of a mask outside this band from which it counts as stable.
    """

    global_att_blocks: tuple[int, ...]
    num_heads: int = 1
    window_spec: tuple[int, ...] = (8, 4, 14, 7)
    image_size: int = 1024
    dynamic_multimask_stability_delta: float = 0.05
    dynamic_multimask_stability_thresh: float = 0.98


KNOWN: Mapping[tuple[int, tuple[int, ...]], Untold] = {
    (96, (1, 2, 7, 2)): Untold(global_att_blocks=(5, 7, 9)),
    (96, (1, 2, 11, 2)): Untold(global_att_blocks=(7, 10, 13)),
    (112, (2, 3, 16, 3)): Untold(global_att_blocks=(12, 16, 20), num_heads=2),
    (144, (2, 6, 36, 4)): Untold(global_att_blocks=(23, 33, 43), num_heads=2, window_spec=(8, 4, 16, 8)),
}
"""Meta's tiny, small, base plus and large by width and blocks of each stage."""

_TRUNK = "image_encoder.trunk."


def sam2_config(state: Mapping[str, Tensor], source: Path) -> Sam2Config:
    """The configuration of the SAM 2 that tensors under Meta's names are of.

    Args:
        state: The tensors.
        source: Their file; see `described`.

    Raises:
        CheckpointError: If the model is not known and no file describes it.
    """
    widths = _widths(state)
    stages = tuple(widths.count(width) for width in sorted(set(widths)))
    untold = described(source, Untold, "SAM 2") or KNOWN.get((widths[0], stages))
    if untold is None:
        raise CheckpointError(
            f"a trunk of width {widths[0]} with {'-'.join(map(str, stages))} blocks is none of Meta's four sizes, and "
            "heads, windows and global blocks cannot be read off tensors. Put a file "
            f"'{source.with_suffix('.yaml').name}' beside it with num_heads, global_att_blocks and window_spec, as "
            "in Meta's settings, or use a Hugging Face folder."
        )
    channels = sorted(set(widths))
    embed, points = state[f"{_TRUNK}patch_embed.proj.weight"], state[f"{_TRUNK}pos_embed"]
    window = state[f"{_TRUNK}pos_embed_window"].shape[-1]
    backbone = Sam2HieraDetConfig(
        hidden_size=widths[0],
        num_attention_heads=untold.num_heads,
        patch_kernel_size=list(embed.shape[-2:]),
        window_positional_embedding_background_size=list(points.shape[-2:]),
        blocks_per_stage=list(stages),
        embed_dim_per_stage=channels,
        num_attention_heads_per_stage=[untold.num_heads * 2**stage for stage in range(len(stages))],
        window_size_per_stage=[window, *untold.window_spec[1:]],
        global_attention_blocks=list(untold.global_att_blocks),
        mlp_ratio=state[f"{_TRUNK}blocks.0.mlp.layers.0.weight"].shape[0] / widths[0],
        num_query_pool_stages=len(stages) - 1,
        image_size=[untold.image_size] * 2,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=channels[::-1],
        backbone_feature_sizes=feature_sizes(untold.image_size),
        fpn_hidden_size=state["image_encoder.neck.convs.0.conv.weight"].shape[0],
    )
    decoder = _decoder_config(state, untold)
    prompt = Sam2PromptEncoderConfig(
        hidden_size=decoder.hidden_size,
        image_size=untold.image_size,
        patch_size=PATCH_OF_EMBEDDING,
        mask_input_channels=state["sam_prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )
    return Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def _decoder_config(state: Mapping[str, Tensor], untold: Untold) -> Sam2MaskDecoderConfig:
    hidden, mlp = state["sam_mask_decoder.transformer.layers.0.mlp.layers.1.weight"].shape
    half = state["sam_mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"].shape[0]
    return Sam2MaskDecoderConfig(
        hidden_size=hidden,
        mlp_dim=mlp,
        num_attention_heads=DECODER_HEADS,
        attention_downsample_rate=hidden // half,
        num_multimask_outputs=state["sam_mask_decoder.mask_tokens.weight"].shape[0] - 1,
        iou_head_depth=_count(state, r"sam_mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        iou_head_hidden_dim=state["sam_mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        dynamic_multimask_stability_delta=untold.dynamic_multimask_stability_delta,
        dynamic_multimask_stability_thresh=untold.dynamic_multimask_stability_thresh,
    )


def _widths(state: Mapping[str, Tensor]) -> list[int]:
    """Channels that each block of the trunk gives."""
    depth = _count(state, r"image_encoder\.trunk\.blocks\.(\d+)\.")
    return [state[f"{_TRUNK}blocks.{block}.attn.proj.weight"].shape[0] for block in range(depth)]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in state if (match := re.match(pattern, name))})


def feature_sizes(image_size: int) -> list[list[int]]:
    """Sides of the levels that the decoder takes, the finest first."""
    return [[image_size // (PATCH_OF_EMBEDDING // finer)] * 2 for finer in (4, 2, 1)]
