"""SAM 3's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Sam3TrackerConfig, Sam3TrackerModel

from ..errors import ConfigError
from .agreement import Agreement
from .model_files import assembled, errors_of, model_from_folder
from .sam3_config import SCALES, feature_sizes, sam3_config
from .sam3_names import from_sam3_names, image_parts

KIND = "SAM 3"
"""What errors call the model."""
LEVELS = 3
"""Of the neck that an image is decoded from; SAM 3 has a coarser one that nothing reads."""


class _TrackerConfig(Sam3TrackerConfig):
    """The tracker's part of a folder that may hold the detector too."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **options: Any) -> Any:
        """See `transformers`; a video model's configuration has that of its tracker inside."""
        own = config_dict.get("tracker_config", config_dict)
        return Sam3TrackerConfig.from_dict({**own, "model_type": Sam3TrackerConfig.model_type}, **options)


def sam3_from_folder(folder: Path) -> Sam3TrackerModel:
    """The SAM 3 of a Hugging Face folder, in float32; of a video model's folder the image model in it.

    Raises:
        CheckpointError: If it is none, or damaged.
    """

    def require_sensible(config: Any) -> None:
        trunk, own = config.vision_config.backbone_config, Agreement(config, folder / "config.json")
        place, prompts = "vision_config.backbone_config", "prompt_encoder_config"
        own.require_sensible(blocks=trunk.num_hidden_layers, side=config.vision_config.image_size)
        own.multiple(f"{place}.hidden_size", f"{place}.num_attention_heads")
        own.multiple(f"{place}.image_size", f"{place}.patch_size")
        own.blocks_of(f"{place}.global_attn_indexes", trunk.num_hidden_layers)
        own.require(trunk.window_size >= 0, f"{place}.window_size", "0 or more")
        for name in ("image_size", "patch_size"):
            own.equal(f"{prompts}.{name}", f"{place}.{name}")
        factors = "vision_config.scale_factors"
        own.require(
            tuple(own[factors][:LEVELS]) == SCALES[:LEVELS], factors, f"{SCALES}, the last of which may be left out"
        )
        own.decoder("vision_config.fpn_hidden_size")
        own.finish()

    return model_from_folder(folder, KIND, _TrackerConfig, Sam3TrackerModel, require_sensible)


def sam3_from_meta(state: dict[str, Tensor], source: str) -> Sam3TrackerModel:
    """The SAM 3 of a checkpoint with Meta's names; the detector and what remembers earlier frames are left out.

    Args:
        state: Its tensors.
        source: The file that they come from.

    Raises:
        CheckpointError: If they are no SAM 3's.
    """
    with errors_of(source, KIND):
        parts = image_parts(state)
        return _assembled(sam3_config(parts, Path(source)), from_sam3_names(parts))


def resize_sam3(model: Sam3TrackerModel, image_size: int) -> Sam3TrackerModel:
    """The same SAM 3 for another input size.

    No tensor changes: the table of positions is repeated over the grid, and the angles of rotary positions stretch
    with it.

    Raises:
        ConfigError: If the size is no multiple of the patch size.
    """
    config: Any = Sam3TrackerConfig.from_dict(model.config.to_dict())
    patch = config.prompt_encoder_config.patch_size
    if image_size < patch or image_size % patch:
        low = max(image_size // patch, 1) * patch
        raise ConfigError(
            f"image_size: expected a multiple of the model's patch size {patch}, got {image_size}; "
            f"the nearest are {low} and {low + patch}."
        )
    config.prompt_encoder_config.image_size = image_size
    config.vision_config.backbone_config.image_size = image_size
    config.vision_config.backbone_feature_sizes = feature_sizes(image_size // patch)
    return _assembled(config, model.state_dict())


def _assembled(config: Sam3TrackerConfig, state: dict[str, Tensor]) -> Sam3TrackerModel:
    """A SAM 3 with these tensors, and the rotary positions that no file has."""
    model = assembled(Sam3TrackerModel, config, state, KIND)
    trunk = model.vision_encoder.backbone
    for layer in trunk.layers:
        frequencies, _ = layer.rotary_emb.compute_axial_rope_parameters(trunk.config)
        layer.rotary_emb.inv_freq, layer.rotary_emb.original_inv_freq = frequencies, frequencies.clone()
        layer.position_ids = layer.precompute_positions(trunk.config, layer.window_size)
    assert not any(buffer.is_meta for buffer in model.buffers())
    return model
