"""The configuration of a training run."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError
from .choices import (
    KnownName,
    MethodName,
    PromptKind,
    Resize,
    monitors_in_words,
    parse_loss,
    possible_monitors,
)
from .folders import among_data
from .lora_options import LoraOptions
from .options import SOURCES, AdapterOptions, DataOptions, GroupOptions, MachineOptions
from .registry import METHODS, TASKS, Part
from .score_options import ScoreOptions
from .scores import addable
from .tiles import TrainingTileOptions


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    MachineOptions, LoraOptions, AdapterOptions, ScoreOptions, TrainingTileOptions, GroupOptions, DataOptions
):
    """Train an adapter for a SAM on a folder of images and masks."""

    model: str
    """Base SAM: a Hugging Face id or folder, 'vit_b', 'vit_l', 'vit_h', 'sam2.1_t', 'sam2.1_s', 'sam2.1_b+',
    'sam2.1_l' (or 'sam2_t' and so on), 'sam_hq_b', 'sam_hq_l', 'sam_hq_h', 'sam3', or one of their authors' .pth and
    .pt files."""
    output: Path
    """Folder of the run: adapter/, last.ckpt, config.yaml, metrics.csv, curves.png, inspection.npz."""
    prompt: PromptKind = "mixed"
    """Prompt given to SAM: the mask's box, points, none, or 'mixed': each of these three, so that an adapter learns to
    work with any of them; each is validated apart. 'mask': the mask itself with a random error, so that an adapter
    learns to correct rough masks."""
    val_images: Path | None = None
    """Folder of validation images; without validation masks, annotations, table, known set or split a fraction of the
    training images is held out."""
    val_masks: Path | None = None
    """Folder of validation masks."""
    val_annotations: Path | None = None
    """Validation annotations in place of validation masks; they are of val_images, or of images without it."""
    val_table: Path | None = None
    """Table of validation images and masks."""
    val_known: KnownName | None = None
    """Known set below the same root that validates."""
    val_split: str | None = None
    """Validation rows of the table, or validation split of the dataset, that is trained on; then split says which are
    the training rows."""
    val_fraction: float = 0.1
    """Fraction held out for validation when there is no validation set; 0 trains without validation."""
    empty_masks: Literal["no_prompt", "skip"] = "no_prompt"
    """Images whose mask is empty: train on them without a prompt, or leave them out."""
    balance: bool = False
    """Draw pictures with rare classes more often; as many are drawn in an epoch as there are, some of them twice."""
    empty_share: float | None = None
    """Share of the pictures drawn in an epoch that have no foreground; without it as many as there are."""
    augment: str = "default"
    """'default' (flips, quarter turns, shift-scale-rotate), 'flip', 'none', or an albumentations pipeline file
    (.yaml or .json)."""
    image_size: int | None = None
    """Side of the square the encoder sees, a multiple of the patch size, of 32 for SAM 2; without it the base model's
    own."""
    resize: Resize | None = None
    """'pad': longest side to the image size, zeros at the right and bottom, as SAM does. 'squash': both sides, as
    SAM 2 and the SAM-Adapter paper do. Without it as the base model's family does."""
    class_tokens: int = 4
    """Tokens of the learned prompt by which each class of a task with classes is asked for."""
    method: MethodName = "sam_adapter"
    """What is added and trained."""
    parts: tuple[Part, ...] | None = None
    """Parts of SAM that are trained themselves; without it those of the method. '[]' trains what the method adds
    alone."""
    loss: str = "bce+iou"
    """Weighted sum of losses, for example '0.5*bce+dice'."""
    correction_rounds: int = 0
    """Times that each box or point is asked again in a step, as SAM was trained: with a point in the error of the
    former answer, and with that answer as a mask. The losses of all answers are added."""
    multimask: bool = False
    """Of a task with objects: train the three masks that a single point may mean too. The best of them is compared with
    the object, and the predicted quality of all three is trained."""
    epochs: int = 20
    """Passes over the training images."""
    batch_size: int = 2
    """Images a batch and device."""
    accumulate: int = 1
    """Batches that one step of the optimiser takes together: the gradient is the mean over all their queries."""
    lr: float = 2e-4
    """Highest learning rate (AdamW)."""
    weight_decay: float = 0.01
    """Weight decay; biases, norms and embeddings have none."""
    warmup: float = 0.05
    """Fraction of all optimiser steps over which the rate rises from zero; then it falls as a cosine."""
    clip: float | None = None
    """Clip the gradient's norm to this."""
    embedding_cache: Path | None = None
    """Folder in which image embeddings are kept, so that each image is encoded once and not in every epoch. For
    runs that leave the image encoder as it is (method decoder), without augmentation; runs and data sets may share the
    folder."""
    dry_run: bool = False
    """Measure one real step, print its peak memory and how long an epoch will take, and write nothing."""
    gradient_checkpointing: bool = False
    """Recompute each encoder block in the backward pass: far less memory, about a third more time."""
    monitor: str | None = None
    """Validation score by which the best adapter is kept, one of those that --metrics adds too; without it the task's
    own, iou or miou. Those without a kind of prompt are means over the kinds that the run trains, 'iou_box' and so on
    are of one kind."""
    ema: float = 0.0
    """Keep a moving average of the trained weights with this decay, for example 0.99, and validate and write that; 0
    takes the weights as they are."""
    patience: int = 0
    """Stop after this many epochs without a better score; 0 never stops early."""
    devices: int = 1
    """Number of devices, or of CPU processes; more than one trains with DistributedDataParallel."""
    nodes: int = 1
    """Number of machines."""
    strategy: str = "auto"
    """A Lightning strategy; 'auto' takes ddp for several devices."""
    logger: Literal["csv", "wandb", "tensorboard"] = "csv"
    """Where scores go beside metrics.csv."""
    project: str = "sam-adapter"
    """Project name for Weights & Biases."""
    run_name: str | None = None
    """Name of the run for the logger; without it the output folder's name."""
    start_from: Path | None = None
    """Adapter folder whose weights a new run starts from, of the same base and method: for more data, or for passing an
    adapter on to other data."""
    resume: bool = False
    """Go on from output/last.ckpt with everything restored."""
    overwrite: bool = False
    """Start anew in an output folder that already holds a run."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        try:
            parse_loss(self.loss)
            loss_problem = None
        except ConfigError as error:
            loss_problem = str(error)
        return [
            *super().problems(),
            *among_data(
                self.output,
                images=self.images,
                masks=self.masks,
                annotations=self.annotations,
                val_images=self.val_images,
                val_masks=self.val_masks,
                val_annotations=self.val_annotations,
            ),
            loss_problem,
            *self._validation_problems(),
            *self._method_problems(),
            f"embedding_cache: kept embeddings are of unchanged images; leave '--augment {self.augment}' out."
            if self.embedding_cache and self.augment not in ("default", "none")
            else None,
            "embedding_cache: embeddings are kept of whole pictures, and tiles are drawn anew in each epoch; leave one "
            "of the two out."
            if self.embedding_cache and self.tile
            else None,
            "correction_rounds: answers to prompts are corrected, and the run has none; choose another --prompt."
            if self.correction_rounds and self.prompt == "none"
            else None,
            self._multimask_problem(),
            "resume and overwrite: give one of them." if self.resume and self.overwrite else None,
            *self.task_problems(self.task),
            self._monitor_problem(),
        ]

    def _multimask_problem(self) -> str | None:
        """What is wrong with training the three masks for a point."""
        if not self.multimask:
            return None
        one_point = self.prompt in ("points", "mixed") and (self.positive_points, self.negative_points) == (1, 0)
        if TASKS[self.task].quality and one_point and "mask_decoder" in self.trained_parts:
            return None
        tasks = " or ".join(name for name, entry in TASKS.items() if entry.quality)
        return (
            f"multimask: expected task {tasks}, prompts of one positive point (prompt points or mixed) and "
            "mask_decoder among the parts; leave it out, or change those."
        )

    def _monitor_problem(self) -> str | None:
        """What is wrong with the score that chooses the best adapter; nothing while ``metrics`` cannot be read."""
        try:
            added = self.added_metrics
        except ConfigError:
            return None
        monitors = possible_monitors(self.prompt, self.task, added)
        if self.monitored in monitors:
            return None
        for name in addable(self.task):
            if self.monitor in possible_monitors(self.prompt, self.task, [*added, name]):
                return f"monitor: the run has no '{self.monitor}'; add it with '--metrics {','.join([*added, name])}'."
        return (
            f"monitor: task {self.task} with prompt {self.prompt} is never scored by '{self.monitor}'; possible are "
            f"{monitors_in_words(monitors)}."
        )

    def _validation_problems(self) -> list[str | None]:
        """What is wrong with the options for the validation set."""
        given = [name for name in VALIDATION if getattr(self, name) is not None]
        if len(given) > 1:
            return [f"{' and '.join(given)}: give one of them."]
        grouped = self.group_pattern is not None or self.groups or self.group_copies
        masks, annotations = self.val_masks is not None, self.val_annotations is not None
        missing = (self.val_images is None) if masks else (self.val_images is not None and not annotations)
        return [
            "val_images and val_masks: give both or neither." if missing else None,
            "val_images: must be given with val_annotations, as there are no images beside it."
            if annotations and self.val_images is None and self.images is None
            else None,
            "val_split: is of a table or a dataset that is trained on; expected table or dataset, and split."
            if self.val_split is not None and (self.split is None or (self.table is None and self.dataset is None))
            else None,
            "val_known: is below the root of a known set that is trained on; expected known and root."
            if self.val_known is not None and self.known is None
            else None,
            f"split and val_split: both are '{self.split}'." if self.split and self.split == self.val_split else None,
            f"group_pattern, groups and group_copies: with --{_dashed(given[0])} nothing is split; leave them out."
            if given and grouped
            else None,
        ]

    def _method_problems(self) -> list[str | None]:
        """What is wrong with the options for the method, by what the registry says of it."""
        entry, parts = METHODS[self.method], self.trained_parts
        plain = [name for name, other in METHODS.items() if not other.adds and not other.parts_fixed]
        encoder_changes = entry.adds or "image_encoder" in parts
        return [
            None if parts or entry.adds else f"parts: method {self.method} would train nothing.",
            *(
                f"{option}: belongs to method {name}; give '--method {name}', or leave it out."
                for name, other in METHODS.items()
                for option in other.options
                if name != self.method and getattr(self, option) != getattr(type(self), option)
            ),
            None
            if not entry.parts_fixed or set(parts) == set(entry.parts)
            else f"parts: method {self.method} trains {entry.text}; choose parts with method {' or '.join(plain)}.",
            *(
                f"parts: method {self.method} adds to the layers of {part}, which stay as they are; leave it out."
                for part in entry.keeps
                if part in parts
            ),
            "embedding_cache: the image encoder changes in training; embeddings can be kept with method "
            f"{' or '.join(plain)} alone."
            if self.embedding_cache and encoder_changes
            else None,
        ]

    @property
    def monitored(self) -> str:
        """The validation score by which the best adapter is kept."""
        return self.monitor or TASKS[self.task].monitor

    @property
    def trained_parts(self) -> tuple[Part, ...]:
        """Parts of SAM that are trained, with the method's own filled in."""
        return METHODS[self.method].parts if self.parts is None else self.parts


VALIDATION = ("val_masks", "val_annotations", "val_table", "val_known", "val_split")
"""Options of which at most one says where the validation set is."""


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def validation_options(config: TrainConfig) -> DataOptions | None:
    """How the validation set of a run is read, or None where a fraction of the training set is held out."""
    own = {field.name: getattr(config, field.name) for field in fields(DataOptions)}
    nothing: dict[str, Any] = dict.fromkeys(("images", *SOURCES, "root", "split"))
    if config.val_masks is not None:
        return DataOptions(**{**own, **nothing, "images": config.val_images, "masks": config.val_masks})
    if config.val_annotations is not None:
        images = config.val_images or config.images
        return DataOptions(**{**own, **nothing, "images": images, "annotations": config.val_annotations})
    if config.val_table is not None:
        return DataOptions(**{**own, **nothing, "table": config.val_table})
    if config.val_known is not None:
        return DataOptions(**{**own, "known": config.val_known})
    if config.val_split is not None:
        return DataOptions(**{**own, "split": config.val_split})
    return None
