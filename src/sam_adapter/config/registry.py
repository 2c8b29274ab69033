"""Names of what there is to choose from, each with the place of what it means: a line here makes it an option.

Places are imported when they are first asked for, so that the command line answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

Part = Literal["mask_decoder", "prompt_encoder", "image_encoder"]
ALL_PARTS: tuple[Part, ...] = ("mask_decoder", "prompt_encoder", "image_encoder")


@dataclass(frozen=True)
class Entry:
    """What is known of a choice before its code is imported.

    Attributes:
        place: Where its code is, ``module:name`` below ``sam_adapter``.
        text: What ``--help`` says of it.
    """

    place: str
    text: str = ""


@dataclass(frozen=True)
class MethodEntry(Entry):
    """What options must know of a method; the method itself is a `sam_adapter.methods.base.Method`.

    Attributes:
        parts: Parts of SAM that it trains unless ``--parts`` says otherwise.
        parts_fixed: Whether it trains these parts and no other choice.
        adds: Whether it adds modules to the image encoder; then it has a `Method.settings_type`.
        keeps: Parts that it cannot train themselves, as it adds to their layers.
        options: Options of it alone, which other methods refuse.
    """

    parts: tuple[Part, ...] = ("mask_decoder",)
    parts_fixed: bool = False
    adds: bool = True
    keeps: tuple[Part, ...] = ()
    options: tuple[str, ...] = ()


METHODS: Mapping[str, MethodEntry] = {
    "sam_adapter": MethodEntry(
        "methods.sam_adapter.method:SamAdapterMethod", "the SAM-Adapter is added and trained, with the mask decoder"
    ),
    "lora": MethodEntry(
        "methods.lora.method:LoraMethod",
        "LoRA is added to layers of the image encoder and trained, with the mask decoder",
        keeps=("image_encoder",),
        options=("lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "dora", "rslora"),
    ),
    "decoder": MethodEntry("methods.fine_tuning:FineTuning", "the mask decoder, or what --parts names", adds=False),
    "full": MethodEntry("methods.fine_tuning:FineTuning", "all of SAM", parts=ALL_PARTS, parts_fixed=True, adds=False),
}
"""Methods of adaptation."""


@dataclass(frozen=True)
class TaskEntry(Entry):
    """What options must know of a task; the task itself is a `sam_adapter.tasks.base.Task`.

    Attributes:
        classes: Whether pixels have classes; else they are foreground or background.
        objects: Whether objects are told apart; they may have classes.
        quality: Whether the predicted quality of answers is trained with the mask decoder, as it ranks them.
        lower_is_better: Those of ``scores`` of which less is better.
        scores_are: What these scores are of, as a caption.
        scores_title: Heading of their section in reports.
        scores_text: What a reader of reports should know of them.
        score_kinds: Kinds of prompt whose answers have these scores.
        questions: What it asks about a whole picture by learned prompts of its own, before those of the classes.
        scores: Names of the scores that answers about one image have together, beside `METRICS`, and their headings.
        monitor: Validation score by which the best adapter is kept, unless ``--monitor`` says otherwise.
    """

    classes: bool = False
    objects: bool = False
    quality: bool = False
    lower_is_better: tuple[str, ...] = ()
    scores_are: str = ""
    scores_title: str = ""
    scores_text: str = ""
    score_kinds: tuple[str, ...] = ("box", "points", "none", "mask")
    questions: tuple[str, ...] = ()
    monitor: str = "iou"
    scores: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_have_classes(self) -> bool:
        """Whether classes may be named."""
        return self.classes or self.objects


TASKS: Mapping[str, TaskEntry] = {
    "binary": TaskEntry("tasks.binary:BinaryTask", "one foreground mask each"),
    "semantic": TaskEntry(
        "tasks.semantic:SemanticTask",
        "a class for every pixel",
        classes=True,
        monitor="miou",
        scores={
            "miou": "mIoU",
            "miou_with_background": "mIoU with background",
            "mdice": "mDice",
            "pixel_accuracy": "pixel accuracy",
        },
        scores_are="Each pixel one class, over all pixels of the set",
        scores_title="Classes over all pixels",
        scores_text=(
            "Each pixel has one class: that of the answer with the largest probability, or none. The means are over "
            "the classes that are there or were answered. In the confusion a row is a true class, a column an answer."
        ),
    ),
    "instance": TaskEntry(
        "tasks.instance:InstanceTask",
        "a mask for each object",
        objects=True,
        quality=True,
        questions=("foreground", "cores"),
        score_kinds=("none",),
        scores={
            "ap": "AP",
            "ap50": "AP50",
            "ap75": "AP75",
            "f1": "F1",
            "pq": "PQ",
            "aji": "AJI",
            "matched_iou": "matched IoU",
            "count_error": "count error",
        },
        lower_is_better=("count_error",),
        scores_are="Objects found without prompts, over all objects of the set",
        scores_title="Objects found without prompts",
        scores_text=(
            "AP is COCO's mean over IoUs from .5 to .95. F1, AJI and the matched IoU are of objects that fit at an IoU "
            "of .5; the count error is a mean over images. A few images can hold most of the objects: metrics.json has "
            "F1, PQ and AJI as means over images too."
        ),
    ),
}
"""What is asked of pictures; see `sam_adapter.tasks.base.Task`."""
DEFAULT_TASK = "binary"
"""What is asked where nothing else is said."""

LOSSES: Mapping[str, str] = {
    "bce": "training.losses.cross_entropy:bce",
    "balanced_bce": "training.losses.cross_entropy:balanced_bce",
    "iou": "training.losses.overlap:iou",
    "dice": "training.losses.overlap:dice",
    "focal": "training.losses.cross_entropy:focal",
    "tversky": "training.losses.overlap:tversky",
    "structure": "training.losses.structure:structure",
    "boundary": "training.losses.boundary:boundary",
}
"""Terms of the loss; see `sam_adapter.training.losses.base.Loss`."""


@dataclass(frozen=True, kw_only=True)
class MetricEntry:
    """A score of a mask, and how it is shown.

    Attributes:
        place: Of the function of what ``of`` says.
        heading: Above its column in tables.
        lower_is_better: Whether a lower mean is a better one.
        detailed: Whether tables have its interval, and metrics.csv and ``--monitor`` each kind of prompt beside the
            mean over the kinds.
        of: Whether it follows from the `Counts` of an answer, or needs a `FullSizeAnswer`; the former costs
            nothing.
        over_set: Place of the function that makes the score from the values of all answers, those about pictures
            without foreground too; without it the score is the mean over the pictures with foreground.
        column: With ``over_set``, the name of an answer's value in per_image.csv.
        kinds: Kinds of prompt that it is taken of.
        distance: Whether it is one, in mm or, with a spacing of 1, in pixels.
        one_mask: Whether it is defined for one foreground mask a picture, and not for each of several classes.
    """

    place: str
    heading: str
    lower_is_better: bool = False
    detailed: bool = True
    of: Literal["counts", "answer"] = "counts"
    over_set: str = ""
    column: str = ""
    kinds: tuple[str, ...] = ("box", "points", "none", "mask")
    distance: bool = False
    one_mask: bool = False


METRICS: Mapping[str, MetricEntry] = {
    "iou": MetricEntry(place="tasks.metrics.counts:iou", heading="IoU"),
    "dice": MetricEntry(place="tasks.metrics.counts:dice", heading="Dice"),
    "mae": MetricEntry(place="tasks.metrics.counts:mae", heading="MAE", lower_is_better=True, detailed=False),
}
"""Scores that every run has: of a mask's `Counts`, in the order of columns; `sam_adapter.config.scores` derives from it
what each command says of them."""

MORE_METRICS: Mapping[str, MetricEntry] = {
    "s_measure": MetricEntry(place="tasks.metrics.saliency:s_measure", heading="S-measure", of="answer", one_mask=True),
    "e_measure": MetricEntry(place="tasks.metrics.saliency:e_measure", heading="E-measure", of="answer", one_mask=True),
    "weighted_f": MetricEntry(
        place="tasks.metrics.saliency:weighted_f", heading="weighted F", of="answer", one_mask=True
    ),
    "stretched_mae": MetricEntry(
        place="tasks.metrics.saliency:stretched_mae",
        heading="stretched MAE",
        lower_is_better=True,
        of="answer",
        one_mask=True,
    ),
    "boundary_iou": MetricEntry(place="tasks.metrics.boundaries:boundary_iou", heading="boundary IoU", of="answer"),
    "hd95": MetricEntry(
        place="tasks.metrics.boundaries:hd95", heading="HD95", lower_is_better=True, of="answer", distance=True
    ),
    "precision": MetricEntry(place="tasks.metrics.counts:precision", heading="precision"),
    "recall": MetricEntry(place="tasks.metrics.counts:recall", heading="recall"),
    "specificity": MetricEntry(place="tasks.metrics.counts:specificity", heading="specificity"),
    "mean_ber": MetricEntry(
        place="tasks.metrics.counts:mean_ber", heading="mean BER", lower_is_better=True, one_mask=True
    ),
    "auroc": MetricEntry(
        place="tasks.metrics.detection:highest_probability",
        heading="AUROC",
        of="answer",
        over_set="tasks.metrics.detection:auroc",
        column="highest_probability",
        kinds=("none",),
        one_mask=True,
    ),
}
"""Scores that ``--metrics`` adds, in the order of columns."""


def look_up(registry: Mapping[str, Any], name: str) -> Any:
    """What a name in one of the registries means."""
    entry = registry[name]
    return imported(entry if isinstance(entry, str) else entry.place)


def imported(place: str) -> Any:
    """What lies in a place, ``module:name`` below ``sam_adapter``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"sam_adapter.{module}"), attribute)
