"""SAM-Adapter as a method: from the options of a run to the settings of the side path."""

from dataclasses import asdict
from typing import Any

from ...backbones import Backbone
from ...config.options import AdapterOptions
from ..base import Method
from .module import AdapterSettings, SamAdapter


class SamAdapterMethod(Method):
    """The side path, and the mask decoder."""

    settings_type = AdapterSettings

    def settings(self, options: AdapterOptions, backbone: Backbone) -> AdapterSettings:
        """The preset's settings with the user's changes; the paper's widths depend on the encoder's."""
        paper, width = options.preset == "paper", backbone.blocks[0].width
        return AdapterSettings(
            tune_dim=options.tune_dim or (max(width // 32, 1) if paper else 192),
            hidden_dim=options.hidden_dim or (max(width // 32, 1) if paper else 32),
            high_frequency_rate=options.high_frequency_rate,
            embedding_from=options.embedding_from or ("before_position" if paper else "after_position"),
            embedding_read=options.embedding_read,
            neck_prompt=not paper if options.neck_prompt is None else options.neck_prompt,
            activation=options.activation,
            use_high_frequency=options.use_high_frequency,
            use_embedding=options.use_embedding,
            share_up=options.share_up,
            adapter_init=options.adapter_init or ("paper" if paper else "default"),
        )

    def compared(self, settings: AdapterSettings) -> dict[str, Any]:
        """All but how weights begin, and what an import brought along."""
        return {k: v for k, v in asdict(settings).items() if k not in ("adapter_init", "misread_embedding")}

    def added(self, settings: AdapterSettings, backbone: Backbone) -> SamAdapter:
        """The side path of an encoder whose blocks all have one width."""
        return SamAdapter(
            settings,
            hidden_size=backbone.blocks[0].width,
            depth=len(backbone.blocks),
            patch_size=backbone.patch_size,
        )
