"""The building blocks of configurations: how one is checked, written and read, and groups of options.

The string under an attribute is its only documentation: it becomes the text of ``--help``. Nothing here imports
torch, so that the command line answers at once.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .base import Config
from .choices import MIXED_KINDS, AttentionKind, KnownName, MaskLayout, MaskRule, Pages, PromptKind, TaskName
from .registry import DEFAULT_TASK, TASKS
from .source_choice import SOURCES, SourceOption, source_problems


@dataclass(frozen=True, kw_only=True)
class DataOptions(Config):
    """Images and their annotations, from one of five kinds of source."""

    images: Path | None = None
    """Folder of images; folders inside it are searched too. For masks and annotations: the other sources name their own
    images."""
    masks: Path | None = None
    """Folder of masks, paired with the images by path and stem."""
    annotations: Path | None = None
    """In place of masks: a COCO file (.json), or a folder of labelme's JSON files, or of YOLO's outlines (.txt) with
    their data.yaml."""
    table: Path | None = None
    """In place of images and masks: a table (.csv) with a row an image and the columns image and mask, and split and
    group if there are any; paths are relative to its folder."""
    dataset: str | None = None
    """In place of images and masks: a dataset of Hugging Face, by its folder or its id. Needs the package datasets."""
    known: KnownName | None = None
    """In place of images and masks: a public data set of the papers, found in your own copy of it below root."""
    root: Path | None = None
    """Folder into which the archives of the known set were unpacked."""
    mask_layout: MaskLayout = "file"
    """What lies in the folder of masks: 'file', one file an image; 'folder_per_class', MASKS/CLASS/STEM.png;
    'folder_per_image', MASKS/STEM/ with a file an object."""
    mask_pattern: str = "{stem}"
    """How a mask is named after its image, for example '{stem}_mask'."""
    image_column: str = "image"
    """Column of a table or a dataset that has the images."""
    mask_column: str = "mask"
    """Column of a table or a dataset that has the masks."""
    split: str | None = None
    """The rows of a table whose column split has this value, or this split of a dataset; 'train+extra' takes both.
    Needed where there are several."""
    dataset_cache: Path | None = None
    """Folder in which the pictures of a dataset are kept as files; without it ~/.cache/sam-adapter/datasets."""
    mask_rule: MaskRule = "auto"
    """How mask values become foreground: 'auto' decides from all masks together (see 'sam-adapter check'), 'nonzero'
    takes all but 0, 'half' takes what is above half way between the lowest and the highest value of all masks.
    'numbers', of a task with objects: each value but 0 is an object."""
    ignore_value: tuple[float | str, ...] = ()
    """Mask value that is void: it counts neither in losses nor in scores nor in prompts. A number, or a colour as
    '224,224,192'; on the command line the option may be given again for further values."""
    mask_invert: bool = False
    """Exchange foreground and background."""
    task: TaskName = DEFAULT_TASK
    """What is asked of pictures."""
    classes: Path | None = None
    """File with the classes of a task that has some: YAML of 'name: value' or 'name: [red, green, blue]' lines, with
    'background' and 'ignore' beside them; or a .txt file of 'value name' lines, or of names alone where annotations
    name the classes themselves. Without it each value of the masks but 0 (black) is a class."""
    pages: Pages = "first"
    """Pages of files with several (TIFF, GIF): the first alone, or all, each page of image and mask as a pair of its
    own."""
    max_pixels: int = 200_000_000
    """Pictures and masks with more pixels are refused, as they may not fit into memory."""
    faulty: Literal["stop", "skip"] = "stop"
    """What to do when files are faulty: stop and list all of them, or leave them out and say so."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        return [
            *super().problems(),
            *source_problems({name: getattr(self, name) for name in ("images", *SOURCES, "root", "split")}),
            None
            if "{stem}" in self.mask_pattern
            else f"mask_pattern: expected '{{stem}}' in it, got '{self.mask_pattern}'.",
            *(_value_problem(value) for value in self.ignore_value),
            f"classes: the task '{self.task}' has none; {_with_classes()}."
            if self.classes is not None and self.task is not None and not TASKS[self.task].may_have_classes
            else None,
            f"mask_rule: 'numbers' tells objects apart, and the task '{self.task}' has none."
            if self.mask_rule == "numbers" and self.task is not None and not TASKS[self.task].objects
            else None,
        ]

    @property
    def source(self) -> SourceOption:
        """Which of the options says where the annotations are."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def image_folder(self) -> Path:
        """The folder of images of a source that has one."""
        assert self.images is not None
        return self.images

    @property
    def place(self) -> Path:
        """The folder or file that the annotations are in."""
        return Path(getattr(self, "root" if self.source == "known" else self.source))

    @property
    def source_words(self) -> str:
        """The options that name the data, as on a command line."""
        names = ("images", *SOURCES, "root", "split", "classes")
        words = [f"--{name} {value}" for name in names if (value := getattr(self, name)) is not None]
        return " ".join([*words, *([f"--task {self.task}"] if self.task not in (None, DEFAULT_TASK) else [])])

    @property
    def void_values(self) -> tuple[tuple[float, ...], ...]:
        """`ignore_value` as numbers: ``(v,)``, or ``(red, green, blue)``."""
        return tuple(_mask_value(value) for value in self.ignore_value)


def _with_classes() -> str:
    """Which tasks have classes."""
    names = [name for name, entry in TASKS.items() if entry.may_have_classes]
    return f"'--task {names[0]}' has" if names else "leave it out"


def _mask_value(value: float | str) -> tuple[float, ...]:
    if not isinstance(value, str):
        return (value,)
    if match := re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", value.strip()):
        return tuple(float(int(part, 16)) for part in match.groups())
    return tuple(float(part) for part in value.strip("()[] ").split(","))


def _value_problem(value: float | str) -> str | None:
    try:
        if len(_mask_value(value)) in (1, 3):
            return None
    except ValueError:
        pass
    return f"ignore_value: expected a number, or a colour as '224,224,192' or '#e0e0c0', got {value!r}."


@dataclass(frozen=True, kw_only=True)
class GroupOptions(Config):
    """Pairs that stay together when a part is held out."""

    group_pattern: str | None = None
    """Regular expression searched in the name of each pair (path below the folder, without extension): its first group,
    or all of the match, names the group that the pair belongs to, for example '^(patient[0-9]+)'."""
    groups: Path | None = None
    """Table (.csv) with the columns image and group, in place of a pattern."""
    group_copies: bool = False
    """Near copies that are found among the images, such as frames of one video, stay together too."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        try:
            re.compile(self.group_pattern or "")
            wrong = None
        except re.error as error:
            wrong = f"group_pattern: '{self.group_pattern}' is not a regular expression ({error})."
        both = self.group_pattern is not None and self.groups is not None
        return [*super().problems(), wrong, "group_pattern and groups: give one of them." if both else None]


@dataclass(frozen=True, kw_only=True)
class PromptOptions(Config):
    """Prompts that are made from the ground truth."""

    prompt: PromptKind = "box"
    """Prompt given to SAM: the mask's box, points, none, or 'mixed': each of these three, scored apart (the default in
    training). 'mask': the mask itself with a random error, which is to be corrected."""
    box_scale: float = 1.0
    """Enlarge the box about its centre by this factor."""
    box_jitter: float = 0.0
    """Training only: move each side of the box at random by up to this fraction of the box's side."""
    prompts_per_image: int | None = None
    """Training only: prompts asked about each image in a step. The image is encoded once for all of them, so further
    ones are cheap. Without it 3 with prompt mixed (the box, points and none; with 1 they take turns), else 1."""
    objects_per_image: int = 8
    """Training only, of a task with objects: objects that a picture is asked for in a step, of all sizes."""
    with_class: Literal["auto", "always", "never"] = "auto"
    """Of a task with classes: whether a box, points or a mask come with the learned prompt of their class. 'auto': in
    half of the queries of training, and in none of those that scores are taken of."""
    positive_points: int = 1
    """Points drawn inside the mask when the prompt is points."""
    negative_points: int = 0
    """Points drawn outside the mask when the prompt is points."""
    mask_error: float = 0.25
    """Largest error of a mask when the prompt is mask, also in evaluation, as a share of the distance of its innermost
    pixel from the outline: by up to so much the whole outline moves in or out, parts of it move in or out, and the mask
    is shifted along rows and along columns."""

    @property
    def training_prompts(self) -> int:
        """Prompts asked about each image in a training step, with the default resolved."""
        if self.prompts_per_image is not None:
            return self.prompts_per_image
        return len(MIXED_KINDS) if self.prompt == "mixed" else 1


@dataclass(frozen=True, kw_only=True)
class MachineOptions(Config):
    """Where and how the arithmetic is done."""

    precision: str = "auto"
    """'32', 'bf16-mixed', '16-mixed', or 'auto': bf16-mixed on GPUs and CPUs that have instructions for bfloat16, 32
    elsewhere."""
    attention: AttentionKind = "auto"
    """How the encoder's attention is computed; all give the same result. 'plain' holds all scores at once; 'blocked'
    a block at a time, computed again in the backward pass; 'folded' is PyTorch's fused kernel with the position bias
    in wider queries and keys; 'flex' is FlexAttention, compiled on GPUs, and on a CPU not for training. 'auto': blocked
    on CPUs, folded on GPUs. SAM's and SAM-HQ's alone: SAM 2 and 3 have no position bias and take PyTorch's fused
    kernels."""
    compile: bool = False
    """Compile the encoder's blocks with torch.compile: a minute at the first step, and again at the first validation
    and at a batch of another size. It needs a C++ compiler on a CPU, where it gains nothing; steps on an H100 took a
    fifth less time."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""
    workers: int = -1
    """Processes that read data; -1 takes one a core, at most 8, less one for the trainer."""
    seed: int = 0
    """Seed of everything random."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        choices = ("auto", "32", "bf16-mixed", "16-mixed")
        known = self.precision in choices
        return [
            *super().problems(),
            None if known else f"precision: expected one of {', '.join(choices)}, got '{self.precision}'.",
        ]


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(Config):
    """The SAM-Adapter itself; what is not given comes from the preset."""

    preset: Literal["wide", "paper"] = "wide"
    """'wide': T 192, R 32, hidden states read at every block, a last prompt before the neck. 'paper': T and R
    hidden_size / 32, embedding read once before the position embedding, no prompt before the neck, the paper's
    initialisation. For SAM 2, whose encoder has several stages: 'wide' a quarter of each stage's width and 32, 'paper'
    1/32 of it; neither has a prompt before the neck."""
    tune_dim: int | None = None
    """T, the width of the summed high-frequency and embedding features; of all stages where there are several."""
    hidden_dim: int | None = None
    """R, the width between a block's own down projection and the shared up projection."""
    high_frequency_rate: float = 0.25
    """Share of the spectrum's area, around zero frequency, that the high-pass removes."""
    embedding_from: Literal["before_position", "after_position"] | None = None
    """Where the patch embedding is read once: before or after the position embedding is added."""
    embedding_read: Literal["once", "every_block"] | None = None
    """What an adapter prompt is made from beside the high frequencies: 'once' the patch embedding, the same for all
    blocks; 'every_block' the input of its own block, as SAM3-Adapter does. Without it 'every_block' with preset wide,
    'once' with paper, with embedding_from, and on encoders of several stages, which read once a stage."""
    neck_prompt: bool | None = None
    """Add one more adapter prompt after the last block, before the neck."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """Activation between the down and the up projection."""
    use_high_frequency: bool = True
    """Feed the high-frequency part of the image."""
    use_embedding: bool = True
    """Feed the embedding that embedding_read says."""
    share_up: bool = True
    """Share one up projection between all blocks, or give each block its own."""
    adapter_init: Literal["default", "paper", "zero"] | None = None
    """Initial weights: PyTorch's, the paper's, or PyTorch's with the up projection at zero, which starts as plain
    SAM."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        return [
            *super().problems(),
            None
            if self.use_high_frequency or self.use_embedding
            else "use_high_frequency and use_embedding: at least one input must stay on.",
            "embedding_read: every_block reads the hidden states of blocks; leave embedding_from and use_embedding out."
            if self.embedding_read == "every_block" and (self.embedding_from is not None or not self.use_embedding)
            else None,
        ]
