"""Several classes: one adapter with learned prompts, against one adapter a class, the decoder alone and frozen SAM.

    python benchmarks/classes.py --data FOLDER/neu_seg --work WORK

FOLDER/neu_seg holds images/, masks/, classes.txt, train.txt and test.txt. All runs see the same pictures for as many
epochs with the bundled model, three seeds each. Writes benchmarks/classes.md; a second call goes on where the first
stopped.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from sam_adapter.annotations.class_file import read_class_file
from writing import heading, mean_and_deviation, row

SCORES = ("miou", "miou_with_background", "pixel_accuracy")
ASKED = {"learned prompts": {"prompt": "none"}, "boxes": {"prompt": "box"}}
ASKED["boxes and learned prompts"] = {"prompt": "box", "with_class": "always"}


def linked(data: Path, work: Path) -> None:
    """Links to the pairs of the official split."""
    for part in ("train", "test"):
        for line in (data / f"{part}.txt").read_text().split():
            for kind in ("images", "masks"):
                (source,) = (data / kind).glob(f"{Path(line).stem}.*")
                link = work / part / kind / source.name
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.exists():
                    os.symlink(source.resolve(), link)


def binary_masks(work: Path, name: str, value: int) -> None:
    """Masks of one class alone."""
    for part in ("train", "test"):
        target = work / part / f"masks_{name}"
        target.mkdir(exist_ok=True)
        for path in sorted((work / part / "masks").iterdir()):
            if not (target / path.name).exists():
                Image.fromarray((np.asarray(Image.open(path)) == value).astype(np.uint8) * 255).save(target / path.name)


def trained(work: Path, name: str, epochs: int, seed: int, masks: str = "masks", **options: Any) -> Path:
    """The adapter of a run, which is made if it is not there."""
    output = work / f"{name}_{epochs}_{seed}"
    if not (output / "done").exists():
        train(
            TrainConfig(
                images=work / "train/images",
                masks=work / "train" / masks,
                model="tiny",
                output=output,
                overwrite=output.exists(),
                epochs=epochs,
                seed=seed,
                batch_size=4,
                workers=0,
                lr=1e-3,
                **options,
            )
        )
        (output / "done").touch()
    return output / "adapter"


def scored(work: Path, adapter: Path | None, name: str, masks: str = "masks", **options: Any) -> dict[str, Any]:
    """Scores on the test set, which are made if they are not there."""
    output = work / "scores" / name
    if not (output / "metrics.json").exists():
        evaluate(
            EvaluateConfig(
                adapter=adapter,
                model=None if adapter else "tiny",
                images=work / "test/images",
                masks=work / "test" / masks,
                output=output,
                workers=0,
                **options,
            )
        )
    return json.loads((output / "metrics.json").read_text())


def main() -> None:
    """Run all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    work, classes = given.work.resolve(), given.data.resolve() / "classes.txt"
    linked(given.data.resolve(), work)
    found = read_class_file(classes)
    names = found.names
    semantic: dict[str, Any] = {"task": "semantic", "classes": classes}
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(title: str, scores: dict[str, Any], kind: str) -> None:
        row = {name: scores.get(f"{name}_{kind}") for name in SCORES}
        row |= {name: scores.get(f"iou_{kind}[{name}]") for name in names}
        rows.setdefault(title, []).append(row)
        print(title, {name: round(value, 3) for name, value in row.items() if value is not None}, flush=True)

    for name, (value,) in zip(names, found.values, strict=True):
        binary_masks(work, name, int(value))
    for asked in ({"prompt": "none"}, {"prompt": "box"}):
        add(
            f"frozen, {asked['prompt']}",
            scored(work, None, f"frozen_{asked['prompt']}", **semantic, **asked),
            asked["prompt"],
        )
    for seed in range(given.seeds):
        for method in ("sam_adapter", "decoder"):
            adapter = trained(work, method, given.epochs, seed, method=method, **semantic)
            for title, asked in ASKED.items():
                scores = scored(work, adapter, f"{method}_{given.epochs}_{seed}_{title.replace(' ', '_')}", **asked)
                add(f"{method}, {title}", scores, str(asked["prompt"]))
        single: dict[str, Any] = {}
        for name in names:
            adapter = trained(
                work, f"only_{name}", given.epochs, seed, masks=f"masks_{name}", prompt="none", monitor="mae"
            )
            scores = scored(work, adapter, f"only_{name}_{given.epochs}_{seed}", masks=f"masks_{name}", prompt="none")
            single |= {f"iou_none[{name}]": set_iou(work / "scores" / f"only_{name}_{given.epochs}_{seed}")}
        single["miou_none"] = float(np.mean(list(single.values())))
        add("one binary adapter a class, no prompt", single, "none")
    given.output.write_text("\n".join(lines(rows, names, given.epochs)) + "\n", encoding="utf-8")


def set_iou(scores: Path) -> float:
    """IoU over all pixels of a set, pictures without the class among them."""
    import csv

    with (scores / "per_image.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    right, wrong = (sum(int(row[name]) for row in table for name in some) for some in (("tp",), ("fp", "fn")))
    return right / max(right + wrong, 1)


def lines(rows: dict[str, list[dict[str, Any]]], names: tuple[str, ...], epochs: int) -> list[str]:
    """The page."""
    heads = ["mIoU", "with background", "pixel accuracy", *(f"IoU {name}" for name in names)]
    text = [
        "# Several classes",
        "",
        "`python benchmarks/classes.py --data FOLDER/neu_seg --work WORK`",
        "",
        "Steel surface defects (NEU-Seg, 99 pictures to train, 51 to test, three classes), the bundled model,",
        f"{epochs} epochs, learning rate 1e-3, mean ± standard deviation over seeds. Scores over all pixels of the",
        "test set. With boxes a model is told where each class is; without, it must find and tell them apart.",
        "",
        *heading(["model, asked by", "seeds", *heads]),
    ]
    for title, found in rows.items():
        cells = [mean_and_deviation([one[key] for one in found]) for key in (*SCORES, *names)]
        text.append(row([title, str(len(found)), *cells]))
    return text


if __name__ == "__main__":
    main()
