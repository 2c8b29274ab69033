"""A small SAM 2 of the bundled model's size, and how it learns beside it."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from tiny_model import CHANNELS, IMAGE_SIZE, Features, Learner

WIDTHS = (32, 64, 128, 256)
"""Of the four stages of the trunk."""
CERTAIN = 10.0
"""Logit that an object is there: every prompt of the scenes asks for something that is."""


def build_small_sam2(seed: int = 0) -> Sam2Model:
    """A SAM 2 of about three million parameters with random weights."""
    torch.manual_seed(seed)
    trunk = Sam2HieraDetConfig(
        hidden_size=WIDTHS[0],
        num_attention_heads=1,
        blocks_per_stage=[1, 2, 6, 1],
        embed_dim_per_stage=list(WIDTHS),
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 8, 8],
        global_attention_blocks=[4, 6, 8],
        image_size=[IMAGE_SIZE, IMAGE_SIZE],
    )
    vision = Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=list(WIDTHS[::-1]),
        backbone_feature_sizes=[[IMAGE_SIZE // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=CHANNELS,
    )
    decoder = Sam2MaskDecoderConfig(
        hidden_size=CHANNELS, mlp_dim=512, num_attention_heads=4, iou_head_hidden_dim=CHANNELS
    )
    prompts = Sam2PromptEncoderConfig(hidden_size=CHANNELS, image_size=IMAGE_SIZE)
    config = Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    model = Sam2Model._from_config(config, attn_implementation="eager")  # faster than fused at this size
    places: Any = model.vision_encoder.backbone
    with torch.no_grad():
        nn.init.trunc_normal_(places.pos_embed, std=0.02)
        nn.init.trunc_normal_(places.pos_embed_window, std=0.02)
        table = model.shared_image_embedding.positional_embedding
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
        for parameter in model.mask_decoder.pred_obj_score_head.parameters():
            parameter.zero_().requires_grad_(False)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(CERTAIN)
    return model


class Sam2Learner(Learner):
    """A small SAM 2 with the same helper head and questions."""

    first_mask = 2

    def __init__(self) -> None:
        super().__init__(build_small_sam2())

    def ready(self, device: torch.device) -> Learner:
        """See `Learner.ready`; nothing is shared here."""
        return self.to(device)

    def encode(self, images: Tensor) -> Features:
        """See `Learner.encode`; an image is a frame without memory."""
        encoder = self.sam.vision_encoder
        stages = encoder.backbone(self.pixels(images)).intermediate_hidden_states
        coarse, half, fine = encoder.neck(stages)[0][-3:]
        decoder = self.sam.mask_decoder
        coarse = coarse + self.sam.no_memory_embedding.reshape(1, -1, 1, 1)
        return Features(coarse, (decoder.conv_s0(fine), decoder.conv_s1(half)))

    def no_tokens(self, batch_size: int) -> Tensor:
        """One padding point, after which the prompt encoder puts its own; ``(B, 1, 2, D)``."""
        return self.sam.prompt_encoder.not_a_point_embed.weight.expand(batch_size, 1, 2, -1)

    def question_tokens(self, batch_size: int) -> Tensor:
        """See `Learner.question_tokens`: they follow the tokens of no prompt."""
        asked = super().question_tokens(batch_size)
        return torch.cat([self.no_tokens(batch_size).expand(-1, asked.shape[1], -1, -1), asked], dim=2)

    def output_tokens(self) -> Tensor:
        """See `Learner.output_tokens`; first whether there is an object."""
        decoder = self.sam.mask_decoder
        return torch.cat([decoder.obj_score_token.weight, super().output_tokens()])

    def enlarged(self, image: Tensor, finer: tuple[Tensor, ...]) -> Tensor:
        """See `Learner.enlarged`, with the finer levels."""
        decoder = self.sam.mask_decoder
        fine, half = finer
        image = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image) + half))
        return decoder.activation(decoder.upscale_conv2(image) + fine)
