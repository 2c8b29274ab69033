"""SAM 2's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from math import lcm
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Sam2Config, Sam2Model

from ..errors import ConfigError
from .agreement import Agreement
from .model_files import assembled, errors_of, model_from_folder
from .sam2_config import PATCH_OF_EMBEDDING, feature_sizes, sam2_config
from .sam2_names import from_sam2_names

LEVELS = 3
"""Of the neck, that the decoder takes."""


def sam2_from_folder(folder: Path) -> Sam2Model:
    """The SAM 2 of a Hugging Face folder, in float32; of a video model's folder the image model in it.

    Raises:
        CheckpointError: If it is none, or damaged.
    """

    def require_sensible(config: Any) -> None:
        trunk, side = config.vision_config.backbone_config, config.prompt_encoder_config.image_size
        own = Agreement(config, folder / "config.json")
        own.require_sensible(blocks=sum(trunk.blocks_per_stage), side=side)
        _require_stages(own, trunk)
        own.decoder("vision_config.fpn_hidden_size")
        levels, patch = "vision_config.num_feature_levels", "prompt_encoder_config.patch_size"
        own.require(own[levels] == LEVELS, levels, f"{LEVELS}")
        own.require(own[patch] == PATCH_OF_EMBEDDING, patch, f"{PATCH_OF_EMBEDDING}")
        own.finish()
        step = size_step(config)
        own.require(side % step == 0, "prompt_encoder_config.image_size", f"a multiple of {step}")
        own.finish()

    return model_from_folder(folder, "SAM 2", Sam2Config, Sam2Model, require_sensible)


def sam2_from_meta(state: dict[str, Tensor], source: str) -> Sam2Model:
    """The SAM 2 of a checkpoint with Meta's names; what remembers earlier frames of a video is left out.

    Args:
        state: Its tensors.
        source: The file that they come from.

    Raises:
        CheckpointError: If they are no SAM 2's.
    """
    with errors_of(source, "SAM 2"):
        config = sam2_config(state, Path(source))
        return assembled(Sam2Model, config, from_sam2_names(state), "SAM 2")


def _require_stages(own: Agreement, trunk: Any) -> None:
    """Each stage of Hiera has its width, heads and windows."""
    place, stages = "vision_config.backbone_config", len(trunk.blocks_per_stage)
    lists = ("embed_dim_per_stage", "num_attention_heads_per_stage", "window_size_per_stage")
    for name in lists:
        fits = len(own[f"{place}.{name}"]) == stages and min(own[f"{place}.{name}"]) > 0
        own.require(fits, f"{place}.{name}", f"{stages} positive numbers, one for each of 'blocks_per_stage'")
    pairs = zip(trunk.embed_dim_per_stage, trunk.num_attention_heads_per_stage, strict=False)
    divided = all(heads > 0 and width % heads == 0 for width, heads in pairs)
    own.require(divided, f"{place}.num_attention_heads_per_stage", f"to divide {trunk.embed_dim_per_stage}")
    own.blocks_of(f"{place}.global_attention_blocks", sum(trunk.blocks_per_stage))
    channels = trunk.embed_dim_per_stage[::-1]
    own.require(
        list(own["vision_config.backbone_channel_list"]) == list(channels),
        "vision_config.backbone_channel_list",
        f"{channels}, the stages' widths from the last",
    )


def size_step(config: Any) -> int:
    """What the side of the input is a multiple of.

    The table of positions in a window is repeated without a rest, and each stage halves the grid.
    """
    trunk = config.vision_config.backbone_config
    stride = trunk.patch_stride[0]
    return lcm(stride * trunk.window_size_per_stage[0], stride * trunk.query_stride[0] ** trunk.num_query_pool_stages)


def resize_sam2(model: Sam2Model, image_size: int) -> Sam2Model:
    """The same SAM 2 for another input size. No tensor changes: the table of positions is interpolated at run time.

    Raises:
        ConfigError: If the encoder's stages do not fit the size.
    """
    step = size_step(model.config)
    if image_size < step or image_size % step:
        low = max(image_size // step, 1) * step
        raise ConfigError(
            f"image_size: expected a multiple of {step}, as SAM 2's windows and stages need it, got {image_size}; "
            f"the nearest are {low} and {low + step}."
        )
    config: Any = Sam2Config.from_dict(model.config.to_dict())
    config.prompt_encoder_config.image_size = image_size
    config.vision_config.backbone_config.image_size = [image_size, image_size]
    config.vision_config.backbone_feature_sizes = feature_sizes(image_size)
    return assembled(Sam2Model, config, model.state_dict(), "SAM 2")
