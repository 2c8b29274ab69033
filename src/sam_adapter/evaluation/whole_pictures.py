"""Scores of what the answers about a picture make together, such as class maps: for tables in text and on pages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..config.choices import ASKED_KINDS
from ..config.registry import TASKS
from .cases import WITH


class WholeScores(NamedTuple):
    """A table of scores.

    Attributes:
        headings: Of the columns behind the first.
        rows: Title and scores, None where there is none.
    """

    headings: list[str]
    rows: list[tuple[str, list[float | None]]]


def whole_scores(models: Mapping[str, Mapping[str, Any]], task: str) -> WholeScores | None:
    """Scores of whole pictures, and IoU of each class, of each model and kind of prompt; None if the task has none.

    Args:
        models: Name to what `OverlapMetrics.compute` gave.
        task: A key of ``TASKS``.
    """
    scores = TASKS[task].scores
    classes = dict.fromkeys(
        name.removeprefix("iou[").removesuffix("]")
        for means in models.values()
        for name in means
        if name.startswith("iou[")
    )
    rows: list[tuple[str, list[float | None]]] = []
    for model, means in models.items():
        for kind in ASKED_KINDS:
            if not any(f"{name}_{kind}" in means for name in scores):
                continue
            named = [means.get(f"{name}_{kind}") for name in scores]
            own = [means.get(f"iou_{kind}[{name}]") for name in classes]
            rows.append((f"{model}, {WITH[kind]}", [*named, *own]))
    if not rows:
        return None
    return WholeScores([*scores.values(), *(f"IoU {name}" for name in classes)], rows)


def whole_text(models: Mapping[str, Mapping[str, Any]], task: str) -> list[str]:
    """`whole_scores` as lines of text."""
    table = whole_scores(models, task)
    if table is None:
        return []
    width = max(10, *(len(title) + 2 for title, _ in table.rows))
    columns = [max(8, len(heading) + 2) for heading in table.headings]
    shown = [("", table.headings), *((title, [_number(one) for one in row]) for title, row in table.rows)]
    lines = [
        f"{title:<{width}}" + "".join(f"{cell:>{column}}" for cell, column in zip(cells, columns, strict=True))
        for title, cells in shown
    ]
    return ["", "Each pixel one class, over all pixels of the set:", *lines]


def confusion_rows(confusion: Mapping[str, Any], kind: str) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of a confusion matrix: the share of each true class that got each answer."""
    labels, counts = confusion["labels"], confusion[kind]
    rows = [
        [label, *(f"{count / max(sum(row), 1):.1%}" for count in row), f"{sum(row):,}"]
        for label, row in zip(labels, counts, strict=True)
    ]
    return ["truth", *labels, "pixels"], rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
