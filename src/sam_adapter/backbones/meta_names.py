"""Meta's SAM checkpoints: their key names and what their tensors' shapes say about the configuration."""

import re
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from ..errors import CheckpointError

PARTS_OF_EVERY_SAM = (
    (r"^(prompt_encoder)\.mask_downscaling\.0\.", r"\1.mask_embed.conv1."),
    (r"^(prompt_encoder)\.mask_downscaling\.1\.", r"\1.mask_embed.layer_norm1."),
    (r"^(prompt_encoder)\.mask_downscaling\.3\.", r"\1.mask_embed.conv2."),
    (r"^(prompt_encoder)\.mask_downscaling\.4\.", r"\1.mask_embed.layer_norm2."),
    (r"^(prompt_encoder)\.mask_downscaling\.6\.", r"\1.mask_embed.conv3."),
    (r"^(mask_decoder)\.output_upscaling\.0\.", r"\1.upscale_conv1."),
    (r"^(mask_decoder)\.output_upscaling\.1\.", r"\1.upscale_layer_norm."),
    (r"^(mask_decoder)\.output_upscaling\.3\.", r"\1.upscale_conv2."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.norm", r"\1.layer_norm"),
    (r"^(mask_decoder\.transformer)\.norm_final_attn\.", r"\1.layer_norm_final_attn."),
)
"""Meta's names of tensors of the prompt encoder and the mask decoder, and the library's, that all versions share."""
_RENAMED = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^vision_encoder\.blocks\.(\d+)\.norm", r"vision_encoder.layers.\1.layer_norm"),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^vision_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^vision_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^vision_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^vision_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "shared_image_embedding.positional_embedding",
    ),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    *PARTS_OF_EVERY_SAM,
)


def from_meta_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under Meta's names → the same under `transformers.SamModel`'s.

    Names that Meta's checkpoints do not have pass unchanged.
    """
    depths: dict[str, int] = {}
    for name in state:
        if match := re.match(r"(mask_decoder\..+)\.layers\.(\d+)\.(?:weight|bias)$", name):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]))
    return {_renamed(name, depths): tensor for name, tensor in state.items()}


def _renamed(name: str, depths: Mapping[str, int]) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    match = re.match(r"(mask_decoder\..+)\.layers\.(\d+)\.(weight|bias)$", name)
    if match and match[1] in depths:  # one of the decoder's small MLPs, whose first and last layers have own names
        layer = int(match[2])
        place = "proj_in" if layer == 0 else "proj_out" if layer == depths[match[1]] else f"layers.{layer - 1}"
        name = f"{match[1]}.{place}.{match[3]}"
    return name


def infer_config(state: Mapping[str, Tensor]) -> SamConfig:
    """The configuration of a SAM from its tensors' shapes; see `inferred`."""
    vision, prompt, decoder = inferred(state)
    return SamConfig(
        vision_config=SamVisionConfig(**vision),
        prompt_encoder_config=SamPromptEncoderConfig(**prompt),
        mask_decoder_config=SamMaskDecoderConfig(**decoder),
    )


def inferred(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the tensors' shapes say of the configurations of the image encoder, the prompt encoder and the mask decoder.

    Args:
        state: Tensors under Meta's names.

    Raises:
        CheckpointError: If this is no SAM checkpoint.
    """
    if missing := [name for name in _TELLING if name not in state]:
        raise CheckpointError(
            f"not a SAM checkpoint: it has no '{missing[0]}'. Expected one of Meta's files such as "
            "sam_vit_b_01ec64.pth."
        )
    hidden, _, patch, _ = state["image_encoder.patch_embed.proj.weight"].shape
    grid = state["image_encoder.pos_embed"].shape[1]
    depth = 1 + max(int(match[1]) for name in state if (match := re.match(r"image_encoder\.blocks\.(\d+)\.", name)))
    tables = [state[f"image_encoder.blocks.{block}.attn.rel_pos_h"] for block in range(depth)]
    spans = [(table.shape[0] + 1) // 2 for table in tables]
    decoder_hidden, decoder_mlp = state["mask_decoder.transformer.layers.0.mlp.lin2.weight"].shape
    attention_hidden = state["mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"].shape[0]
    scores = [n for n in state if re.fullmatch(r"mask_decoder\.iou_prediction_head\.layers\.\d+\.weight", n)]
    layers = {m[1] for n in state if (m := re.match(r"mask_decoder\.transformer\.layers\.(\d+)\.", n))}
    vision = {
        "hidden_size": hidden,
        "output_channels": state["image_encoder.neck.0.weight"].shape[0],
        "num_hidden_layers": depth,
        "num_attention_heads": hidden // tables[0].shape[1],
        "image_size": grid * patch,
        "patch_size": patch,
        "window_size": min(spans) if min(spans) < grid else 14,
        "global_attn_indexes": [block for block, span in enumerate(spans) if span == grid],
        "num_pos_feats": state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape[1],
        "mlp_dim": state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
    }
    prompt = {
        "hidden_size": decoder_hidden,
        "image_size": grid * patch,
        "patch_size": patch,
        "mask_input_channels": state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    }
    decoder = {
        "hidden_size": decoder_hidden,
        "mlp_dim": decoder_mlp,
        "num_hidden_layers": len(layers),
        "attention_downsample_rate": decoder_hidden // attention_hidden,
        "num_multimask_outputs": state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        "iou_head_depth": len(scores),
        "iou_head_hidden_dim": state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        "layer_norm_eps": 1e-5,  # Meta's decoder blocks leave PyTorch's default, transformers' default is 1e-6
    }
    return vision, prompt, decoder


_TELLING = (
    "image_encoder.patch_embed.proj.weight",
    "image_encoder.pos_embed",
    "image_encoder.blocks.0.attn.rel_pos_h",
    "image_encoder.neck.0.weight",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    "prompt_encoder.mask_downscaling.3.weight",
    "mask_decoder.transformer.layers.0.mlp.lin2.weight",
    "mask_decoder.mask_tokens.weight",
)


def read_tensors(path: str) -> dict[str, Tensor]:
    """Tensors of a ``.pth``/``.pt`` file (never code) or a ``.safetensors`` file.

    Raises:
        CheckpointError: If the file cannot be read as a flat dictionary of tensors.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")[:200]  # of an empty file nothing is said
        raise CheckpointError(
            f"{path}: cannot be read as tensors ({type(error).__name__}: {reason}). "
            "Expected a PyTorch or safetensors file that holds tensors only; others are not opened, as they can run "
            "code. Download it again if it may be cut short."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{path}: expected a dictionary of name to tensor.")
    return state
