"""The curves of a run, drawn from its metrics.csv."""

from pathlib import Path
from typing import Any

from .run_folder import read_metrics
from .writing import written_beside


def read_curve(rows: list[dict[str, str]], column: str) -> list[tuple[float, float]]:
    """One column of metrics.csv as points.

    Args:
        rows: From `read_metrics`.
        column: Its name; where it is empty there is no point.

    Returns:
        ``(epoch, value)``; epochs count from 1, and 0 is the base before training.
    """
    return [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw loss and IoU over the epochs, training and validation; without a finished epoch nothing is written.

    Args:
        metrics: The run's metrics.csv.
        picture: The PNG file to write.
    """
    rows = read_metrics(metrics)
    if not rows:
        return
    from matplotlib.figure import Figure  # no pyplot: no window system is asked for

    figure = Figure(figsize=(10, 4), layout="constrained", dpi=120)
    axes: Any
    for axes, score in zip(figure.subplots(1, 2), ("loss", "iou"), strict=True):
        for part, colour, style in (("train", "#0072b2", "-"), ("val", "#c24e00", "--")):
            points = read_curve(rows, f"{part}_{score}")
            if points:
                name = {"train": "training", "val": "validation"}[part]
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=".", label=name)
        axes.set_xlabel("epoch")
        axes.set_title("loss" if score == "loss" else "IoU")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    with written_beside(picture) as partial:
        figure.savefig(partial, format="png")
