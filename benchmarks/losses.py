"""Which loss for a binary set? The SAM-Adapter on the bundled model, each loss with three seeds and equal steps.

    python benchmarks/losses.py --data FOLDER --work WORK                   # all losses, two sets, three seeds
    python benchmarks/losses.py --data FOLDER --work WORK --sets kvasir_seg --losses bce+iou structure --seeds 0
    python benchmarks/losses.py --data FOLDER --work WORK --table           # only write the table of what is there

FOLDER holds one folder a set, each with images/ and masks/, as for defaults.py, which makes the parts: sorted by name,
every fifth pair is the test set, which nothing here sees; of the others every fifth is scored, and training and its
validation have the rest, all shrunk to 320 pixels at most. Every loss keeps the epoch with the best validation IoU. A
run whose metrics.json is there is not done again, so a call can be stopped and repeated.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from defaults import COMMON, prepare
from machine import described
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from writing import heading, mean_and_deviation, row

SETS = ("kvasir_seg", "shadow")
LOSSES = (
    "bce+iou",
    "bce",
    "balanced_bce",
    "iou",
    "dice",
    "bce+dice",
    "focal",
    "20*focal+dice",
    "tversky",
    "structure",
    "dice+boundary",
)
"""The default first; 20 parts of focal and one of Dice trained SAM itself."""
KINDS = ("box", "points", "none")
SCORES = {"iou": "IoU", "dice": "Dice", "s_measure": "S-measure"}


def run_folder(work: Path, data: str, loss: str, seed: int, epochs: int) -> Path:
    """Where a run and its scores lie."""
    return work / "losses" / f"{data}_{loss.replace('*', 'x')}_{epochs}_{seed}"


def trained_and_scored(work: Path, data: str, loss: str, seed: int, epochs: int) -> None:
    """Train once and score what was kept, beside the frozen base and the filled box, on pictures of their own."""
    run, parts = run_folder(work, data, loss, seed, epochs), work / "data" / data
    if (run / "scores/metrics.json").exists():
        return
    began = time.perf_counter()
    train(
        TrainConfig(
            images=parts / "train/images",
            masks=parts / "train/masks",
            output=run,
            loss=loss,
            seed=seed,
            overwrite=True,
            **{**COMMON, "epochs": epochs},
        )
    )
    trained = time.perf_counter() - began
    (run / "seconds.json").write_text(json.dumps(trained))
    evaluate(
        EvaluateConfig(
            images=parts / "scored/images",
            masks=parts / "scored/masks",
            adapter=run / "adapter",
            prompt="mixed",
            metrics="s_measure",
            with_frozen=True,
            batch_size=4,
            workers=0,
            output=run / "scores",
        )
    )
    print(f"{data}, {loss}, seed {seed}: {trained:.0f} s of training, {time.perf_counter() - began:.0f} s", flush=True)


def table_of(work: Path, data: str, losses: Iterable[str], seeds: Iterable[int], epochs: int) -> list[str]:
    """Lines of a set's table; a loss has the mean over the seeds that are there ± their standard deviation."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for loss in losses:
        for seed in seeds:
            path = run_folder(work, data, loss, seed, epochs) / "scores/metrics.json"
            if path.exists():
                rows.setdefault(loss, []).append(json.loads(path.read_text()))
    if not rows:
        return []
    first = next(iter(rows.values()))[0]
    plain = {"fill the box": [first["baselines"]["fill_box"]], "frozen": [first["frozen"]]}
    heads = [f"{score} {kind}" for score in SCORES.values() for kind in ("box", "points", "no prompt")]
    lines = [f"## {data}", "", *heading(["loss", *heads])]
    for name, found in {**plain, **rows}.items():
        cells = [
            mean_and_deviation([one.get(f"{score}_{kind}") for one in found]) for score in SCORES for kind in KINDS
        ]
        lines.append(row([f"`{name}`" if name in rows else name, *cells]))
    return [*lines, ""]


def main() -> None:
    """Do what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="kept: a second call goes on where the first stopped")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=COMMON["epochs"])
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        for data in arguments.sets:
            prepare(arguments.data / data, arguments.work / "data" / data)
        for seed in arguments.seeds:
            for data in arguments.sets:
                for loss in arguments.losses:
                    trained_and_scored(arguments.work, data, loss, seed, arguments.epochs)
    settings = ", ".join(f"{name} {value}" for name, value in {**COMMON, "epochs": arguments.epochs}.items())
    seeds = " ".join(map(str, arguments.seeds))
    lines = ["# Losses, compared on pictures of their own", "", (__doc__ or "").strip(), ""]
    lines += [f"Settings: {settings}; seeds {seeds}. Means over the scored pictures with foreground.", ""]
    for data in arguments.sets:
        lines += table_of(arguments.work, data, arguments.losses, arguments.seeds, arguments.epochs)
    arguments.output.write_text("\n".join([*lines, described("cuda" if torch.cuda.is_available() else "cpu")]) + "\n")


if __name__ == "__main__":
    main()
