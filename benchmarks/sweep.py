"""Tables of training steps over variants, image, batch and model sizes: `train_step.py` for many cases.

    python benchmarks/sweep.py variants sizes batches ladder

Writes benchmarks/results/TABLE.csv, its rows with machine, versions and date, and TABLE.png. Nothing is fetched. The
ladder of all models takes some ten minutes on two cores, the variants a quarter of an hour.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from machine import machine
from train_step import Case, append_rows, measured_apart

RESULTS = Path(__file__).parent / "results"
LADDER = ("fast-float32", "fast-bfloat16", "fast-bfloat16-checkpointing")
Step = tuple[Case, str, int]
"""What to measure: the case, the variant, and for how many steps."""


def variants() -> Iterator[Step]:
    """The peers and what this package does; 20 steps in float32 show that the losses are the same."""
    for name in ("eager-float32", "fast-float32"):
        yield Case("vit_b", 512, 1), name, 20
    for name in ("eager-float32", *LADDER, "sdpa-float32", "sdpa-bfloat16"):
        yield Case("vit_b", 1024, 1), name, 3
    for name in ("eager-float32", *LADDER[1:]):
        yield Case("vit_b", 1024, 2), name, 1


def sizes() -> Iterator[Step]:
    """Is the cost what the count of arithmetic says?"""
    for size in (256, 512, 768, 1024, 1280, 1536):
        yield Case("vit_b", size, 1), "fast-bfloat16", 3 if size < 1024 else 1


def batches() -> Iterator[Step]:
    """What a larger batch costs."""
    for batch_size in (1, 2, 4, 8):
        yield Case("vit_b", 512, batch_size), "fast-bfloat16", 2


def ladder() -> Iterator[Step]:
    """Memory and speed of every model; the largest are measured in their first step, and in half precision alone."""
    for size in (512, 1024):
        for model in ("vit_b", "vit_l", "vit_h"):
            large = size == 1024 and model != "vit_b"
            for name in LADDER[1:] if large else LADDER:
                yield Case(model, size, 1), name, 0 if large else 1


TABLES: dict[str, Callable[[], Iterator[Step]]] = {
    "variants": variants,
    "sizes": sizes,
    "batches": batches,
    "ladder": ladder,
}


def main() -> None:
    """Measure the tables asked for, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    for name in options.tables:
        path = RESULTS / f"{name}.csv"
        path.unlink(missing_ok=True)
        rows = []
        for case, variant, steps in TABLES[name]():
            row = measured_apart(case, variant, steps, options.device)
            append_rows(path, [row], machine(options.device))
            rows.append(row)
        _compare_losses(rows)
        draw(rows, path.with_suffix(".png"))


def _compare_losses(rows: list[dict[str, Any]]) -> None:
    """Print how far the losses of eager and of fast float32 are apart, step by step."""
    found = {(row["variant"], row["image_size"], row["batch_size"]): row["losses"] for row in rows}
    for (variant, *size), losses in found.items():
        if variant == "fast-float32" and ("eager-float32", *size) in found:
            peers = found["eager-float32", *size]
            apart = max(abs(one - other) for one, other in zip(losses, peers, strict=True))
            print(f"{size}: losses of {len(losses)} steps differ by {apart:.1e} at most", flush=True)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory of every row, side by side."""
    names = [f"{row['model']} {row['image_size']} x{row['batch_size']} {row['variant']}" for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(11, 1 + 0.3 * len(rows)), sharey=True, layout="constrained")
    for axis, column, label in zip(axes, ("step_s", "peak_gb"), ("seconds a step", "peak memory, GB"), strict=True):
        bars = axis.barh(names, [row[column] for row in rows], color="#3b6ea5")
        axis.bar_label(bars, fmt="%.3g", padding=3)
        axis.set_xlabel(label)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
