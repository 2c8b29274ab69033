"""SAM-Adapter: a tensor for every encoder block, made from hidden states and the image's high frequencies.

The hidden states are those that come to the block, or for all blocks the patch embedding.

After Chen et al., *SAM-Adapter: Adapting Segment Anything in Underperformed Scenes* (ICCV-W 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..base import Added
from .high_frequency import high_frequency

Width = Annotated[int, Field(ge=1, le=65536)]
Widths = Width | Annotated[tuple[Width, ...], Field(min_length=2, max_length=16)]
"""One number, or one for each stage of an encoder with several."""
ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """Everything that defines a side path apart from the encoder it belongs to; stored with its weights.

    ``misread_embedding`` is for checkpoints of the paper's authors alone: their code reads the channels-last patch
    embedding as if it were channels-first, so each token gets a mixture of positions and channels, and their weights
    were trained on that.

    ``tune_dim`` is T and ``hidden_dim`` R, for each stage where there are several; the encoder's own channels C are
    ``hidden_size`` below.
    """

    tune_dim: Widths
    hidden_dim: Widths
    high_frequency_rate: Annotated[float, Field(ge=0, le=1)] = 0.25
    embedding_from: Literal["before_position", "after_position"] = "after_position"
    embedding_read: Literal["once", "every_block"] = "once"
    neck_prompt: bool = True
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    use_high_frequency: bool = True
    use_embedding: bool = True
    share_up: bool = True
    adapter_init: Literal["default", "paper", "zero"] = "default"
    misread_embedding: bool = False

    def __post_init__(self) -> None:
        if not (self.use_high_frequency or self.use_embedding):
            raise ValueError("one of use_high_frequency and use_embedding must be true")
        if self.embedding_read == "every_block" and (self.misread_embedding or not self.use_embedding):
            raise ValueError("with embedding_read every_block use_embedding must be true and misread_embedding false")


class SamAdapter(Added):
    """The side path of blocks of one width: ``adapter_prompt_i = up(activation(down_i(high_frequency + embedding)))``.

    Args:
        settings: Widths, inputs and sharing.
        hidden_size: Channels C of the encoder.
        depth: Number of encoder blocks.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, settings: AdapterSettings, *, hidden_size: int, depth: int, patch_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.patch_size = patch_size
        tune, hidden = settings.tune_dim, settings.hidden_dim
        assert isinstance(tune, int)
        assert isinstance(hidden, int)
        prompts = depth + settings.neck_prompt
        if settings.use_high_frequency:
            self.high_frequency_tune = nn.Linear(3 * patch_size**2, tune)
        if settings.use_embedding:
            self.embedding_tune = nn.Linear(hidden_size, tune)
        self.down = nn.ModuleList(nn.Linear(tune, hidden) for _ in range(prompts))
        self.activation = ACTIVATIONS[settings.activation]()
        if settings.share_up:
            self.shared_up = nn.Linear(hidden, hidden_size)
        else:
            self.up = nn.ModuleList(nn.Linear(hidden, hidden_size) for _ in range(prompts))
        self._initialise()

    def block_prompts(self, pixel_values: Tensor) -> "AdapterPrompts":
        """See `Added.block_prompts`."""
        return AdapterPrompts(self, pixel_values)

    def features(self, pixel_values: Tensor, patch_embedding: Tensor, positioned: Tensor) -> Tensor:
        """What all prompts are made from where the embedding is read once.

        Args:
            pixel_values: Normalised input ``(B, 3, S, S)``.
            patch_embedding: ``(B, H, W, C)`` before the position embedding.
            positioned: ``(B, H, W, C)`` after it.

        Returns:
            ``(B, H, W, T)``.
        """
        features: Tensor | None = None
        if self.settings.use_embedding:
            before = self.settings.embedding_from == "before_position"
            embedding = patch_embedding if before else positioned
            if self.settings.misread_embedding:
                batch, height, width, channels = embedding.shape
                embedding = embedding.reshape(batch, channels, height * width).transpose(1, 2)
                embedding = embedding.reshape(batch, height, width, channels)
            features = self.embedding_tune(embedding)
        if self.settings.use_high_frequency:
            tuned = self.high_frequency_features(pixel_values)
            features = tuned if features is None else features + tuned
        assert features is not None
        return features

    def high_frequency_features(self, pixel_values: Tensor) -> Tensor:
        """What all prompts take from the pixels ``(B, 3, S, S)``: ``(B, H, W, T)``."""
        rate = self.settings.high_frequency_rate
        tokens = patches(high_frequency(pixel_values, rate), self.patch_size)  # (B, H, W, 3*P*P)
        return self.high_frequency_tune(tokens)

    def narrow(self, features: Tensor) -> tuple[Tensor, ...]:
        """The ``down`` projections of all blocks, as one product, and the activation.

        Args:
            features: ``(B, H, W, T)`` from `features`.

        Returns:
            For each prompt ``(B, H, W, R)``; the last one is for the neck, if it gets a prompt.
        """
        layers = [layer for layer in self.down if isinstance(layer, nn.Linear)]
        weight = torch.cat([layer.weight for layer in layers])  # (prompts*R, T)
        bias = torch.cat([layer.bias for layer in layers])
        return self.activation(functional.linear(features, weight, bias)).chunk(len(layers), -1)

    def prompt(self, narrow: Tensor, block: int) -> Tensor:
        """The adapter prompt that enters a block; ``block == depth`` is the one before the neck.

        Args:
            narrow: ``(B, H, W, R)``, the block's part of `narrow`.
            block: Index of the block.

        Returns:
            ``(B, H, W, C)``.
        """
        up = self.shared_up if self.settings.share_up else self.up[block]
        return up(narrow)

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.settings.adapter_init == "paper":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)
            if self.settings.use_high_frequency:
                # The paper's layer is a convolution, initialised by its fan-out.
                fan_out = self.patch_size**2 * self.high_frequency_tune.out_features
                nn.init.normal_(self.high_frequency_tune.weight, std=(2 / fan_out) ** 0.5)
        elif self.settings.adapter_init == "zero":
            for up in [self.shared_up] if self.settings.share_up else self.up:
                assert isinstance(up, nn.Linear)
                nn.init.zeros_(up.weight)
                nn.init.zeros_(up.bias)


class AdapterPrompts:
    """The adapter prompts of some images.

    With ``embedding_read`` ``once`` they are all made before the first block, from the image and its patch embedding;
    with ``every_block`` each one as its block begins, from the image and the hidden states that come to the block.

    Args:
        adapter: The side path.
        pixel_values: Normalised input ``(B, 3, S, S)``.
    """

    def __init__(self, adapter: SamAdapter, pixel_values: Tensor) -> None:
        self.adapter = adapter
        self.pixel_values = pixel_values
        self.narrow: Sequence[Tensor] = ()
        self.high: Tensor | None = None

    def start(self, patch_embedding: Tensor, positioned: Tensor) -> None:
        """See `BlockPrompts.start`."""
        if self.adapter.settings.embedding_read == "once":
            features = self.adapter.features(self.pixel_values, patch_embedding, positioned)
            self.narrow = self.adapter.narrow(features)
        elif self.adapter.settings.use_high_frequency:
            self.high = self.adapter.high_frequency_features(self.pixel_values)

    def before_block(self, block: int, hidden_states: Tensor) -> Tensor:
        """See `BlockPrompts.before_block`."""
        narrow = self.narrow[block] if self.narrow else self._read(block, hidden_states)
        return hidden_states + self.adapter.prompt(narrow, block)

    def before_neck(self, hidden_states: Tensor) -> Tensor:
        """See `BlockPrompts.before_neck`."""
        last = len(self.adapter.down) - 1
        return self.before_block(last, hidden_states) if self.adapter.settings.neck_prompt else hidden_states

    def _read(self, block: int, hidden_states: Tensor) -> Tensor:
        """A block's part of `SamAdapter.narrow`, from the hidden states that come to it."""
        features = self.adapter.embedding_tune(hidden_states)
        if self.high is not None:
            features = features + self.high
        return self.adapter.activation(self.adapter.down[block](features))


def patches(image: Tensor, size: int) -> Tensor:
    """Cut an image into flattened patches.

    Args:
        image: ``(B, C, S, S)`` with ``S`` a multiple of ``size``.
        size: Side of a patch in pixels.

    Returns:
        ``(B, S/size, S/size, C*size*size)``, each patch in the order channel, row, column.
    """
    batch, channels, height, width = image.shape
    grid = image.reshape(batch, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, H, W, C*size*size)
