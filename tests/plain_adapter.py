"""The SAM-Adapter and its place in the encoder once more, as plainly as its definition reads.

Written from the description of the method and from nothing in `sam_adapter.methods`: what both give must be the same.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from conftest import sam_of


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


ACTIVATIONS = {"gelu": gelu, "relu": lambda x: x * (x > 0), "silu": silu}


def high_pass(x: Tensor, rate: float) -> Tensor:
    """The magnitude of what two dense matrices for each axis leave of an image ``(..., H, W)``.

    An axis of length n keeps the frequencies from -l to l - 1 in its low-pass: the rectangle of the definition.
    """
    height, width = x.shape[-2:]
    half = int(math.sqrt(height * width * rate) // 2)

    def low_pass(length: int) -> np.ndarray:
        frequencies = np.arange(length) - length // 2  # as after fftshift
        kept = frequencies[(frequencies >= -half) & (frequencies < half)]
        waves = np.exp(2j * np.pi * np.outer(np.arange(length), kept) / length)  # (length, kept)
        return waves @ waves.conj().T / length

    low = low_pass(height) @ x.double().numpy() @ low_pass(width).T
    return (x.double() - torch.from_numpy(np.real(low))).abs().float()


def adapter_prompts(adapter: Any, pixels: Tensor, embedding: Tensor, positioned: Tensor) -> list[Tensor]:
    """The prompt of every block, and of the neck if it has one, each ``(B, H, W, C)``.

    Args:
        adapter: A `SamAdapter`, of which only settings, patch size and weights are read.
        pixels: ``(B, 3, S, S)``.
        embedding: ``(B, H, W, C)`` patch embedding before the position embedding.
        positioned: ``(B, H, W, C)`` after it.
    """
    source = embedding if adapter.settings.embedding_from == "before_position" else positioned
    blocks = sum(name.startswith("down.") and name.endswith(".weight") for name, _ in adapter.named_parameters())
    return [adapter_prompt(adapter, pixels, source, block) for block in range(blocks)]


def adapter_prompt(adapter: Any, pixels: Tensor, source: Tensor, block: int) -> Tensor:
    """The prompt ``(B, H, W, C)`` of one block, made from what is read ``(B, H, W, C)``, and from the picture."""
    settings, weights = adapter.settings, dict(adapter.named_parameters())

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    batch, height, width, _ = source.shape
    features: Any = 0
    if settings.use_embedding:
        features = features + linear("embedding_tune", source)
    if settings.use_high_frequency:
        side = adapter.patch_size
        columns = functional.unfold(high_pass(pixels, settings.high_frequency_rate), side, stride=side)
        features = features + linear("high_frequency_tune", columns.transpose(1, 2).reshape(batch, height, width, -1))
    narrow = ACTIVATIONS[settings.activation](linear(f"down.{block}", features))
    return linear("shared_up" if settings.share_up else f"up.{block}", narrow)


def encode(segmenter: Any, pixels: Tensor) -> Tensor:
    """Image embeddings of a segmenter with an adapter, through the library's own blocks."""
    encoder, adapter = sam_of(segmenter).vision_encoder, segmenter.adapter
    embedding = encoder.patch_embed(pixels)
    positioned = embedding + encoder.pos_embed
    once = adapter_prompts(adapter, pixels, embedding, positioned)

    def prompted(hidden_states: Tensor, block: int) -> Tensor:
        if adapter.settings.embedding_read == "once":
            return hidden_states + once[block]
        return hidden_states + adapter_prompt(adapter, pixels, hidden_states, block)

    hidden_states = positioned
    for block, layer in enumerate(encoder.layers):
        hidden_states = layer(prompted(hidden_states, block))
        if isinstance(hidden_states, tuple):
            hidden_states = hidden_states[0]
    if adapter.settings.neck_prompt:
        hidden_states = prompted(hidden_states, len(encoder.layers))
    return encoder.neck(hidden_states)
