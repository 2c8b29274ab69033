"""The configuration of Meta's SAM 3, from its tensors' shapes alone."""

from pathlib import Path
from typing import Any

import torch

from sam_adapter.backbones.sam3_config import sam3_config


def test_the_configuration_of_metas_one_size():
    """What its tensors do not say, and the term in variances that differs from the library's default."""
    shapes = {
        "trunk.patch_embed.proj.weight": (1024, 3, 14, 14),
        "trunk.pos_embed": (1, 577, 1024),
        **{f"trunk.blocks.{block}.mlp.fc1.weight": (4736, 1024) for block in range(32)},
        **{f"neck.{level}.conv_1x1.weight": (256, 512, 1, 1) for level in range(4)},
        "mask_decoder.transformer.layers.0.mlp.lin2.weight": (256, 2048),
        "mask_decoder.transformer.layers.1.mlp.lin2.weight": (256, 2048),
        "mask_decoder.transformer.final_attn_token_to_image.q_proj.weight": (128, 256),
        "mask_decoder.mask_tokens.weight": (4, 256),
        **{f"mask_decoder.iou_prediction_head.layers.{layer}.weight": (256, 256) for layer in range(3)},
        "prompt_encoder.mask_downscaling.3.weight": (16, 4, 2, 2),
    }
    parts = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    found: Any = sam3_config(parts, Path("sam3.pt"))
    trunk, decoder = found.vision_config.backbone_config, found.mask_decoder_config
    assert (trunk.layer_norm_eps, trunk.num_attention_heads, trunk.window_size) == (1e-5, 16, 24)
    assert (trunk.global_attn_indexes, trunk.image_size, trunk.pretrain_image_size) == ([7, 15, 23, 31], 1008, 336)
    assert (decoder.num_attention_heads, decoder.attention_downsample_rate, decoder.num_hidden_layers) == (8, 2, 2)
    assert found.vision_config.backbone_feature_sizes == [[288, 288], [144, 144], [72, 72]]
