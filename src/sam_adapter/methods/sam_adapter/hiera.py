r"""SAM-Adapter on an encoder of several stages, such as Hiera: one level of features for each stage.

After Chen et al., *SAM2-Adapter* (2024).

    |high-pass| --> patches --> level 0 --> patches --> level 1 --> ...       high_frequency_tune, each with LayerNorm
                                  |                       |
    input of stage s --> embedding_tune_s --> + --> down_i, activation --> shared_up_s --> + input of block i
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.base import BlockShape
from ...errors import CheckpointError
from ..base import Added
from .high_frequency import high_frequency
from .module import ACTIVATIONS, AdapterSettings


class PatchLevel(nn.Module):
    """Overlapping patches to tokens, normalised.

    Args:
        channels: Of the input.
        width: Of the tokens.
        stride: Pixels, or tokens of the level before, from one patch to the next; a patch is nearly twice as wide.
    """

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 2 * stride - 1, stride=stride, padding=stride - 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, H, W, channels)`` to ``(B, H/stride, W/stride, width)``."""
        return self.norm(self.project(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class HieraAdapter(Added):
    """The side path of an encoder whose blocks have several widths.

    Args:
        settings: Widths T and R of each stage, inputs and sharing.
        blocks: Of the encoder; a block belongs to the stage that its input has the width of.
        patch_size: From one patch of the encoder to the next, in pixels.

    Raises:
        CheckpointError: If the settings are of an encoder with other stages.
    """

    def __init__(self, settings: AdapterSettings, *, blocks: tuple[BlockShape, ...], patch_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.stages = [shape.stage for shape in blocks]
        widths = stage_widths(blocks)
        tunes, hiddens = settings.tune_dim, settings.hidden_dim
        if isinstance(tunes, int) or isinstance(hiddens, int) or not len(tunes) == len(hiddens) == len(widths):
            raise CheckpointError(
                f"method.adapter: expected tune_dim and hidden_dim for each of the {len(widths)} stages of this base, "
                f"got {tunes} and {hiddens}."
            )
        if settings.neck_prompt or settings.misread_embedding or settings.embedding_read != "once":
            raise CheckpointError(
                "method.adapter: neck_prompt, misread_embedding and embedding_read 'every_block' belong to an encoder "
                "with blocks of one width; expected false, false and 'once' for this base."
            )
        if settings.use_high_frequency:
            first = PatchLevel(3, tunes[0], stride=patch_size)
            later = [PatchLevel(before, after, stride=2) for before, after in pairwise(tunes)]
            self.high_frequency_tune = nn.ModuleList([first, *later])
        if settings.use_embedding:
            self.embedding_tune = nn.ModuleList(map(nn.Linear, widths, tunes))
        self.down = nn.ModuleList(nn.Linear(tunes[stage], hiddens[stage]) for stage in self.stages)
        self.activation = ACTIVATIONS[settings.activation]()
        if settings.share_up:
            self.shared_up = nn.ModuleList(map(nn.Linear, hiddens, widths))
        else:
            self.up = nn.ModuleList(nn.Linear(hiddens[stage], widths[stage]) for stage in self.stages)
        self._initialise()

    def block_prompts(self, pixel_values: Tensor) -> "HieraPrompts":
        """See `Added.block_prompts`."""
        return HieraPrompts(self, pixel_values)

    def level(self, stage: int, before: Tensor) -> Tensor:
        """The high-frequency features of a stage.

        Args:
            stage: Counted from 0.
            before: Normalised pixels ``(B, 3, S, S)`` for stage 0, else the level before, ``(B, 2H, 2W, T)``.

        Returns:
            ``(B, H, W, T)`` of the stage.
        """
        if stage == 0:
            before = high_frequency(before, self.settings.high_frequency_rate).permute(0, 2, 3, 1)
        return self.high_frequency_tune[stage](before)

    def narrow(self, stage: int, embedding: Tensor, level: Tensor | None) -> list[Tensor]:
        """What the prompts of a stage are made from, as one product for all its blocks.

        Args:
            stage: Counted from 0.
            embedding: Input of the stage, ``(B, H, W, C)``.
            level: From `level`, or None without high frequencies.

        Returns:
            For each block of the stage ``(B, H, W, R)``.
        """
        features = self.embedding_tune[stage](embedding) if self.settings.use_embedding else None
        if level is not None:
            features = level if features is None else features + level
        assert features is not None
        layers = [layer for layer, own in zip(self.down, self.stages, strict=True) if own == stage]
        weight = torch.cat([layer.weight for layer in layers if isinstance(layer, nn.Linear)])  # (blocks*R, T)
        bias = torch.cat([layer.bias for layer in layers if isinstance(layer, nn.Linear)])
        return list(self.activation(functional.linear(features, weight, bias)).chunk(len(layers), -1))

    def prompt(self, narrow: Tensor, block: int) -> Tensor:
        """The adapter prompt that enters a block, ``(B, H, W, R)`` to ``(B, H, W, C)``."""
        up = self.shared_up[self.stages[block]] if self.settings.share_up else self.up[block]
        return up(narrow)

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.settings.adapter_init == "paper":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.Conv2d):
                    fan_out = module.weight[0, 0].numel() * module.out_channels
                    nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
                    assert module.bias is not None
                    nn.init.zeros_(module.bias)
        elif self.settings.adapter_init == "zero":
            for up in self.shared_up if self.settings.share_up else self.up:
                assert isinstance(up, nn.Linear)
                nn.init.zeros_(up.weight)
                nn.init.zeros_(up.bias)


class HieraPrompts:
    """The adapter prompts of some images; those of a stage are made when its first block is reached.

    Args:
        adapter: The side path.
        pixel_values: Normalised input ``(B, 3, S, S)``.
    """

    def __init__(self, adapter: HieraAdapter, pixel_values: Tensor) -> None:
        self.adapter = adapter
        self.level = pixel_values
        self.first_embedding: Tensor | None = None
        self.stage = -1
        self.narrow: list[Tensor] = []

    def start(self, patch_embedding: Tensor, positioned: Tensor) -> None:
        """See `BlockPrompts.start`."""
        before = self.adapter.settings.embedding_from == "before_position"
        self.first_embedding = patch_embedding if before else positioned

    def before_block(self, block: int, hidden_states: Tensor) -> Tensor:
        """See `BlockPrompts.before_block`."""
        adapter, stage = self.adapter, self.adapter.stages[block]
        if stage != self.stage:
            self.stage = stage
            embedding = hidden_states if self.first_embedding is None else self.first_embedding
            self.first_embedding = None
            if adapter.settings.use_high_frequency:
                self.level = adapter.level(stage, self.level)
            self.narrow = adapter.narrow(stage, embedding, self.level if adapter.settings.use_high_frequency else None)
        return hidden_states + adapter.prompt(self.narrow.pop(0), block)

    def before_neck(self, hidden_states: Tensor) -> Tensor:
        """Nothing is added: the neck takes the levels of all stages, and the adapter ends with the last block."""
        return hidden_states


def stage_widths(blocks: tuple[BlockShape, ...]) -> list[int]:
    """Channels of the inputs of each stage's blocks."""
    by_stage = {shape.stage: shape.width for shape in blocks}
    return [by_stage[stage] for stage in sorted(by_stage)]
