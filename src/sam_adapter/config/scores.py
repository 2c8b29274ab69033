"""The scores of a data set by name: means of those in the registry, and the balanced error rate of all pixels."""

from collections.abc import Iterable, Mapping, Sequence

from .registry import DEFAULT_TASK, METRICS, MORE_METRICS, TASKS

HEADINGS: Mapping[str, str] = {name: entry.heading for name, entry in METRICS.items()} | {"ber": "BER"}
"""Name of each score that every run has to its name in words, in the order of columns."""
KNOWN = {**METRICS, **MORE_METRICS}
DETAILED: tuple[str, ...] = tuple(name for name, entry in KNOWN.items() if entry.detailed)
"""Scores that are shown with their interval, and for each kind of prompt."""
LOWER_IS_BETTER: tuple[str, ...] = (
    *(name for name, entry in KNOWN.items() if entry.lower_is_better),
    *(name for entry in TASKS.values() for name in entry.lower_is_better),
    "ber",
    "loss",
)
"""Scores, and the loss, of which less is better."""


DISTANCES: tuple[str, ...] = tuple(name for name, entry in KNOWN.items() if entry.distance)
"""Scores that are distances."""


def addable(task: str) -> list[str]:
    """Names of the scores that ``--metrics`` can add to those of a task, in the order of columns."""
    one_mask = not (TASKS[task].classes or TASKS[task].objects)
    return [name for name, entry in MORE_METRICS.items() if one_mask or not entry.one_mask]


def unit_sentence(added: Iterable[str], spacing: Sequence[float]) -> str:
    """In which unit added distances are; nothing if there are none.

    Args:
        added: Names in `MORE_METRICS`.
        spacing: From row to row and from column to column, in mm.
    """
    unit = "pixels" if tuple(spacing) == (1, 1) else "mm"
    shown = [MORE_METRICS[name].heading for name in added if name in DISTANCES]
    return f"{' and '.join(shown)} in {unit}." if shown else ""


def headings(added: Iterable[str] = ()) -> dict[str, str]:
    """Name of each score of an answer to its name in words, in the order of columns.

    Args:
        added: Names in `MORE_METRICS`.
    """
    return {**HEADINGS, **{name: MORE_METRICS[name].heading for name in added}}


def with_kinds(kinds: Iterable[str], task: str = DEFAULT_TASK, added: Iterable[str] = ()) -> list[str]:
    """Names of the means over the kinds of prompt, each followed by those of single kinds if it is detailed.

    Args:
        kinds: Of prompt.
        task: Which may have scores of its own, all of them detailed.
        added: Names in `MORE_METRICS`.
    """
    asked, own = list(kinds), TASKS[task].scores
    names = []
    together = [kind for kind in asked if kind in TASKS[task].score_kinds]
    for name in (*own, *headings(added)):
        some = together if name in own else [kind for kind in asked if name not in KNOWN or kind in KNOWN[name].kinds]
        names += [name, *(f"{name}_{kind}" for kind in some if name in own or name in DETAILED)] if some else []
    return names
