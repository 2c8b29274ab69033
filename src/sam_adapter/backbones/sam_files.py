"""SAM's files: Meta's checkpoints and folders of `transformers`, and the same model for another size of input."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers import SamConfig, SamModel

from ..errors import CheckpointError, ConfigError
from . import meta_names


def sam_from_folder(folder: Path) -> SamModel:
    """The SAM of a Hugging Face folder, in float32.

    Raises:
        CheckpointError: If it is none, or damaged.
    """
    try:
        config = SamConfig.from_pretrained(folder)
        _require_weights(config, folder)
        # The library's own bar counts tensors, not bytes; only fetching shows a bar here.
        transformers.utils.logging.disable_progress_bar()
        loaded: Any = SamModel.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except CheckpointError:
        raise
    except Exception as error:  # a damaged config.json or model.safetensors shows in many ways
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded as a SAM ({reason}). Copy or fetch it again.") from error
    sam, info = loaded
    missing = sorted(info["missing_keys"])
    if missing or info["mismatched_keys"]:
        raise CheckpointError(f"{folder}: tensors missing or of the wrong shape: {', '.join(missing[:8])}.")
    return sam


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
    """A SAM with these tensors, without drawing random weights first."""
    with torch.device("meta"):
        sam = SamModel(config)
    table = state["shared_image_embedding.positional_embedding"]
    state = {**state, "prompt_encoder.shared_embedding.positional_embedding": table}
    wanted = {name: tensor.shape for name, tensor in sam.state_dict().items()}
    wrong = [f"'{name}' is missing" for name in sorted(wanted.keys() - state.keys())]
    wrong += [f"'{name}' is not part of SAM" for name in sorted(state.keys() - wanted.keys())]
    wrong += [
        f"'{name}' has shape {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    if wrong:
        raise CheckpointError(f"{len(wrong)} tensors do not fit a SAM of this size: {'; '.join(wrong[:8])}.")
    # Copies, so that nothing shares memory with the file or with the model it came from.
    sam.load_state_dict({name: tensor.detach().float().clone() for name, tensor in state.items()}, assign=True)
    sam.tie_weights()
    return sam


def _require_weights(config: SamConfig, folder: Path) -> None:
    """Compare what a configuration asks for with what the files hold, before memory is taken for it."""
    vision: Any = config.vision_config
    if not (0 < vision.num_hidden_layers <= 1000 and 0 < vision.image_size <= 4096):
        raise CheckpointError(
            f"{folder / 'config.json'}: expected at most 1000 layers and images of at most 4096 pixels, got "
            f"{vision.num_hidden_layers} and {vision.image_size}."
        )
    with torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in SamModel(config).parameters())
    held = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if wanted > held:  # a byte for each number is the least
        raise CheckpointError(
            f"{folder}: config.json asks for {wanted} parameters, but the weights have {held} bytes. One of the files "
            "is damaged or of another model; copy or fetch it again."
        )
