"""The configuration of a SAM 3 from its tensors' shapes, and from what shapes do not say.

Heads, windows, the size of the input and the blocks that attend to the whole grid leave no trace in the tensors; Meta's
one size is known here, any other model brings a file with them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import (
    Sam3TrackerConfig,
    Sam3TrackerMaskDecoderConfig,
    Sam3TrackerPromptEncoderConfig,
    Sam3VisionConfig,
    Sam3ViTConfig,
)

from ..errors import CheckpointError
from .sam3_names import NECK, without_class_token
from .settings_file import described

SCALES = (4.0, 2.0, 1.0, 0.5)
"""Of the neck's levels against the trunk's grid. The last one is not used for images, and SAM 3.1 does not have it."""
DECODER_HEADS = 8
"""Of the mask decoder in every SAM."""


@dataclass(frozen=True, kw_only=True)
class Untold:
    """What tensors do not say of a SAM 3, under the names of Meta's settings.

    Attributes:
        num_heads: Of the trunk.
        global_att_blocks: Blocks of the trunk that attend to the whole grid.
        window_size: Side of the others' windows in patches.
        image_size: Side of the input in pixels.
    """

    num_heads: int
    global_att_blocks: tuple[int, ...]
    window_size: int = 24
    image_size: int = 1008


KNOWN = {(1024, 32): Untold(num_heads=16, global_att_blocks=(7, 15, 23, 31))}
"""Meta's SAM 3 by width and blocks of its trunk."""


def sam3_config(parts: Mapping[str, Tensor], source: Path) -> Sam3TrackerConfig:
    """The configuration of the SAM 3 that tensors are of.

    Args:
        parts: From `image_parts`.
        source: Their file; see `described`.

    Raises:
        CheckpointError: If the model is not known and no file describes it.
    """
    patches = parts["trunk.patch_embed.proj.weight"]  # (C, 3, P, P)
    width, patch = patches.shape[0], patches.shape[-1]
    depth = _count(parts, r"trunk\.blocks\.(\d+)\.")
    untold = described(source, Untold, "SAM 3") or KNOWN.get((width, depth))
    if untold is None:
        raise CheckpointError(
            f"a trunk of width {width} with {depth} blocks is not Meta's SAM 3, and heads, windows and global blocks "
            f"cannot be read off tensors. Put a file '{source.with_suffix('.yaml').name}' beside it with num_heads, "
            "global_att_blocks, window_size and image_size, as in Meta's settings, or use a Hugging Face folder."
        )
    learnt = int(without_class_token(parts["trunk.pos_embed"]).shape[1] ** 0.5)
    trunk = Sam3ViTConfig(
        hidden_size=width,
        intermediate_size=parts["trunk.blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=depth,
        num_attention_heads=untold.num_heads,
        image_size=untold.image_size,
        patch_size=patch,
        window_size=untold.window_size,
        global_attn_indexes=list(untold.global_att_blocks),
        pretrain_image_size=learnt * patch,
        layer_norm_eps=1e-5,  # Meta's trunk leaves PyTorch's default, transformers' default is 1e-6
    )
    levels = _count(parts, rf"{re.escape(NECK)}(\d+)\.")
    vision = Sam3VisionConfig(
        backbone_config=trunk,
        fpn_hidden_size=parts[f"{NECK}0.conv_1x1.weight"].shape[0],
        backbone_feature_sizes=feature_sizes(untold.image_size // patch),
        scale_factors=list(SCALES[:levels]),
    )
    hidden, mlp = parts["mask_decoder.transformer.layers.0.mlp.lin2.weight"].shape
    half = parts["mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"].shape[0]
    decoder = Sam3TrackerMaskDecoderConfig(
        hidden_size=hidden,
        mlp_dim=mlp,
        num_hidden_layers=_count(parts, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        num_attention_heads=DECODER_HEADS,
        attention_downsample_rate=hidden // half,
        num_multimask_outputs=parts["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        iou_head_depth=_count(parts, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        iou_head_hidden_dim=parts["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )
    prompt = Sam3TrackerPromptEncoderConfig(
        hidden_size=hidden,
        image_size=untold.image_size,
        patch_size=patch,
        mask_input_channels=parts["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )
    return Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def feature_sizes(grid: int) -> list[list[int]]:
    """Sides of the levels that the decoder takes, the finest first, for a side of the trunk's grid."""
    return [[finer * grid] * 2 for finer in (4, 2, 1)]


def _count(parts: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in parts if (match := re.match(pattern, name))})
