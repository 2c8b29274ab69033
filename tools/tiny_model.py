"""The architecture of the bundled tiny SAM, and how its weights are stored."""

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamModel

from tiny_losses import GroupingHead

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


def without_copies(model: SamModel) -> None:
    """Keep the places that the encoder's position tables are read at on the device; the numbers stay the same.

    As it is, every block copies them from the host, which makes a GPU wait.
    """
    for layer in model.vision_encoder.layers:
        attention: Any = layer.attn
        side = (len(attention.rel_pos_h) + 1) // 2
        steps = torch.arange(side, device=attention.rel_pos_h.device)
        places = steps[:, None] - steps[None, :] + side - 1
        attention.get_rel_pos = partial(_read_places, places)


def _read_places(places: Tensor, _query: int, _key: int, table: Tensor) -> Tensor:
    return table.index_select(0, places.flatten()).view(*places.shape, -1)


def _repeated(maps: Tensor, times: int) -> Tensor:
    return maps[:, None].expand(-1, times, -1, -1, -1).flatten(0, 1)


@dataclass(frozen=True)
class Features:
    """What an encoder makes of some images."""

    coarse: Tensor
    """Image embeddings, ``(B, C, h, w)``."""
    finer: tuple[Tensor, ...] = ()
    """What else the decoder reads, the finest first."""


class Learner(nn.Module):
    """Everything that learns: the SAM, the helper head and the tokens of questions about the whole picture."""

    first_mask = 1
    """Place of the first mask token among the decoder's own; the token of the quality stands before it."""

    def __init__(self, sam: Any = None, *, questions: int = 3, tokens: int = 4) -> None:
        super().__init__()
        self.sam: Any = build_tiny() if sam is None else sam
        self.helper = GroupingHead(CHANNELS)
        self.questions = nn.Parameter(torch.randn(questions, tokens, CHANNELS))
        self.levels = nn.Buffer(torch.tensor([PIXEL_MEAN, PIXEL_STD]), persistent=False)

    def ready(self, device: torch.device) -> "Learner":
        """On the device, without copies from the host."""
        self.to(device)
        tie_position_encoding(self.sam)
        without_copies(self.sam)
        return self

    def encode(self, images: Tensor) -> Features:
        """``(B, H, W, 3)`` uint8 to features."""
        return Features(self.sam.vision_encoder(self.pixels(images)).last_hidden_state)

    def pixels(self, images: Tensor) -> Tensor:
        """``(B, H, W, 3)`` uint8 to normalised ``(B, 3, H, W)``."""
        return ((images.float() - self.levels[0]) / self.levels[1]).permute(0, 3, 1, 2).contiguous()

    def box_tokens(self, boxes: Tensor) -> Tensor:
        """``(B, N, 4)`` to ``(B, N, n, D)``."""
        with torch.autocast(boxes.device.type, enabled=False):  # half a pixel matters
            return self.sam.prompt_encoder._embed_boxes(boxes)

    def point_tokens(self, places: Tensor, signs: Tensor, *, alone: bool = True) -> Tensor:
        """``(B, N, P, 2)`` and ``(B, N, P)`` to ``(B, N, P + 1, D)``, or ``P`` tokens if a box follows."""
        with torch.autocast(places.device.type, enabled=False):
            return self.sam.prompt_encoder._embed_points(places, signs, pad=alone)

    def no_tokens(self, _batch_size: int) -> Tensor | None:
        """What stands for no prompt: None, or ``(B, 1, n, D)``."""
        return None

    def question_tokens(self, batch_size: int) -> Tensor:
        """``(B, K, n, D)``."""
        return self.questions.expand(batch_size, *self.questions.shape)

    def decode(self, features: Features, tokens: Tensor | None, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All four masks of the decoder for each prompt, as the library's mask decoder finds them.

        Args:
            features: Of B images.
            tokens: Of N prompts, ``(B, N, n, D)``; one without any where there are none.
            masks: Earlier answers, ``(B, 1, 4h, 4w)``.

        Returns:
            Logits ``(B, N, 4, 4h, 4w)`` and predicted quality ``(B, N, 4)``.
        """
        decoder, embeddings = self.sam.mask_decoder, features.coarse
        size, (height, width) = len(embeddings), embeddings.shape[-2:]
        encoder = self.sam.prompt_encoder
        dense = encoder.no_mask_embed.weight[:, :, None, None] if masks is None else encoder.mask_embed(masks)
        prompts = 1 if tokens is None else tokens.shape[1]
        output = self.output_tokens()
        output = output.expand(size, prompts, *output.shape)
        with torch.autocast(embeddings.device.type, enabled=False):
            position = self.sam.get_image_wide_positional_embeddings().expand(size, -1, -1, -1)
        given, image = decoder.transformer(
            point_embeddings=output if tokens is None else torch.cat([output, tokens], dim=2),
            image_embeddings=_repeated(embeddings + dense, prompts),
            image_positional_embeddings=_repeated(position, prompts),
            attention_similarity=None,
        )
        image = image.transpose(2, 3).reshape(size * prompts, -1, height, width)
        image = self.enlarged(image, tuple(_repeated(level, prompts) for level in features.finer))
        mlps = enumerate(decoder.output_hypernetworks_mlps, start=self.first_mask)
        mixed = torch.stack([mlp(given[:, :, place]) for place, mlp in mlps], dim=2)
        mixed = mixed @ image.view(size, prompts, image.shape[1], -1)
        quality = decoder.iou_prediction_head(given[:, :, self.first_mask - 1])
        return mixed.unflatten(-1, image.shape[-2:]), quality

    def output_tokens(self) -> Tensor:
        """The decoder's own tokens, ``(n, D)``."""
        decoder = self.sam.mask_decoder
        return torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])

    def enlarged(self, image: Tensor, _finer: tuple[Tensor, ...]) -> Tensor:
        """``(R, C, h, w)`` to ``(R, C/8, 4h, 4w)``."""
        decoder = self.sam.mask_decoder
        image = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(image)))
        return decoder.activation(decoder.upscale_conv2(image))


def export(model: Any, fresh: Any, folder: Path) -> None:
    """Write `config.json` and a half-precision `model.safetensors`; each file is replaced at once.

    Args:
        model: With the weights.
        fresh: A second one of the same architecture, which is changed.
        folder: Where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh.load_state_dict(model.state_dict())
    fresh.half()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fresh.save_pretrained(scratch)
        for name in ("model.safetensors", "config.json"):
            (Path(scratch) / name).chmod(0o644)
            os.replace(Path(scratch) / name, folder / name)
    type(fresh).from_pretrained(folder, dtype=torch.float32)
