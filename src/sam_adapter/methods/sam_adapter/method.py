"""SAM-Adapter as a method: from the options of a run to the settings of the side path."""

from dataclasses import asdict
from typing import Any

from ...backbones import Backbone
from ...config.options import AdapterOptions
from ...errors import CheckpointError, ConfigError
from ..base import Added, Method
from .hiera import HieraAdapter, stage_widths
from .module import AdapterSettings, SamAdapter, Widths

WIDE_TUNE, WIDE_HIDDEN, WIDE_SHARE = 192, 32, 4
"""Widths T and R of the preset 'wide'. In several stages T is a share of each one's width, as 192 is of ViT-B's 768."""
PAPER_SHARE = 32
SMALLEST_NORMED = 3
"""Least T where features are normalised: of fewer channels nothing is left. The narrowest Hiera has 3."""


class SamAdapterMethod(Method):
    """The side path, and the mask decoder.

    An encoder whose blocks have several widths gets a side path with a level for each stage.
    """

    settings_type = AdapterSettings

    def settings(self, options: AdapterOptions, backbone: Backbone) -> AdapterSettings:
        """The preset's settings with the user's changes; the paper's widths depend on the encoder's.

        Raises:
            ConfigError: If an option is of encoders with blocks of one width, and the encoder is none.
        """
        paper, widths = options.preset == "paper", stage_widths(backbone.blocks)
        one = len(widths) == 1
        if options.neck_prompt and not one:
            raise ConfigError(
                f"neck_prompt: the neck of family {backbone.family} takes the levels of {len(widths)} stages, and no "
                "single prompt fits them; leave the option out."
            )
        if options.embedding_read == "every_block" and not one:
            raise ConfigError(
                f"embedding_read: on the {len(widths)} stages of family {backbone.family} the embedding is read once a "
                "stage, as their blocks have other widths; leave the option out."
            )
        once = paper or not one or options.embedding_from is not None or not options.use_embedding
        least = 1 if one else SMALLEST_NORMED
        shares = tuple(max(width // PAPER_SHARE, least) for width in widths)
        wide = (WIDE_TUNE,) if one else tuple(max(width // WIDE_SHARE, least) for width in widths)
        hidden = shares if paper else (WIDE_HIDDEN,) * len(widths)
        return AdapterSettings(
            tune_dim=_chosen(options.tune_dim, shares if paper else wide),
            hidden_dim=_chosen(options.hidden_dim, hidden),
            high_frequency_rate=options.high_frequency_rate,
            embedding_from=options.embedding_from or ("before_position" if paper else "after_position"),
            embedding_read=options.embedding_read or ("once" if once else "every_block"),
            neck_prompt=(one and not paper) if options.neck_prompt is None else options.neck_prompt,
            activation=options.activation,
            use_high_frequency=options.use_high_frequency,
            use_embedding=options.use_embedding,
            share_up=options.share_up,
            adapter_init=options.adapter_init or ("paper" if paper else "default"),
        )

    def compared(self, settings: AdapterSettings) -> dict[str, Any]:
        """All but how weights begin, and what an import brought along."""
        return {k: v for k, v in asdict(settings).items() if k not in ("adapter_init", "misread_embedding")}

    def added(self, settings: AdapterSettings, backbone: Backbone) -> Added:
        """The side path that the encoder's blocks ask for: of one width, or of several stages.

        Raises:
            CheckpointError: If the settings are of an encoder with other stages.
        """
        if len(stage_widths(backbone.blocks)) > 1:
            return HieraAdapter(settings, blocks=backbone.blocks, patch_size=backbone.patch_size)
        tune, hidden = settings.tune_dim, settings.hidden_dim
        if not (isinstance(tune, int) and isinstance(hidden, int)):
            raise CheckpointError(
                f"method.adapter: expected one tune_dim and one hidden_dim, as the blocks of this base have one width, "
                f"got {tune} and {hidden}."
            )
        return SamAdapter(
            settings,
            hidden_size=backbone.blocks[0].width,
            depth=len(backbone.blocks),
            patch_size=backbone.patch_size,
        )


def _chosen(given: int | None, own: tuple[int, ...]) -> Widths:
    """A number for an encoder of one stage, else one for each stage."""
    widths = own if given is None else (given,) * len(own)
    return widths[0] if len(widths) == 1 else widths
