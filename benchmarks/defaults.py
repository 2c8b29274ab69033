"""Which defaults for loss, warm-up, averaging, prompts and selection? Tried on four real sets with the bundled model.

    python benchmarks/defaults.py --data FOLDER --work WORK                       # every configuration, one seed
    python benchmarks/defaults.py --data FOLDER --work WORK --finalists present mixed --seeds 0 1 2
    python benchmarks/defaults.py --data FOLDER --work WORK --table               # only write benchmarks/defaults.md

FOLDER holds the sets kvasir_seg, shadow, dsb2018_nuclei and neu_seg, each with images/ and masks/. Sorted by name,
every fifth pair is the test set, which no choice here sees. Of the others every fifth is scored; training, and the
validation by which it keeps an epoch, have the rest. Pictures are shrunk to 320 pixels at most, as the model sees 256.
What is done is not done again, so a call can be stopped and repeated; two calls with the same WORK share the work.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.checkpoints.adapter import WEIGHTS_FILE

SETS = ("kvasir_seg", "shadow", "dsb2018_nuclei", "neu_seg")
KINDS = ("box", "points", "none")
LONGEST_SIDE = 320
COMMON: dict[str, Any] = {
    "model": "tiny",
    "method": "sam_adapter",
    "epochs": 10,
    "batch_size": 4,
    "lr": 1e-3,
    "workers": 0,
}
FIRST: dict[str, Any] = {
    "loss": "bce+iou",
    "warmup": 0.05,
    "ema": 0.0,
    "prompt": "mixed",
    "prompts_per_image": 1,
    "monitor": "iou",
    "val_fraction": 0.1,
}
"""The defaults before these trials, but for the prompt, which was a box."""
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "box": {"prompt": "box"},
    "mixed": {},
    "dice": {"loss": "bce+dice"},
    "balanced": {"loss": "balanced_bce+iou"},
    "warmup": {"warmup": 0.2},
    "ema": {"ema": 0.95},
    "three": {"prompts_per_image": 3},
    "three_ema": {"prompts_per_image": 3, "ema": 0.95},
    "three_ema_fifth": {"prompts_per_image": 3, "ema": 0.95, "val_fraction": 0.2},
}
"""What each trial changes of `FIRST`."""

CHOSEN = (
    "Chosen from these: prompts `mixed`, three of them a step (`three`). It scores above one prompt a step by",
    "more than the spread of the seeds, and its kept adapter is above the frozen base with every prompt on every",
    "set. An average of the weights (`ema`) only helped where one prompt was drawn a step, by steadying which",
    "epoch is kept; with three it adds nothing, so it stays off. The Dice loss made no difference where it was",
    "run. Keeping the best epoch by validation and keeping the last are equal within the spread with three",
    "prompts; the best is kept, as longer runs can overfit. Trials without a row were not finished on all sets.",
    "Two CPU cores (AMD EPYC) were shared with other work, so the seconds compare nothing; 2026-11-25.",
)
"""What the table led to."""


def prepare(source: Path, target: Path) -> None:
    """Small copies of a set's pairs below ``train``, ``scored`` and ``test``; any class of a mask is foreground."""
    if (target / "done").exists():
        return
    position = 0
    for index, record in enumerate(list_pairs(source / "images", source / "masks").records):
        part = "test" if index % 5 == 4 else "train"
        if part == "train":
            position += 1
            part = "scored" if position % 5 == 0 else "train"
        image, mask = Image.open(record.image).convert("RGB"), Image.open(record.mask)
        scale = min(LONGEST_SIDE / max(image.size), 1)
        size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        foreground = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
        for kind, picture in (
            ("images", image.resize(size, Image.Resampling.LANCZOS)),
            ("masks", foreground.resize(size, Image.Resampling.NEAREST)),
        ):
            path = target / part / kind / f"{record.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    (target / "done").touch()


def trial(data: Path, run: Path, changes: dict[str, Any], seed: int) -> None:
    """Train once; score the kept and the last epoch's adapter with each kind of prompt on the scored pictures."""
    began = time.perf_counter()
    train(
        TrainConfig(
            images=data / "train/images",
            masks=data / "train/masks",
            output=run,
            seed=seed,
            overwrite=True,
            **{**COMMON, **FIRST, **changes},
        )
    )
    seconds = time.perf_counter() - began
    _adapter_of_last_epoch(run)
    result: dict[str, Any] = {"seconds": seconds}
    for name in ("adapter", "last"):
        result[name] = scores(data / "scored", run / f"scores_{name}", adapter=run / name)
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")


def _adapter_of_last_epoch(run: Path) -> None:
    """The adapter folder again, with the weights of last.ckpt."""
    last = run / "last"
    last.mkdir(exist_ok=True)
    for path in (run / "adapter").iterdir():
        if path.suffix == ".json":
            (last / path.name).write_bytes(path.read_bytes())
    checkpoint = torch.load(run / "last.ckpt", weights_only=False)
    state = {name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}
    save_file(state, last / WEIGHTS_FILE)


def scores(data: Path, output: Path, **model: Any) -> dict[str, float]:
    """Mean IoU of a model for each kind of prompt."""
    found = {}
    for kind in KINDS:
        config = EvaluateConfig(
            images=data / "images",
            masks=data / "masks",
            prompt=kind,
            batch_size=4,
            output=output / kind,
            workers=0,
            **model,
        )
        found[kind] = evaluate(config)["iou"]
    return found


def plain(data: Path) -> dict[str, float]:
    """Mean IoU without any network: the filled box, and Otsu's threshold, the better of its two sides over the set."""
    import cv2

    filled, bright, dark = [], [], []
    for path in sorted((data / "masks").iterdir()):
        truth = np.asarray(Image.open(path)) > 0
        if not truth.any():
            continue
        grey = np.asarray(Image.open(data / "images" / path.name).convert("L"))
        x, y, width, height = cv2.boundingRect(truth.astype(np.uint8))
        box = np.zeros_like(truth)
        box[y : y + height, x : x + width] = True
        level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        for values, mask in ((filled, box), (bright, grey > level), (dark, grey <= level)):
            values.append(float((mask & truth).sum() / (mask | truth).sum()))
    return {"box": mean(filled), "none": max(mean(bright), mean(dark))}


def claimed(work: Path, names: list[str], seeds: list[int]) -> Iterator[tuple[str, str, int, Path]]:
    """Trials that nobody has done or begun; a second process with the same folder takes others."""
    for seed in seeds:
        for name in names:
            for data in SETS:
                run = work / "runs" / f"{data}_{name}_{seed}"
                if (run / "result.json").exists():
                    continue
                run.mkdir(parents=True, exist_ok=True)
                owner = run / "owner"
                if owner.exists() and _alive(int(owner.read_text())):
                    continue
                owner.write_text(str(os.getpid()))
                yield name, data, seed, run


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return process != os.getpid()


def write_table(work: Path, output: Path) -> None:
    """All results so far as Markdown."""
    lines = [*_head(), "", "| trial | " + " | ".join(SETS) + " | mean | s |", "|---" * (len(SETS) + 3) + "|"]
    baselines = json.loads((work / "baselines.json").read_text())
    for name in ("fill the box, Otsu's threshold", "frozen"):
        cells = [_triple([baselines[data][name]]) for data in SETS]
        lines.append(f"| {name} | {' | '.join(cells)} | {_triple([baselines[data][name] for data in SETS])} | 0 |")
    for name in CONFIGURATIONS:
        for kept in ("adapter", "last"):
            lines += _row(work, name, kept)
    output.write_text("\n".join([*lines, "", *CHOSEN]) + "\n")


def _head() -> list[str]:
    common = ", ".join(f"{name} {value}" for name, value in {**COMMON, **FIRST}.items())
    changes = [f"- `{name}`: {json.dumps(change) if change else 'nothing'}" for name, change in CONFIGURATIONS.items()]
    return [
        "# Defaults, chosen on validation pictures",
        "",
        (__doc__ or "").strip(),
        "",
        "Each cell: IoU with box / point / no prompt on the scored pictures. `kept` is the adapter of the best epoch",
        "by the run's own validation, `last` that of the last epoch. Where a trial has several seeds, their mean ± the",
        "standard deviation of the mean over sets and kinds.",
        "",
        f"All trials: {common}. What each changes:",
        "",
        *changes,
    ]


def _row(work: Path, name: str, kept: str) -> list[str]:
    cells, means, seconds = [], {}, []
    for data in SETS:
        found = {}
        for path in sorted((work / "runs").glob(f"{data}_{name}_[0-9]*/result.json")):
            result = json.loads(path.read_text())
            found[path.parent.name.rsplit("_", 1)[1]] = result[kept]
            seconds.append(result["seconds"])
        if not found:
            return []
        cells.append(_triple(list(found.values())))
        for seed, one in found.items():
            means.setdefault(seed, []).append(mean(one.values()))
    whole = [mean(values) for values in means.values() if len(values) == len(SETS)]
    spread = f" ± {stdev(whole):.3f} ({len(whole)} seeds)" if len(whole) > 1 else ""
    label = "kept" if kept == "adapter" else "last"
    return (
        [f"| {name}, {label} | {' | '.join(cells)} | {mean(whole):.3f}{spread} | {mean(seconds):.0f} |"]
        if whole
        else []
    )


def _triple(found: list[dict[str, float]]) -> str:
    cells = []
    for kind in KINDS:
        values = [one[kind] for one in found if kind in one]
        cells.append(f"{mean(values):.3f}" if values else "–")
    return " / ".join(cells)


def main() -> None:
    """Do what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--finalists", nargs="+", default=list(CONFIGURATIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in SETS:
        prepare(arguments.data / name, arguments.work / "data" / name)
    baselines = arguments.work / "baselines.json"
    if not baselines.exists():
        found = {}
        for name in SETS:
            data = arguments.work / "data" / name / "scored"
            frozen = scores(data, arguments.work / "frozen" / name, model=COMMON["model"])
            found[name] = {"fill the box, Otsu's threshold": plain(data), "frozen": frozen}
        baselines.write_text(json.dumps(found, indent=2) + "\n")
    if not arguments.table:
        for name, data, seed, run in claimed(arguments.work, arguments.finalists, arguments.seeds):
            trial(arguments.work / "data" / data, run, CONFIGURATIONS[name], seed)
            print(name, data, seed, (run / "result.json").read_text(), flush=True)
    write_table(arguments.work, arguments.output)


if __name__ == "__main__":
    main()
