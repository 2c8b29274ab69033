"""The building blocks of configurations: how one is checked, written and read, and groups of options.

The string under an attribute is its only documentation: it becomes the text of ``--help``. Nothing here imports
torch, so that the command line answers at once.
"""

import math
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import ConfigError
from .ranges import range_problem, shortened
from .registry import LOSSES, METHODS, TASKS

if TYPE_CHECKING:
    Method = str
    TaskName = str
else:
    Method = Literal[tuple(METHODS)]
    TaskName = Literal[tuple(TASKS)]
Part = Literal["mask_decoder", "prompt_encoder", "image_encoder"]
AskedKind = Literal["box", "points", "none"]
PromptKind = Literal["box", "points", "none", "mixed"]
MaskRule = Literal["auto", "nonzero", "half"]
Pages = Literal["first", "all"]
Resize = Literal["pad", "squash"]
AttentionKind = Literal["auto", "plain", "blocked", "folded", "flex"]
Monitor = Literal[
    "iou",
    "iou_box",
    "iou_points",
    "iou_none",
    "dice",
    "dice_box",
    "dice_points",
    "dice_none",
    "mae",
    "ber",
    "loss",
]
Save = Literal["masks", "overlays", "probabilities"]
Threshold = float | Literal["best"]

ASKED_KINDS: tuple[AskedKind, ...] = ("box", "points", "none")
ALL_PARTS: tuple[Part, ...] = ("mask_decoder", "prompt_encoder", "image_encoder")


def asked_kinds(prompt: PromptKind) -> tuple[AskedKind, ...]:
    """The kinds of prompt that a run trains and is scored with; 'mixed' means all."""
    return ASKED_KINDS if prompt == "mixed" else (prompt,)


def possible_monitors(prompt: PromptKind) -> list[str]:
    """The validation scores that a run with these prompts has, of those that can choose the best adapter."""
    by_kind = [f"{score}_{kind}" for score in ("iou", "dice") for kind in asked_kinds(prompt)]
    return [name for name in get_args(Monitor) if "_" not in name or name in by_kind]


def parse_loss(text: str) -> dict[str, float]:
    """Read a weighted sum of losses.

    Args:
        text: For example ``"bce+iou"`` or ``"0.5*bce + 2*dice"``.

    Returns:
        Loss name to weight, in the order written.

    Raises:
        ConfigError: If a term is not ``[weight*]name`` with a known name.
    """
    terms: dict[str, float] = {}
    for term in text.split("+"):
        match = re.fullmatch(r"\s*(?:([0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?)\s*\*\s*)?([a-z_]+)\s*", term)
        if match is None or match[2] not in LOSSES:
            raise ConfigError(
                f"loss '{text}': '{term.strip()}' is not a loss. Write a sum of {', '.join(LOSSES)}, each with an "
                "optional weight, for example 'bce+iou' or '0.5*bce+dice'."
            )
        terms[match[2]] = terms.get(match[2], 0.0) + float(match[1] or 1.0)
    return terms


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every configuration can do: check itself, be written and be read."""

    def __post_init__(self) -> None:
        wrong, outside = [], []
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            try:
                value = _fitted(value, hint)
            except (TypeError, ValueError, OverflowError):
                wrong.append(f"{name}: expected {shown_type(hint)}, got {shortened(value)}.")
                continue
            object.__setattr__(self, name, value)
            if problem := range_problem(name, value):
                outside.append(problem)
        # What else is wrong can be asked of values of the right type alone.
        if problems := [*wrong, *outside, *(problem for problem in ([] if wrong else self.problems()) if problem)]:
            raise ConfigError(*problems)

    def problems(self) -> list[str | None]:
        """All that is wrong with the values, a sentence each."""
        return []

    def to_yaml(self) -> str:
        """This configuration as YAML that ``--config`` reads."""

        def plain(value: Any) -> Any:
            if isinstance(value, Path):
                return str(value)
            return [plain(item) for item in value] if isinstance(value, tuple | list) else value

        values = {name: plain(value) for name, value in asdict(self).items()}
        return yaml.safe_dump(values, sort_keys=False)

    @classmethod
    def from_yaml(cls, path: Path | str, **changes: Any) -> Self:
        """Read a configuration written by `to_yaml`.

        Args:
            path: The YAML file.
            changes: Values that replace those of the file.

        Raises:
            ConfigError: If the file has a key that this configuration does not know, or a wrong value.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path}: cannot be read as a configuration ({reason}).") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected a YAML file of 'option: value' lines.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(str(key) for key in set(values) - known):
            raise ConfigError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
        values |= changes
        needed = [one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING]
        if missing := [name for name in needed if name not in values]:
            raise ConfigError(f"{path}: {', '.join(missing)} must be given.")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(*(f"{path}: {problem}" for problem in error.problems)) from error

    def but(self, **changes: Any) -> Self:
        """A copy with some values changed."""
        return replace(self, **changes)


def _fitted(value: Any, hint: Any) -> Any:
    """A value in the type that is declared; text from a file becomes a path or a number, a list a tuple."""
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in choices:
            raise ValueError
        return value
    if get_origin(hint) in (Union, UnionType):
        return None if value is None else _fitted_to_one(value, [one for one in choices if one is not NoneType])
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(_fitted(item, choices[0]) for item in value)
    if hint is Path:
        value = Path(value)
    if hint is float and not isinstance(value, bool):
        value = float(value)
        if not math.isfinite(value):
            raise ValueError
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError
    if hint in (Path, str) and "\0" in str(value):  # no file can have such a name, and the system's errors differ
        raise ValueError
    return value


def _fitted_to_one(value: Any, hints: list[Any]) -> Any:
    """A value in the first of several types that takes it."""
    for hint in hints[:-1]:
        try:
            return _fitted(value, hint)
        except (TypeError, ValueError):
            continue
    return _fitted(value, hints[-1])


def shown_type(hint: Any) -> str:
    """A type of an option in plain words."""
    if get_origin(hint) is Literal:
        return f"{'one of ' if len(get_args(hint)) > 1 else ''}{', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join("null" if choice is NoneType else shown_type(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {shown_type(get_args(hint)[0])}"
    return {Path: "a path", float: "a number", int: "a whole number", bool: "true or false", str: "text"}[hint]


@dataclass(frozen=True, kw_only=True)
class DataOptions(Config):
    """A folder of images and a folder of masks."""

    images: Path
    """Folder of images; folders inside it are searched too."""
    masks: Path
    """Folder of masks, paired with the images by path and stem."""
    mask_pattern: str = "{stem}"
    """How a mask is named after its image, for example '{stem}_mask'."""
    mask_rule: MaskRule = "auto"
    """How mask values become foreground: 'auto' decides from all masks together (see 'sam-adapter check'), 'nonzero'
    takes all but 0, 'half' takes what is above half way between the lowest and the highest value of all masks."""
    ignore_value: tuple[float | str, ...] = ()
    """Mask value that is void: it counts neither in losses nor in scores nor in prompts. A number, or a colour as
    '224,224,192'; on the command line the option may be given again for further values."""
    mask_invert: bool = False
    """Exchange foreground and background."""
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
            None
            if "{stem}" in self.mask_pattern
            else f"mask_pattern: expected '{{stem}}' in it, got '{self.mask_pattern}'.",
            *(_value_problem(value) for value in self.ignore_value),
        ]

    @property
    def void_values(self) -> tuple[tuple[float, ...], ...]:
        """`ignore_value` as numbers: ``(v,)``, or ``(red, green, blue)``."""
        return tuple(_mask_value(value) for value in self.ignore_value)


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
    """Prompt given to SAM: the mask's box, points, none, or 'mixed': each of the three, scored apart."""
    box_scale: float = 1.0
    """Enlarge the box about its centre by this factor."""
    box_jitter: float = 0.0
    """Training only: move each side of the box at random by up to this fraction of the box's side."""
    prompts_per_image: int | None = None
    """Training only: prompts asked about each image in a step. The image is encoded once for all of them, so further
    ones are cheap. Without it 3 with prompt mixed (the box, points and none; with 1 they take turns), else 1."""
    positive_points: int = 1
    """Points drawn inside the mask when the prompt is points."""
    negative_points: int = 0
    """Points drawn outside the mask when the prompt is points."""

    @property
    def training_prompts(self) -> int:
        """Prompts asked about each image in a training step, with the default resolved."""
        if self.prompts_per_image is not None:
            return self.prompts_per_image
        return len(ASKED_KINDS) if self.prompt == "mixed" else 1


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
    on CPUs, folded on GPUs."""
    compile: bool = False
    """Compile the encoder's blocks with torch.compile: a minute at the first step, and again at the first validation
    and at a batch of another size. It needs a C++ compiler on a CPU, where it gains nothing; GPUs are not measured."""
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
    """'wide': T 192, R 32, embedding after the position embedding, a last prompt before the neck. 'paper': T and R
    hidden_size / 32, embedding before the position embedding, no prompt before the neck, the paper's
    initialisation."""
    tune_dim: int | None = None
    """T, the width of the summed high-frequency and embedding features."""
    hidden_dim: int | None = None
    """R, the width between a block's own down projection and the shared up projection."""
    high_frequency_rate: float = 0.25
    """Share of the spectrum's area, around zero frequency, that the high-pass removes."""
    embedding_from: Literal["before_position", "after_position"] | None = None
    """Read the patch embedding before or after the position embedding is added."""
    neck_prompt: bool | None = None
    """Add one more adapter prompt after the last block, before the neck."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """Activation between the down and the up projection."""
    use_high_frequency: bool = True
    """Feed the high-frequency part of the image."""
    use_embedding: bool = True
    """Feed the patch embedding."""
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
        ]
