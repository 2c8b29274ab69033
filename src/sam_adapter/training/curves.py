"""The curves of a run, drawn from its metrics.csv."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.choices import KINDS_IN_WORDS
from ..config.scores import headings
from ..system.writing import written_beside
from .run_folder import read_metrics

COLOURS = ("#0072b2", "#c24e00", "#007a5a", "#8a3a8f", "#7a6200")
"""Of training and of the kinds of prompt; apart for colour-blind readers too."""


def read_curve(rows: list[dict[str, str]], column: str) -> list[tuple[float, float]]:
    """One column of metrics.csv as points.

    Args:
        rows: From `read_metrics`.
        column: Its name; where it is empty there is no point.

    Returns:
        ``(epoch, value)``; epochs count from 1, and 0 is the base before training.
    """
    return [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]


def draw_curves(metrics: Path, picture: Path, added: Sequence[str] = ()) -> None:
    """Draw loss, IoU and added scores over the epochs; without a finished epoch nothing is written.

    Scores on validation have a line for each kind of prompt, and a dashed one of its colour where the frozen base is.

    Args:
        metrics: The run's metrics.csv.
        picture: The PNG file to write.
        added: Scores that ``--metrics`` adds.
    """
    rows = read_metrics(metrics)
    if not any(int(row["epoch"]) for row in rows):
        return
    from matplotlib.figure import Figure  # no pyplot: no window system is asked for

    scores = ("loss", "iou", *added)
    lines = math.ceil(len(scores) / 2)
    figure = Figure(figsize=(11, 4.2 * lines), layout="constrained", dpi=120)
    axes: Any
    for axes, score in zip(figure.subplots(lines, 2).flat, scores, strict=False):
        names = {f"train_{score}": "training"}
        names |= {"val_loss": "validation"} if score == "loss" else {}
        names |= {f"val_{score}_{kind}": f"validation, {label}" for kind, label in KINDS_IN_WORDS.items()}
        for (column, label), colour in zip(names.items(), COLOURS, strict=False):
            points = [point for point in read_curve(rows, column) if point[0]]
            frozen = [value for epoch, value in read_curve(rows, column) if not epoch]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=label)
            if points and frozen:
                name = label.replace("validation", "frozen base")
                axes.axhline(frozen[0], color=colour, linestyle="--", linewidth=1, label=name)
        axes.set_xlabel("epoch")
        axes.set_title("loss" if score == "loss" else headings(added)[score])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    for axes in figure.axes[len(scores) :]:
        axes.remove()
    with written_beside(picture) as partial:
        figure.savefig(partial, format="png")
