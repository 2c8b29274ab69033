"""The whole configuration of each command as one flat, validated dataclass.

The string under an attribute is its only documentation: it becomes the text of ``--help``. Nothing here imports torch,
so that the command line answers at once.
"""

from dataclasses import dataclass
from pathlib import Path

from .base import Config
from .choices import (
    Pages,
    Save,
    TaskName,
    Threshold,
    asked_kinds,
)
from .folders import among_data, given_twice
from .object_options import ObjectOptions
from .options import DataOptions, GroupOptions, MachineOptions
from .registry import DEFAULT_TASK
from .score_options import ScoreOptions
from .tiles import ChosenTileOptions, KnownTileOptions
from .training import TrainConfig

NO_CACHE = "embedding_cache: embeddings are kept of whole pictures, not of tiles; leave it out, or give '--tile 0'."


@dataclass(frozen=True, kw_only=True)
class CheckConfig(ChosenTileOptions, GroupOptions, DataOptions):
    """Look at every image and mask and report all faults together."""

    image_size: int = 1024
    """Side of the square that the encoder will see; objects that its mask would lose are reported."""
    val_images: Path | None = None
    """Folder of validation images that copies of these images are looked for in; their masks are a check of its own."""
    sheet: Path | None = None
    """PNG file for a contact sheet of pairs as they will be trained on, those with remarks first."""
    json: Path | None = None
    """JSON file for all that was found."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        grouped = self.group_pattern is not None or self.groups is not None or self.group_copies
        return [
            *super().problems(),
            "group_pattern, groups and group_copies: with --val-images nothing is split; leave them out."
            if self.val_images is not None and grouped
            else None,
        ]


@dataclass(frozen=True, kw_only=True)
class ModelChoice(Config):
    """A trained adapter, or a SAM as it is."""

    adapter: Path | None = None
    """Adapter folder that 'train' or 'convert' wrote."""
    model: str | None = None
    """Base SAM (see train); with an adapter, where its base lies now."""
    image_size: int | None = None
    """With a base model alone: side of the square the encoder sees; an adapter carries its own."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        return [
            *super().problems(),
            "adapter or model: one of them is needed." if self.adapter is None and self.model is None else None,
            "image_size: the adapter carries its own; leave it out."
            if self.adapter is not None and self.image_size is not None
            else None,
        ]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(MachineOptions, ScoreOptions, ObjectOptions, KnownTileOptions, DataOptions, ModelChoice):
    """Score an adapter, or a SAM as it is, on a folder of images and masks."""

    task: TaskName | None = None
    """What is asked of pictures; without it what the adapter was trained for, or binary."""
    output: Path
    """Folder for metrics.json, per_image.csv, prompts.json and report.html."""
    with_frozen: bool = False
    """Also score the adapter's base SAM without the adapter, under the same prompts."""
    compare: tuple[Path, ...] = ()
    """More adapters to score under the same prompts; on the command line '--adapter' may be given again instead."""
    embedding_cache: Path | None = None
    """Folder in which image embeddings are kept for models that leave the image encoder as it is: the frozen base and
    adapters of method decoder share them."""
    threshold: Threshold | None = None
    """Probability above which a pixel is foreground: a number for all models, or 'best' for what was best on each
    adapter's own validation for the kind of prompt; without it each adapter's own, or 0.5. With 'best', pictures
    without foreground, as they are asked without a prompt, keep the adapter's own if the prompt is box, points or
    mask."""
    report: bool = False
    """Also write report.html: scores, their spread, precision and recall, the worst, median and best images."""
    batch_size: int = 1
    """Images, or tiles of one, a step."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        best = self.threshold == "best"
        return [
            *super().problems(),
            *among_data(self.output, images=self.images, masks=self.masks, annotations=self.annotations),
            "threshold: 'best' is known of adapters alone; give a number." if best and self.adapter is None else None,
            "with_frozen: needs an adapter." if self.with_frozen and self.adapter is None else None,
            NO_CACHE if self.embedding_cache and self.tile else None,
            "compare: needs an adapter." if self.compare and self.adapter is None else None,
            f"{' and '.join(self.finding)}: objects are found without prompts; give '--prompt none' or 'mixed'."
            if self.finding and "none" not in asked_kinds(self.prompt)
            else None,
            # What the task of an adapter is, 'evaluate' finds in its folder.
            *(self.task_problems(self.task or DEFAULT_TASK) if self.task or self.adapter is None else []),
            *given_twice("adapter", [*([self.adapter] if self.adapter else []), *self.compare]),
        ]


@dataclass(frozen=True, kw_only=True)
class PredictConfig(MachineOptions, ObjectOptions, KnownTileOptions, ModelChoice):
    """Make masks for pictures that have no ground truth."""

    input: str
    """A picture, a folder (searched with the folders inside it), or a pattern such as 'photos/*.jpg' in quotes."""
    output: Path
    """Folder for masks/, overlays/ and probabilities/."""
    prompts: Path | None = None
    """JSON file: file name to {"box": [x1, y1, x2, y2]} or {"points": [[x, y]], "labels": [1]} in pixels of the
    picture, or {"mask": a file below the JSON file's folder, or COCO's run lengths}; of tasks with objects or classes
    to a list of such, each with "class" where there are classes. Or a COCO file, whose boxes are the prompts. A picture
    that is not named, or has an empty list, has no prompt."""
    save: str = "masks,overlays"
    """What to write, separated by commas: masks, overlays, probabilities."""
    threshold: Threshold | None = None
    """Probability above which a pixel is foreground: a number, or 'best' for what was best on the adapter's validation
    for the kind of prompt that a picture has; without it the adapter's own, or 0.5."""
    pages: Pages = "first"
    """Pages of files with several (TIFF, GIF): the first alone, or all, each with masks of its own."""
    max_pixels: int = 200_000_000
    """Pictures with more pixels are refused, as they may not fit into memory."""
    batch_size: int = 1
    """Pictures, or tiles of one, a step."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        choices = Save.__args__
        wrong = not self.saved or [name for name in self.saved if name not in choices]
        return [
            *super().problems(),
            f"save: expected some of {','.join(choices)}, got '{self.save}'." if wrong else None,
            "threshold: 'best' is known of adapters alone; give a number."
            if self.threshold == "best" and self.adapter is None
            else None,
        ]

    @property
    def saved(self) -> tuple[str, ...]:
        """The kinds of files to write."""
        return tuple(name.strip() for name in self.save.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(Config):
    """Turn the weights of the two existing implementations into an adapter folder."""

    base: str
    """The SAM that they were trained on, as for 'train --model'."""
    adapter: Path
    """A .pth (or .safetensors) file of the paper's authors or of the second implementation."""
    output: Path
    """The adapter folder to write."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig(Config):
    """Fold a trained adapter into its base: a model folder that needs no adapter."""

    adapter: Path
    """Adapter folder of method lora, decoder or full."""
    model: str | None = None
    """Where the adapter's base lies, if it is not where it was."""
    output: Path
    """The model folder to write, for --model and for transformers; it must be new or empty."""


@dataclass(frozen=True, kw_only=True)
class InfoConfig(MachineOptions):
    """Show versions, devices, and the precision and attention that runs would use."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Config):
    """Show on generated scenes where a frozen SAM fails and how an adapter rescues it; offline, in four minutes."""

    output: Path = Path("demo")
    """Folder for report.html, metrics.json, the scenes and the three trained adapters."""
    write_data: Path | None = None
    """Only write the scenes into this folder, as image and mask folders for each kind of scene."""
    scenes: int = 500
    """Camouflage scenes to train on; with write_data, scenes of each kind."""
    test_scenes: int = 200
    """Held-out scenes to score."""
    epochs: int = 4
    """Passes over the training scenes."""


COMMANDS: dict[str, type[Config]] = {
    "check": CheckConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "convert": ConvertConfig,
    "merge": MergeConfig,
    "demo": DemoConfig,
    "info": InfoConfig,
}
