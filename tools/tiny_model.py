"""The architecture of the bundled tiny SAM, and how its weights are stored."""

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamModel

IMAGE_SIZE = 256
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""SAM's own normalisation, in grey levels."""

CHANNELS = 128
"""Width of the image embeddings and of the decoder."""


def build_tiny(seed: int = 0) -> SamModel:
    """A SAM of 2.9 million parameters with random weights.

    Three settings of a fresh `SamConfig` would hinder learning: a position encoding drawn with deviation
    `hidden_size // 2` (neighbouring places become unrelated; SAM's own has 1 and stays fixed), vision weights
    drawn with deviation 1e-10, and a LayerNorm epsilon in the decoder that differs from SAM's.
    """
    torch.manual_seed(seed)
    config = SamConfig(
        vision_config={
            "hidden_size": 160,
            "num_hidden_layers": 6,
            "num_attention_heads": 5,
            "output_channels": CHANNELS,
            "num_pos_feats": CHANNELS // 2,
            "image_size": IMAGE_SIZE,
            "window_size": 8,
            "global_attn_indexes": [1, 3, 5],
            "initializer_range": 0.02,
        },
        prompt_encoder_config={"hidden_size": CHANNELS, "image_size": IMAGE_SIZE},
        mask_decoder_config={
            "hidden_size": CHANNELS,
            "mlp_dim": 512,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": CHANNELS,
            "layer_norm_eps": 1e-5,
        },
    )
    model = SamModel._from_config(config, attn_implementation="eager")
    places = model.vision_encoder.pos_embed
    assert places is not None
    with torch.no_grad():
        nn.init.trunc_normal_(places, std=0.02)
        model.shared_image_embedding.positional_embedding.normal_(0, 1)
    tie_position_encoding(model)
    return model


def tie_position_encoding(model: SamModel) -> None:
    """Share the fixed position encoding between image and prompts."""
    shared = model.shared_image_embedding.positional_embedding
    shared.requires_grad_(False)
    model.prompt_encoder.shared_embedding.positional_embedding = shared


def normalised(images: Tensor) -> Tensor:
    """``(B, H, W, 3)`` uint8 to ``pixel_values`` ``(B, 3, H, W)``."""
    mean = torch.tensor(PIXEL_MEAN, device=images.device)
    std = torch.tensor(PIXEL_STD, device=images.device)
    return ((images.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def export(model: SamModel, folder: Path) -> None:
    """Write `config.json` and a half-precision `model.safetensors`; each file is replaced at once."""
    folder.mkdir(parents=True, exist_ok=True)
    half = build_tiny()
    half.load_state_dict(model.state_dict())
    half.half()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        half.save_pretrained(scratch)
        for name in ("model.safetensors", "config.json"):
            (Path(scratch) / name).chmod(0o644)
            os.replace(Path(scratch) / name, folder / name)
    SamModel.from_pretrained(folder, dtype=torch.float32)
