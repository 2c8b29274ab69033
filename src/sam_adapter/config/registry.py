"""Names of what there is to choose from, each with the place of what it means: a line here makes it an option.

Places are imported when they are first asked for, so that the command line answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    parts: tuple[Part, ...] = ("mask_decoder",)
    parts_fixed: bool = False
    adds: bool = True


METHODS: Mapping[str, MethodEntry] = {
    "sam_adapter": MethodEntry(
        "methods.sam_adapter.method:SamAdapterMethod", "the SAM-Adapter is added and trained, with the mask decoder"
    ),
    "decoder": MethodEntry("methods.fine_tuning:FineTuning", "the mask decoder, or what --parts names", adds=False),
    "full": MethodEntry("methods.fine_tuning:FineTuning", "all of SAM", parts=ALL_PARTS, parts_fixed=True, adds=False),
}
"""Methods of adaptation."""

TASKS: Mapping[str, Entry] = {
    "binary": Entry("tasks.binary:BinaryTask", "one foreground mask each"),
}
"""What is asked of pictures; see `sam_adapter.tasks.base.Task`."""

LOSSES: Mapping[str, str] = {
    "bce": "training.losses.cross_entropy:bce",
    "balanced_bce": "training.losses.cross_entropy:balanced_bce",
    "iou": "training.losses.overlap:iou",
    "dice": "training.losses.overlap:dice",
}
"""Terms of the loss; see `sam_adapter.training.losses.base.Loss`."""


METRICS: Mapping[str, str] = {
    "iou": "tasks.metrics.counts:iou",
    "dice": "tasks.metrics.counts:dice",
    "mae": "tasks.metrics.counts:mae",
}
"""Scores of a mask that follow from its `Counts`; each is a column of per_image.csv and a mean over images."""


def look_up(registry: Mapping[str, str] | Mapping[str, Entry], name: str) -> Any:
    """What a name in one of the registries means."""
    found = registry[name]
    module, _, attribute = (found.place if isinstance(found, Entry) else found).partition(":")
    return getattr(import_module(f"sam_adapter.{module}"), attribute)
