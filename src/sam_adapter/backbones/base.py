"""The contract of a segmentation model that adapters are made for: encode an image, answer queries about it.

A family is one file with a subclass of `Backbone` and a `sam_adapter.backbones.family.Family`, and a line in
`sam_adapter.backbones.families.FAMILIES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import torch
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..batch import EncodedImage, Output, Prompt
from ..config.registry import Part
from ..errors import ConfigError
from ..preprocessing import Preprocessing
from ..system.machine import FUSED, Machine

T = TypeVar("T")
RunBlock = Callable[[nn.Module, Tensor], Tensor]
QUERIES_AT_ONCE = 64
"""Queries that go through the mask decoder together; each takes a copy of its image's embedding there."""


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model it is.

    Attributes:
        name: What the user called it.
        sha256: Digest of all its tensors before anything was added, resized or trained.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class BlockShape:
    """What a block of the image encoder takes.

    Attributes:
        width: Channels of its input.
        stage: Blocks of one stage have inputs of one resolution, counted from 0.
    """

    width: int
    stage: int = 0


class BlockPrompts(Protocol):
    """What a method adds to the hidden states of an image encoder, called in the order of its blocks.

    All hidden states are ``(B, H, W, C)``.
    """

    def start(self, patch_embedding: Tensor, positioned: Tensor) -> None:
        """Take the patch embedding as it is, and with the position embedding added."""
        ...

    def before_block(self, block: int, hidden_states: Tensor) -> Tensor:
        """The input of a block, with what is added to it."""
        ...

    def before_neck(self, hidden_states: Tensor) -> Tensor:
        """The input of the neck, with what is added to it."""
        ...


class Backbone(nn.Module, ABC):
    """A base model. Subclasses say what it is made of, and how it encodes and decodes.

    Attributes:
        identity: Which base it is.
        image_size: Side S of the encoder's square input in pixels.
        patch_size: Side of a patch in pixels; of patches that overlap, their stride.
        preprocessing: The family's own way from a picture to the encoder's input and back.
        mask_input_size: Side of the mask logits that a prompt may bring.
        prompt_width: Channels D of a prompt's token.
        blocks: Of the image encoder, in order.
        encoded_shapes: Shape of each tensor that `encode` gives for one image.
        prepared_shapes: Of each tensor that `prepare` gives, where that is another.
        attention: Form of the encoder's attention, or ``auto``.
        compiled: Whether the encoder's blocks go through torch.compile.
        gradient_checkpointing: Whether the encoder's blocks are computed again in the backward pass.
        falls_back: Whether a single mask that is not stable gives way to the best of three, in families whose authors'
            predictor does so. Off in training, where the loss is of one mask.
    """

    family: ClassVar[str]
    untrained: ClassVar[tuple[str, ...]] = ()
    """How the names of parameters begin that no loss reaches; they stay as the base has them."""
    quality: ClassVar[tuple[str, ...]] = ()
    """How the names of parameters begin, among those, that predict the quality of answers; some tasks train them."""
    several_masks: ClassVar[tuple[str, ...]] = ()
    """How the names of parameters begin, among those, that only the three masks of multimask output have."""
    constants: ClassVar[tuple[str, ...]] = ()
    """How the names of parameters begin that stay as the base has them although a loss reaches them: fixed tables, such
    as random Fourier features, that the model's code holds as parameters."""
    chooses_attention: ClassVar[bool] = True
    """Whether `attention` decides how the encoder's attention is computed."""
    multimask_outputs: ClassVar[int] = 3
    """Masks in each answer with multimask; a family may choose the best one itself."""
    preparing: ClassVar[tuple[str, ...]] = ()
    """How the names of parameters begin that `prepare` uses."""

    identity: BaseIdentity
    image_size: int
    patch_size: int
    preprocessing: Preprocessing
    mask_input_size: int
    prompt_width: int
    blocks: tuple[BlockShape, ...]
    encoded_shapes: Mapping[str, tuple[int, ...]]
    prepared_shapes: Mapping[str, tuple[int, ...]]

    def __init__(self, identity: BaseIdentity) -> None:
        super().__init__()
        self.identity = identity
        self.attention = "auto"
        self.compiled = False
        self.gradient_checkpointing = False
        self.falls_back = True

    def suit(self, machine: Machine) -> None:
        """Attend and compile as a machine is to.

        Raises:
            ConfigError: If a form of attention was named, and the family has one of its own.
        """
        if machine.attention_asked and not self.chooses_attention:
            raise ConfigError(
                f"attention: the encoder of family {self.family} has no position biases and attends {FUSED}; "
                f"leave '--attention {machine.attention}' out."
            )
        self.attention, self.compiled = machine.attention, machine.compiled

    def on(self, machine: Machine) -> str:
        """A machine in words, with how the encoder attends there."""
        return str(machine if self.chooses_attention else replace(machine, attention=FUSED))

    @abstractmethod
    def part(self, name: Part) -> nn.Module:
        """One of the parts that methods may train."""

    @abstractmethod
    def encode(self, pixel_values: Tensor, block_prompts: BlockPrompts | None = None) -> EncodedImage:
        """Run the image encoder.

        Args:
            pixel_values: ``(B, 3, S, S)``.
            block_prompts: What is added to its hidden states, or None for the base as it is. Where the neck takes
                several levels, `BlockPrompts.before_neck` sees the last stage's.
        """

    def save(self, folder: Path) -> None:
        """Write the model, as its weights are now, as a folder that `transformers` and ``--model`` load."""
        transformers.utils.logging.disable_progress_bar()
        model = next(one for one in self.children() if isinstance(one, transformers.PreTrainedModel))
        model.save_pretrained(folder)

    def run_block(self, run: RunBlock, block: nn.Module, hidden_states: Tensor) -> Tensor:
        """A block's output ``(B, H, W, C)``; with gradient checkpointing it is computed again in the backward pass.

        Args:
            run: What computes it.
            block: Of the image encoder.
            hidden_states: Its input, ``(B, H, W, C)``.
        """
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return run(block, hidden_states)
        output = checkpoint(run, block, hidden_states, use_reentrant=False)
        assert isinstance(output, Tensor)
        return output

    def prepare(self, encoded: EncodedImage) -> EncodedImage:
        """What `encode` gave to what `decode` takes: the work done once an image, whatever is asked about it.

        What is prepared already comes back as it is.
        """
        return encoded

    @abstractmethod
    def decode_together(
        self, prepared: EncodedImage, prompts: Sequence[Prompt], sparse_tokens: Tensor | None, *, multimask: bool
    ) -> Output:
        """Answer queries whose prompts have one structure.

        Args:
            prepared: From `prepare`, a row for each query.
            prompts: In pixels of the encoder's input.
            sparse_tokens: ``(Q, n, D)`` tokens that follow those of the prompts, or None.
            multimask: Three masks for each query instead of one.
        """

    def decode(
        self,
        prepared: EncodedImage,
        prompts: Sequence[Prompt],
        image_index: Sequence[int],
        *,
        sparse_tokens: Sequence[Tensor | None] | Tensor | None = None,
        multimask: bool = False,
    ) -> Output:
        """Answer queries; those whose prompts have one structure go together, some at a time.

        Args:
            prepared: From `prepare`.
            prompts: One for each query, in pixels of the encoder's input.
            image_index: For each query the position of its image.
            sparse_tokens: For each query ``(n, D)`` tokens that follow those of its prompt, or None.
            multimask: Three masks for each query instead of one.

        Returns:
            The answers in the order of the prompts; at least one is needed.
        """
        device = next(iter(prepared.tensors.values())).device
        on_cpu = device.type == "cpu"
        if on_cpu:
            prepared = prepared.with_each(Tensor.float)
        own = [None] * len(prompts) if sparse_tokens is None else list(sparse_tokens)

        def together(members: list[int]) -> list[Output]:
            answers: list[Output] = []
            for start in range(0, len(members), QUERIES_AT_ONCE):
                some = members[start : start + QUERIES_AT_ONCE]
                rows = prepared.select([image_index[at] for at in some])
                given = [one for at in some if (one := own[at]) is not None]
                tokens = torch.stack(given) if given else None
                asked = [prompts[at].to(device) for at in some]
                answer = self.decode_together(rows, asked, tokens, multimask=multimask)
                answers += _one_by_one(answer)
            return answers

        # The decoder's products are too small for a CPU to gain anything from half precision.
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            lengths = [None if one is None else len(one) for one in own]
            structures = [prompt.structure for prompt in prompts]
            answers = by_group(zip(structures, lengths, strict=True), together)
        logits, scores, objects = zip(*answers, strict=True)
        return Output(torch.cat(logits), torch.cat(scores), None if objects[0] is None else torch.cat(objects))


def by_group(keys: Iterable[Hashable], compute: Callable[[list[int]], Iterable[T]]) -> list[T]:
    """Compute what has equal keys side by side.

    Args:
        keys: One for each thing.
        compute: Gets the positions of things with one key, and gives a result for each.

    Returns:
        The results in the order of the keys.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    results = {at: value for group in groups.values() for at, value in zip(group, compute(group), strict=True)}
    return [results[at] for at in range(len(results))]


def stacked_prompts(prompts: Sequence[Prompt]) -> tuple[Tensor | None, ...]:
    """Box, points, labels and mask input of prompts of one structure, each ``(Q, ...)`` or None if they have none."""
    fields = ([one for one in field if one is not None] for field in zip(*(p.tensors for p in prompts), strict=True))
    return tuple(torch.stack(given) if given else None for given in fields)


def _one_by_one(output: Output) -> list[Output]:
    """An answer for each query, with its first dimension kept."""
    parts = [[None] * len(output.mask_logits) if one is None else one.split(1) for one in output]
    return [Output(*one) for one in zip(*parts, strict=True)]
