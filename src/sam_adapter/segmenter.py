"""SamSegmenter: backbone + method + preprocessing, from a batch of pictures and queries to mask logits."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from .annotations.reading.classes import Classes
from .annotations.reading.rules import ReadingRules
from .backbones import Backbone, load_backbone
from .backbones.model_files import misfits
from .batch import Batch, EncodedImage, Output
from .config.choices import Threshold, known_thresholds
from .config.registry import DEFAULT_TASK, TASKS
from .config.training import TrainConfig
from .errors import CheckpointError, ConfigError
from .methods.base import MethodSettings, apply_method, method_named, parameter_table
from .methods.learned_prompts import LearnedPrompts
from .preprocessing import Preprocessing
from .system.machine import Machine
from .tiling.grid import Tiling


class SamSegmenter(nn.Module):
    """A SAM with a method of adaptation applied.

    Args:
        backbone: The base model; its frozen state is set by the method.
        method: What is added and trained.
        preprocessing: How pictures become the encoder's input; its size must be the backbone's.
        task: Name of what it is asked, a key of `sam_adapter.config.registry.TASKS`; the `Task` itself belongs to data
            sets and to `TrainingModule`.
        prompt: Kind of prompt it was trained with, for the user's information.
        threshold: Probability above which a pixel is foreground.
        best_thresholds: The best one on validation for each kind of prompt, where it is known.
        core_rise: See `split_objects`, of a task with objects: what was best on validation.
        reading: How files become pictures and masks; None for the program's own rules.
        class_names: Of a task with classes; a learned prompt asks for each of them, after the task's own questions.
        class_tokens: Tokens of each learned prompt; 0 has none, as a SAM as it is.
        tiling: How pictures are cut into tiles; None takes them whole.
        multimask: Whether the three masks of multimask output are trained too.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: MethodSettings,
        preprocessing: Preprocessing,
        *,
        task: str = DEFAULT_TASK,
        prompt: str = "box",
        threshold: float = 0.5,
        best_thresholds: Mapping[str, float] | None = None,
        core_rise: float | None = None,
        reading: ReadingRules | None = None,
        class_names: tuple[str, ...] = (),
        class_tokens: int = 0,
        tiling: Tiling | None = None,
        multimask: bool = False,
    ) -> None:
        super().__init__()
        assert preprocessing.image_size == backbone.image_size
        # Before the backbone, so that what is put into its layers has the names that it has in the adapter.
        self.adapter = apply_method(method, backbone, quality=TASKS[task].quality, multimask=multimask)
        self.backbone = backbone
        self.method = method
        self.preprocessing = preprocessing
        self.task = task
        self.prompt = prompt
        self.threshold = threshold
        self.best_thresholds = dict(best_thresholds or {})
        self.core_rise = core_rise
        self.reading = reading
        self.class_names = class_names
        self.tiling = tiling
        self.multimask = multimask
        self.learned_prompts: LearnedPrompts | None = None
        questions = (*TASKS[task].questions, *class_names)
        if questions and class_tokens:
            width = backbone.prompt_width
            self.learned_prompts = LearnedPrompts(len(questions), tokens=class_tokens, width=width)
        self.train(False)

    @classmethod
    def from_config(cls, config: TrainConfig, class_names: tuple[str, ...] = ()) -> Self:
        """A segmenter ready to be trained.

        Args:
            config: The run.
            class_names: Of a task with classes.

        Raises:
            CheckpointError: If the base model cannot be loaded.
            ConfigError: If the image size, or an option, does not fit it.
        """
        backbone = load_backbone(config.model, image_size=config.image_size)
        if config.multimask and backbone.multimask_outputs == 1:
            raise ConfigError(
                f"multimask: family {backbone.family} answers a point with one mask, of which no best one can be "
                "trained; leave the option out."
            )
        backbone.gradient_checkpointing = config.gradient_checkpointing
        method = MethodSettings(
            name=config.method,
            parts=config.trained_parts,
            adapter=method_named(config.method).settings(config, backbone),
            prepare_frozen=bool(backbone.preparing) and config.embedding_cache is not None,
        )
        preprocessing = backbone.preprocessing.resized_by(config.resize)
        return cls(
            backbone,
            method,
            preprocessing,
            task=config.task,
            prompt=config.prompt,
            class_names=class_names,
            class_tokens=config.class_tokens,
            multimask=config.multimask,
        )

    @classmethod
    def frozen(
        cls,
        model: str,
        *,
        preprocessing: Preprocessing | None = None,
        image_size: int | None = None,
        task: str = DEFAULT_TASK,
        class_names: tuple[str, ...] = (),
    ) -> Self:
        """A SAM as it is, with an adapter's preprocessing and task, or its family's own preprocessing."""
        backbone = load_backbone(model, image_size=preprocessing.image_size if preprocessing else image_size)
        own = preprocessing or backbone.preprocessing
        return cls(backbone, MethodSettings(), own, task=task, class_names=class_names)

    @property
    def leaves_encoder(self) -> bool:
        """Whether images are encoded as the base does it, so that what the encoder gives can be kept."""
        return self.method.leaves_encoder

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device

    def threshold_for(self, kind: str, chosen: Threshold | None = None) -> float:
        """Probability above which a pixel is foreground.

        Args:
            kind: Of the prompt that is asked, one of `ASKED_KINDS`.
            chosen: A number, 'best' for what was best on validation for that kind, or None for the segmenter's own.

        Raises:
            ConfigError: If the best one is asked for and not known.
        """
        if chosen != "best":
            return self.threshold if chosen is None else chosen
        if kind not in self.best_thresholds:
            known = known_thresholds(self.best_thresholds)
            raise ConfigError(f"threshold: the adapter has no best threshold for the prompt '{kind}' {known}")
        return self.best_thresholds[kind]

    def encode(self, pixel_values: Tensor, *, frozen: bool = False) -> EncodedImage:
        """What the encoder gives for normalised input.

        Args:
            pixel_values: ``(B, 3, S, S)``.
            frozen: Without what the method adds; trained parts of the base keep their weights.
        """
        if self.adapter is None:
            return self.backbone.encode(pixel_values)
        if frozen:
            with self.adapter.left_out():
                return self.backbone.encode(pixel_values)
        return self.backbone.encode(pixel_values, self.adapter.block_prompts(pixel_values))

    def encode_to_keep(self, pixel_values: Tensor) -> EncodedImage:
        """What is worth keeping of images ``(B, 3, S, S)``: also what `Backbone.prepare` does, if it stays the same."""
        encoded = self.encode(pixel_values)
        return self.backbone.prepare(encoded) if self.method.keeps_prepared else encoded

    def forward(self, batch: Batch, *, multimask: bool = False, frozen: bool = False) -> Output:
        """Answer the queries of a batch, of which there is at least one.

        Args:
            batch: Images, or what the encoder gave for them, and queries in pixels of the originals.
            multimask: Three masks for each query instead of one.
            frozen: See `encode`.
        """
        encoded = batch.encoded
        if encoded is None:
            assert batch.pixel_values is not None
            encoded = self.encode(batch.pixel_values, frozen=frozen)
        sizes = batch.for_queries(batch.original_sizes)
        prompts = [
            self.preprocessing.prompt_to_input(query.prompt, size, self.backbone.mask_input_size)
            for query, size in zip(batch.queries, sizes, strict=True)
        ]
        prepared = self.backbone.prepare(encoded)
        tokens = None if frozen else self._tokens(batch)
        self.backbone.falls_back = not self.training
        output = self.backbone.decode(prepared, prompts, batch.image_index, sparse_tokens=tokens, multimask=multimask)
        if self.learned_prompts is not None and self.training and tokens is None:
            # In training all that is trained takes part in every step: other processes wait for its gradient.
            nothing = 0.0 * self.learned_prompts.table.weight.sum()
            output = output._replace(mask_logits=output.mask_logits + nothing)
        return output

    def _tokens(self, batch: Batch) -> list[Tensor | None] | None:
        """The tokens ``(n, D)`` of each query's learned prompt."""
        asked = [query.learned for query in batch.queries if query.learned is not None]
        if self.learned_prompts is None or not asked:
            return None
        tokens = iter(self.learned_prompts(asked))
        return [None if query.learned is None else next(tokens) for query in batch.queries]

    def train(self, mode: bool = True) -> Self:
        """Put into training mode only what is trained; frozen parts stay in eval mode."""
        super().train(False)
        self.training = mode
        if mode:
            trained = [self.backbone.part(part) for part in self.method.parts]
            for module in (self.adapter, self.learned_prompts, *trained):
                if module is not None:
                    module.train()
        return self

    def suited_to(self, machine: Machine, *, for_good: bool = False) -> Self:
        """Compute as is good on a machine; nothing is moved there yet.

        Args:
            machine: Precision, attention, and whether blocks are compiled.
            for_good: Nobody will use it with another machine's precision, so frozen weights may be rounded to it.

        Raises:
            ConfigError: If a form of attention was named, and the base has one of its own.
        """
        self.backbone.suit(machine)
        if for_good and machine.precision == "bf16-mixed":
            self.keep_frozen_in_bfloat16()
        return self

    def keep_frozen_in_bfloat16(self) -> Self:
        """Hold the image encoder's frozen matrices in bfloat16, for use under bfloat16 autocast alone.

        Autocast rounds them for every product; rounded once, they take half the memory and no time, and the results
        are the same.
        """
        for module in self.backbone.part("image_encoder").modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.requires_grad:
                module.to(torch.bfloat16)
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """What an adapter file holds: every trained tensor, and frozen ones that an import carried along."""
        own = {name: p for name, p in self.named_parameters() if p.requires_grad or name in self.method.carried}
        return {name: parameter.detach() for name, parameter in own.items()}

    def require_fitting(self, state: Mapping[str, Tensor]) -> None:
        """Compare names and shapes with `trained_state`.

        Raises:
            CheckpointError: If a tensor is missing, unknown or of another shape.
        """
        if wrong := misfits(dict(sorted(self.trained_state().items())), state, unknown="is unknown"):
            more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
            raise CheckpointError(
                f"the weights do not fit the method '{self.method.name}': {'; '.join(wrong[:8])}{more}."
            )

    @torch.no_grad()
    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `trained_state` gave, strictly; see `require_fitting`."""
        self.require_fitting(state)
        for module in (self.adapter, self.learned_prompts):
            if module is not None and any(parameter.is_meta for parameter in module.parameters()):
                module.to_empty(device=self.device)
        for name, tensor in self.trained_state().items():
            tensor.copy_(state[name])

    @property
    def classes(self) -> Classes | None:
        """The classes, with their values and colours where those are known; None of a task without classes."""
        if not self.class_names:
            return None
        known = None if self.reading is None else self.reading.classes
        return known or Classes(names=self.class_names)

    @property
    def class_tokens(self) -> int:
        """Tokens of each learned prompt; 0 without."""
        return 0 if self.learned_prompts is None else self.learned_prompts.tokens

    def parameter_table(self) -> list[tuple[str, int, int]]:
        """Rows of (part, parameters, trained parameters)."""
        added = {self.adapter.row if self.adapter else "": self.adapter, "learned_prompts": self.learned_prompts}
        return parameter_table(self.backbone, {name: one for name, one in added.items() if one is not None})
