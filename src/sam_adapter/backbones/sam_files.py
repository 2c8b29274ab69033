"""SAM's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel, SamConfig, SamModel

from ..errors import ConfigError
from . import meta_names
from .agreement import Agreement
from .model_files import assembled, errors_of, model_from_folder


def sam_from_folder(
    folder: Path,
    *,
    config_type: type[PreTrainedConfig] = SamConfig,
    model_type: type[PreTrainedModel] = SamModel,
    kind: str = "SAM",
    more: Callable[[Agreement], None] | None = None,
) -> Any:
    """The SAM of a Hugging Face folder, in float32.

    Args:
        folder: With ``config.json`` and the weights.
        config_type: Of its configuration; families whose encoder is SAM's have their own.
        model_type: Of the model.
        kind: What errors call it.
        more: Looks at further fields that must agree.

    Raises:
        CheckpointError: If it is none, or damaged.
    """

    def require_sensible(config: Any) -> None:
        vision, own = config.vision_config, Agreement(config, folder / "config.json")
        own.require_sensible(blocks=vision.num_hidden_layers, side=vision.image_size)
        own.multiple("vision_config.hidden_size", "vision_config.num_attention_heads")
        own.multiple("vision_config.image_size", "vision_config.patch_size")
        own.blocks_of("vision_config.global_attn_indexes", vision.num_hidden_layers)
        own.require(vision.window_size >= 0, "vision_config.window_size", "0 or more")
        own.equal("prompt_encoder_config.image_size", "vision_config.image_size")
        grid = vision.image_size // max(vision.patch_size, 1)
        embedding = "prompt_encoder_config.image_embedding_size"
        own.require(own[embedding] == grid, embedding, f"{grid}, the image's size over the patch's")
        own.decoder("vision_config.output_channels")
        if more is not None:
            more(own)
        own.finish()

    return model_from_folder(folder, kind, config_type, model_type, require_sensible)


def sam_from_meta(state: dict[str, Tensor], source: str) -> SamModel:
    """The SAM of a checkpoint with Meta's names.

    Args:
        state: Its tensors.
        source: Where they come from, for errors.

    Raises:
        CheckpointError: If they are no SAM's.
    """
    with errors_of(source, "SAM"):
        return assembled_sam(SamModel, meta_names.infer_config(state), meta_names.from_meta_names(state))


def resize_sam(sam: Any, image_size: int, *, kind: str = "SAM") -> Any:
    """The same SAM, or other model with SAM's encoder, for another input size.

    The absolute position table is interpolated bicubically and the relative tables of the global blocks linearly, as
    SAM does at run time.

    Raises:
        ConfigError: If the size is no multiple of the patch size.
    """
    config: Any = type(sam.config).from_dict(sam.config.to_dict())  # its parts are typed as optional dictionaries
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
    return assembled_sam(type(sam), config, state, kind=kind)


def assembled_sam(
    model_type: type[PreTrainedModel], config: PreTrainedConfig, state: dict[str, Tensor], *, kind: str = "SAM"
) -> Any:
    """A model with these tensors; the prompt encoder shares the position encoding."""
    table = state["shared_image_embedding.positional_embedding"]
    shared = {"prompt_encoder.shared_embedding.positional_embedding": table}
    return assembled(model_type, config, {**state, **shared}, kind)
