"""SAM's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import SamConfig, SamModel

from ..errors import CheckpointError, ConfigError
from . import meta_names
from .model_files import assembled, model_from_folder


def sam_from_folder(folder: Path) -> SamModel:
    """The SAM of a Hugging Face folder, in float32.

    Raises:
        CheckpointError: If it is none, or damaged.
    """

    def require_sensible(config: Any) -> None:
        vision = config.vision_config
        if not (0 < vision.num_hidden_layers <= 1000 and 0 < vision.image_size <= 4096):
            raise CheckpointError(
                f"{folder / 'config.json'}: expected at most 1000 layers and images of at most 4096 pixels, got "
                f"{vision.num_hidden_layers} and {vision.image_size}."
            )

    return model_from_folder(folder, "SAM", SamConfig, SamModel, require_sensible)


def sam_from_meta(state: dict[str, Tensor], source: str) -> SamModel:
    """The SAM of a checkpoint with Meta's names.

    Args:
        state: Its tensors.
        source: Where they come from, for errors.

    Raises:
        CheckpointError: If they are no SAM's.
    """
    try:
        return _assembled(meta_names.infer_config(state), meta_names.from_meta_names(state))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its tensors' shapes are not those of a SAM ({error}).") from error


def resize_sam(sam: SamModel, image_size: int) -> SamModel:
    """The same SAM for another input size.

    The absolute position table is interpolated bicubically and the relative tables of the global blocks linearly, as
    SAM does at run time.

    Raises:
        ConfigError: If the size is no multiple of the patch size.
    """
    config: Any = SamConfig.from_dict(sam.config.to_dict())  # its parts are typed as optional dictionaries
    patch = config.vision_config.patch_size
    if image_size < patch or image_size % patch:
        low = max(image_size // patch, 1) * patch
        raise ConfigError(
            f"image_size: expected a multiple of the model's patch size {patch}, got {image_size}; "
            f"the nearest are {low} and {low + patch}."
        )
    grid = image_size // patch
    config.vision_config.image_size = image_size
    config.prompt_encoder_config.image_size = image_size
    config.prompt_encoder_config.image_embedding_size = grid
    state = sam.state_dict()
    table = state.get("vision_encoder.pos_embed")
    if table is not None:
        resized = functional.interpolate(table.permute(0, 3, 1, 2), (grid, grid), mode="bicubic")
        state["vision_encoder.pos_embed"] = resized.permute(0, 2, 3, 1).contiguous()
    for block in config.vision_config.global_attn_indexes:
        for axis in ("h", "w"):
            name = f"vision_encoder.layers.{block}.attn.rel_pos_{axis}"
            if name in state:
                resized = functional.interpolate(state[name].T[None], 2 * grid - 1, mode="linear")
                state[name] = resized[0].T.contiguous()
    return _assembled(config, state)


def _assembled(config: SamConfig, state: dict[str, Tensor]) -> SamModel:
    """A SAM with these tensors; the prompt encoder shares the position encoding."""
    table = state["shared_image_embedding.positional_embedding"]
    shared = {"prompt_encoder.shared_embedding.positional_embedding": table}
    return assembled(SamModel, config, {**state, **shared}, "SAM")
