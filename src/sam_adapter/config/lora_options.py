"""Options of low-rank adaptation."""

from dataclasses import dataclass
from typing import Literal

from .base import Config

LoraTargets = Literal["attention", "all_linear"]


@dataclass(frozen=True, kw_only=True)
class LoraOptions(Config):
    """LoRA in the image encoder; of method lora alone."""

    lora_rank: int = 4
    """Rank r of method lora: the width between its two matrices."""
    lora_alpha: float | None = None
    """What method lora adds is multiplied by this over the rank, with rslora over the root of the rank; without it by
    1."""
    lora_dropout: float = 0.0
    """Share of a layer's input that method lora does not see in a training step."""
    lora_targets: LoraTargets = "attention"
    """Layers of the image encoder's blocks that method lora adapts: 'attention': queries and values; 'all_linear': all
    linear layers."""
    dora: bool = False
    """Method lora also trains the length of each row of the layers that it adapts (DoRA)."""
    rslora: bool = False
    """Method lora divides by the root of the rank instead of the rank (rsLoRA), for high ranks."""
