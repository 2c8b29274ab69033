"""SAM-Adapter as a method: its options, and what it adds to the blocks of an encoder."""

from collections.abc import Sequence

from torch import Tensor

from ...backbones import Backbone
from ...config.options import AdapterOptions
from ..base import Added, Method
from .module import AdapterSettings, SamAdapter


class SamAdapterMethod(Method):
    """The side path, and the mask decoder."""

    name = "sam_adapter"
    settings_type = AdapterSettings

    def settings(self, options: AdapterOptions, backbone: Backbone) -> AdapterSettings:
        """The preset's settings with the user's changes; the paper's widths depend on the encoder's."""
        paper, width = options.preset == "paper", backbone.blocks[0].width
        return AdapterSettings(
            tune_dim=options.tune_dim or (max(width // 32, 1) if paper else 192),
            hidden_dim=options.hidden_dim or (max(width // 32, 1) if paper else 32),
            high_frequency_rate=options.high_frequency_rate,
            embedding_from=options.embedding_from or ("before_position" if paper else "after_position"),
            neck_prompt=not paper if options.neck_prompt is None else options.neck_prompt,
            activation=options.activation,
            use_high_frequency=options.use_high_frequency,
            use_embedding=options.use_embedding,
            share_up=options.share_up,
            adapter_init=options.adapter_init or ("paper" if paper else "default"),
        )

    def added(self, settings: AdapterSettings, backbone: Backbone) -> "AddedSamAdapter":
        """The side path of an encoder whose blocks all have one width."""
        return AddedSamAdapter(
            settings,
            hidden_size=backbone.blocks[0].width,
            depth=len(backbone.blocks),
            patch_size=backbone.patch_size,
        )


class AddedSamAdapter(SamAdapter, Added):
    """The side path with its place in the encoder."""

    def block_prompts(self, pixel_values: Tensor) -> "AdapterPrompts":
        """See `Added.block_prompts`."""
        return AdapterPrompts(self, pixel_values)


class AdapterPrompts:
    """The adapter prompts of some images, made from the images and their patch embedding before the first block.

    Args:
        adapter: The side path.
        pixel_values: Normalised input ``(B, 3, S, S)``.
    """

    def __init__(self, adapter: SamAdapter, pixel_values: Tensor) -> None:
        self.adapter = adapter
        self.pixel_values = pixel_values
        self.narrow: Sequence[Tensor] = ()

    def start(self, patch_embedding: Tensor, positioned: Tensor) -> None:
        """See `BlockPrompts.start`."""
        features = self.adapter.features(self.pixel_values, patch_embedding, positioned)
        self.narrow = self.adapter.narrow(features)

    def before_block(self, block: int, hidden_states: Tensor) -> Tensor:
        """See `BlockPrompts.before_block`."""
        return hidden_states + self.adapter.prompt(self.narrow[block], block)

    def before_neck(self, hidden_states: Tensor) -> Tensor:
        """See `BlockPrompts.before_neck`."""
        last = len(self.narrow) - 1
        return self.before_block(last, hidden_states) if self.adapter.settings.neck_prompt else hidden_states
