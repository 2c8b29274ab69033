"""The scores of a data set by name: means of those in the registry, and the balanced error rate of all pixels."""

from collections.abc import Iterable, Mapping

from .registry import DEFAULT_TASK, METRICS, TASKS

HEADINGS: Mapping[str, str] = {name: entry.heading for name, entry in METRICS.items()} | {"ber": "BER"}
"""Name of each score to its name in words, in the order of columns."""
DETAILED: tuple[str, ...] = tuple(name for name, entry in METRICS.items() if entry.detailed)
"""Scores that are shown with their interval, and for each kind of prompt."""
LOWER_IS_BETTER: tuple[str, ...] = (*(name for name, entry in METRICS.items() if entry.lower_is_better), "ber", "loss")
"""Scores, and the loss, of which less is better."""


def with_kinds(kinds: Iterable[str], task: str = DEFAULT_TASK) -> list[str]:
    """Names of the means over the kinds of prompt, each followed by those of single kinds if it is detailed.

    Args:
        kinds: Of prompt.
        task: Which may have scores of its own, all of them detailed.
    """
    asked, own = list(kinds), TASKS[task].scores
    return [
        one
        for name in (*own, *HEADINGS)
        for one in (name, *(f"{name}_{kind}" for kind in asked if name in own or name in DETAILED))
    ]
