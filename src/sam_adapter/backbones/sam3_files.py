"""SAM 3's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Sam3TrackerConfig, Sam3TrackerModel

from ..errors import CheckpointError, ConfigError
from .model_files import assembled, model_from_folder
from .sam3_config import feature_sizes, sam3_config
from .sam3_names import from_sam3_names, image_parts

KIND = "SAM 3"
"""What errors call the model."""
MOST_BLOCKS = 1000
LARGEST_SIDE = 4096


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
        blocks, side = config.vision_config.backbone_config.num_hidden_layers, config.vision_config.image_size
        if not (0 < blocks <= MOST_BLOCKS and isinstance(side, int) and 0 < side <= LARGEST_SIDE):
            raise CheckpointError(
                f"{folder / 'config.json'}: expected at most {MOST_BLOCKS} blocks and square images of at most "
                f"{LARGEST_SIDE} pixels, got {blocks} and {side}."
            )

    return model_from_folder(folder, KIND, _TrackerConfig, Sam3TrackerModel, require_sensible)


def sam3_from_meta(state: dict[str, Tensor], source: str) -> Sam3TrackerModel:
    """The SAM 3 of a checkpoint with Meta's names; the detector and what remembers earlier frames are left out.

    Args:
        state: Its tensors.
        source: The file that they come from.

    Raises:
        CheckpointError: If they are no SAM 3's.
    """
    try:
        parts = image_parts(state)
        return _assembled(sam3_config(parts, Path(source)), from_sam3_names(parts))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its tensors' shapes are not those of a SAM 3 ({error}).") from error


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
