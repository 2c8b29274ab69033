"""Names of what there is to choose from, each with the place of what it means: a line here makes it an option.

Places are imported when they are first asked for, so that the command line answers at once.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

METHODS: Mapping[str, str] = {
    "sam_adapter": "methods.sam_adapter.method:SamAdapterMethod",
    "decoder": "methods.fine_tuning:DecoderMethod",
    "full": "methods.fine_tuning:FullMethod",
}
"""Methods of adaptation; see `sam_adapter.methods.base.Method`."""

TASKS: Mapping[str, str] = {
    "binary": "tasks.binary:BinaryTask",
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


def look_up(registry: Mapping[str, str], name: str) -> Any:
    """What a name in one of the registries means."""
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(f"sam_adapter.{module}"), attribute)
