"""LoRA as a method: from the options of a run to the settings of what is added to the encoder's linear layers."""

from dataclasses import asdict
from typing import Any

from ...backbones import Backbone
from ...config.lora_options import LoraOptions
from ..base import Method
from .module import LoraAdapter
from .settings import LoraSettings


class LoraMethod(Method):
    """LoRA, and the mask decoder."""

    settings_type = LoraSettings

    def settings(self, options: LoraOptions, backbone: Backbone) -> LoraSettings:
        """The options; without ``lora_alpha`` the product of the matrices is taken as it is."""
        rank = options.lora_rank
        alpha = float(rank**0.5 if options.rslora else rank) if options.lora_alpha is None else options.lora_alpha
        return LoraSettings(
            rank=rank,
            alpha=alpha,
            dropout=options.lora_dropout,
            targets=options.lora_targets,
            dora=options.dora,
            rslora=options.rslora,
        )

    def compared(self, settings: LoraSettings) -> dict[str, Any]:
        """All but the dropout, which is of training alone."""
        return {name: value for name, value in asdict(settings).items() if name != "dropout"}

    def added(self, settings: LoraSettings, backbone: Backbone) -> LoraAdapter:
        """LoRA in the layers of a base's image encoder."""
        return LoraAdapter(settings, backbone)
