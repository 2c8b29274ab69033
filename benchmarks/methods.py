"""Adapter, LoRA, decoder and full fine-tuning side by side: scores with a box and without a prompt, and the cost.

    python benchmarks/methods.py --work WORK                                        # camouflage scenes, three seeds
    python benchmarks/methods.py --work WORK --data FOLDER --sets kvasir_seg shadow # and real sets, one seed
    python benchmarks/methods.py --work WORK --model FOLDER --output TABLE.md       # another base than the bundled one

The scenes are the demo's: 400 to train on, 200 held out. FOLDER holds one folder a set, each with images/ and masks/;
sorted by name, every fifth pair is held out. All methods see the same pictures for as many epochs, prompts mixed.
A second call goes on where the first stopped. Step time and peak memory are those of `--dry-run`'s measured step.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from comparison import RATES, trained_and_scored
from machine import described
from real_data import split
from sam_adapter import TrainConfig
from sam_adapter.checkpoints.adapter import load
from sam_adapter.demo.scenes import write_scenes
from sam_adapter.training.dry_run import dry_run
from writing import heading, mean_and_deviation, row

RUNS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "decoder": {"method": "decoder"},
    "LoRA, rank 4": {"method": "lora", "lora_rank": 4},
    "LoRA, rank 16": {"method": "lora", "lora_rank": 16},
    "SAM-Adapter": {"method": "sam_adapter"},
    "SAM-Adapter, embedding read once": {"method": "sam_adapter", "embedding_read": "once"},
    "full": {"method": "full"},
}
EPOCHS = {"camouflage": 4}
"""Of a set; others have fifteen."""


def found(data: Path, name: str, model: str, seeds: Sequence[int]) -> list[dict[str, dict[str, Any]]]:
    """The scores of one method, a seed each."""
    options = RUNS[name]
    folder = data / f"{Path(model).name}_{re.sub('[^a-z0-9]+', '_', name.lower())}"
    if not options:
        return [trained_and_scored(data, folder, model=model)]
    rate = RATES.get(options["method"], RATES["sam_adapter"])
    epochs = EPOCHS.get(data.name, 15)
    return [
        trained_and_scored(
            data,
            data / f"{folder.name}_{epochs}_{seed}",
            model=model,
            **{**options, "epochs": epochs, "lr": rate, "seed": seed, "val_fraction": 0.0},
        )
        for seed in seeds
    ]


def cost(data: Path, name: str, model: str) -> list[str]:
    """Seconds of a step and its peak memory."""
    if not RUNS[name]:
        return ["–", "–"]
    measured = dry_run(
        TrainConfig(
            images=data / "train/images",
            masks=data / "train/masks",
            model=model,
            output=data / "never",
            batch_size=4,
            dry_run=True,
            **RUNS[name],
        )
    )
    return [f"{measured.step_seconds:.2f}", f"{measured.peak_bytes / 1e9:.2f}"]


def trained_parameters(data: Path, name: str, model: str, seed: int) -> str:
    """How many parameters a method trains."""
    if not RUNS[name]:
        return "0"
    folder = f"{Path(model).name}_{re.sub('[^a-z0-9]+', '_', name.lower())}_{EPOCHS.get(data.name, 15)}_{seed}"
    return f"{sum(tensor.numel() for tensor in load(data / folder / 'adapter').trained_state().values()):,}"


def table(data: Path, model: str, seeds: Sequence[int]) -> list[str]:
    """Lines of one set."""
    heads = ["method", "trained parameters", "IoU box", "IoU no prompt", "training s", "s a step", "GB"]
    lines = [f"## {data.name}", "", *heading(heads)]
    for name in RUNS:
        scores = found(data, name, model, seeds)
        cells = [mean_and_deviation([one[prompt]["iou"] for one in scores]) for prompt in ("box", "none")]
        seconds = f"{mean(float(one['none']['seconds']) for one in scores):.0f}"
        lines.append(
            row([name, trained_parameters(data, name, model, seeds[0]), *cells, seconds, *cost(data, name, model)])
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def main() -> None:
    """Do what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="kept: a second call goes on where the first stopped")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    asked = parser.parse_args()
    scenes = asked.work / "camouflage"
    for part, count, seed in (("train", 400, 100), ("test", 200, 200)):
        if not (scenes / part).exists():
            write_scenes(scenes / part, "camouflage", count, seed)
    lines = ["# Methods side by side", "", (__doc__ or "").strip(), "", f"Base: {Path(asked.model).name}. Seeds:"]
    lines += [f"{', '.join(map(str, asked.seeds))} on camouflage, {asked.seeds[0]} on real sets; mean ± deviation.", ""]
    lines += table(scenes, asked.model, asked.seeds)
    for name in asked.sets:
        split(asked.data / name, asked.work / name)
        lines += table(asked.work / name, asked.model, asked.seeds[:1])
    asked.output.write_text("\n".join([*lines, described("cpu")]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
