"""SAM 2's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from math import lcm
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Sam2Config, Sam2Model

from ..errors import CheckpointError, ConfigError
from .model_files import assembled, model_from_folder
from .sam2_config import feature_sizes, sam2_config
from .sam2_names import from_sam2_names

MOST_BLOCKS = 1000
LARGEST_SIDE = 4096


def sam2_from_folder(folder: Path) -> Sam2Model:
    """The SAM 2 of a Hugging Face folder, in float32; of a video model's folder the image model in it.

    Raises:
        CheckpointError: If it is none, or damaged.
    """

    def require_sensible(config: Any) -> None:
        trunk, side = config.vision_config.backbone_config, config.prompt_encoder_config.image_size
        blocks = sum(trunk.blocks_per_stage)
        if not (0 < blocks <= MOST_BLOCKS and isinstance(side, int) and 0 < side <= LARGEST_SIDE):
            raise CheckpointError(
                f"{folder / 'config.json'}: expected at most {MOST_BLOCKS} blocks and square images of at most "
                f"{LARGEST_SIDE} pixels, got {blocks} and {side}."
            )

    return model_from_folder(folder, "SAM 2", Sam2Config, Sam2Model, require_sensible)


def sam2_from_meta(state: dict[str, Tensor], source: str) -> Sam2Model:
    """The SAM 2 of a checkpoint with Meta's names; what remembers earlier frames of a video is left out.

    Args:
        state: Its tensors.
        source: The file that they come from.

    Raises:
        CheckpointError: If they are no SAM 2's.
    """
    try:
        config = sam2_config(state, Path(source))
        return assembled(Sam2Model, config, from_sam2_names(state), "SAM 2")
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its tensors' shapes are not those of a SAM 2 ({error}).") from error


def size_step(model: Sam2Model) -> int:
    """What the side of the input is a multiple of.

    The table of positions in a window is repeated without a rest, and each stage halves the grid.
    """
    config: Any = model.config.vision_config
    trunk = config.backbone_config
    stride = trunk.patch_stride[0]
    return lcm(stride * trunk.window_size_per_stage[0], stride * trunk.query_stride[0] ** trunk.num_query_pool_stages)


def resize_sam2(model: Sam2Model, image_size: int) -> Sam2Model:
    """The same SAM 2 for another input size. No tensor changes: the table of positions is interpolated at run time.

    Raises:
        ConfigError: If the encoder's stages do not fit the size.
    """
    step = size_step(model)
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
