"""Scores of what the answers about a picture make together, such as class maps: for tables in text and on pages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..config.choices import ASKED_KINDS
from ..config.registry import MORE_METRICS, TASKS
from ..config.scores import DISTANCES
from .cases import WITH


class WholeScores(NamedTuple):
    """A table of scores.

    Attributes:
        caption: What it shows.
        headings: Of the columns behind the first.
        rows: Title and scores, None where there is none.
        digits: Behind the point.
    """

    caption: str
    headings: list[str]
    rows: list[tuple[str, list[float | None]]]
    digits: int = 4


def whole_scores(models: Mapping[str, Mapping[str, Any]], task: str, added: Sequence[str] = ()) -> list[WholeScores]:
    """Scores of whole pictures with the IoU of each class, and a table for each added score of classes.

    Args:
        models: Name to what `OverlapMetrics.compute` gave.
        task: A key of ``TASKS``.
        added: Names in `MORE_METRICS`.

    Returns:
        Rows are models and kinds of prompt; nothing if the task has no such scores.
    """
    scores = TASKS[task].scores
    classes = dict.fromkeys(
        name.removeprefix("iou[").removesuffix("]")
        for means in models.values()
        for name in means
        if name.startswith("iou[")
    )
    asked = [
        (f"{model}, {WITH[kind]}", kind, means)
        for model, means in models.items()
        for kind in ASKED_KINDS
        if any(f"{name}_{kind}" in means for name in scores)
    ]
    if not asked:
        return []

    def rows(kept: Sequence[str], score: str) -> list[tuple[str, list[float | None]]]:
        return [
            (
                title,
                [
                    *(means.get(f"{name}_{kind}") for name in kept),
                    *(means.get(f"{score}_{kind}[{name}]") for name in classes),
                ],
            )
            for title, kind, means in asked
        ]

    headings = [*scores.values(), *(f"IoU {name}" for name in classes)]
    tables = [WholeScores(TASKS[task].scores_are, headings, rows(list(scores), "iou"))]
    for name in added if classes else ():
        over = (
            "over all pixels of the set" if MORE_METRICS[name].of == "counts" else "mean over the pictures that have it"
        )
        caption = f"{MORE_METRICS[name].heading} of each class, {over}"
        tables.append(WholeScores(caption, list(classes), rows((), name), digits=2 if name in DISTANCES else 4))
    return tables


def whole_text(models: Mapping[str, Mapping[str, Any]], task: str, added: Sequence[str] = ()) -> list[str]:
    """`whole_scores` as lines of text."""
    return [line for table in whole_scores(models, task, added) for line in table_text(table)]


def table_text(table: WholeScores) -> list[str]:
    """One table as lines of text."""
    width = max(10, *(len(title) + 2 for title, _ in table.rows))
    columns = [max(8, len(heading) + 2) for heading in table.headings]
    cells = [(title, [_number(one, table.digits) for one in row]) for title, row in table.rows]
    lines = [
        f"{title:<{width}}" + "".join(f"{cell:>{column}}" for cell, column in zip(row, columns, strict=True))
        for title, row in [("", table.headings), *cells]
    ]
    return ["", f"{table.caption}:", *lines]


def confusion_rows(confusion: Mapping[str, Any], kind: str) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and rows of a confusion matrix: the share of each true class that got each answer."""
    labels, counts = confusion["labels"], confusion[kind]
    rows = [
        [label, *(f"{count / max(sum(row), 1):.1%}" for count in row), f"{sum(row):,}"]
        for label, row in zip(labels, counts, strict=True)
    ]
    return ["truth", *labels, "pixels"], rows


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
