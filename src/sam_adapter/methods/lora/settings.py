"""What defines a LoRA apart from the base that it belongs to."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ...config.lora_options import LoraTargets


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Everything that defines a `LoraAdapter` apart from the encoder it belongs to; stored with its weights.

    Attributes:
        rank: Width r between the two matrices of a layer.
        alpha: Their product is multiplied by this over the rank, or over its root.
        dropout: Share of a layer's input that is dropped before them in training.
        targets: Which layers of the encoder's blocks; see `sam_adapter.methods.lora.targets`.
        dora: Whether the length of each row is trained too (Liu et al., 2024).
        rslora: Whether alpha is divided by the root of the rank (Kalajdzievski, 2023).
    """

    rank: Annotated[int, Field(ge=1, le=4096)]
    alpha: Annotated[float, Field(gt=0, le=1e6)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: LoraTargets
    dora: bool
    rslora: bool
