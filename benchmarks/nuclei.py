"""Objects that lie close together: nuclei asked for by box, by point and without a prompt, whole and in tiles.

    python benchmarks/nuclei.py --data FOLDER/dsb2018_nuclei --work WORK                       # three seeds
    python benchmarks/nuclei.py --data ... --work WORK --former FOLDER_OF_FORMER_WEIGHTS       # and one of those
    python benchmarks/nuclei.py --data ... --work WORK --longer 10                             # and longer, with tiles
    python benchmarks/nuclei.py --data ... --work WORK --table           # only write the table of what is there

Objects are split as each adapter says, by what was best on the pictures that its training was validated with.
FOLDER holds images/ and instances/ of the same names; sorted by name every fifth is a test picture. All runs have equal
steps: an epoch in tiles draws several a picture, so that runs on whole pictures have more epochs. Of whole pictures the
decoder alone is given kept embeddings, so that nothing is augmented. Beside them stand the frozen model, the filled
box, and Otsu's threshold split by the watershed of its distance transform. Writes benchmarks/nuclei.md; a run whose
scores are there is not done again, so a call can be stopped and repeated.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from machine import described
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from writing import heading, mean_and_deviation, row

TILE = 128
EPOCHS = 6
WHOLE_EPOCHS = 35
"""As many steps as EPOCHS in tiles."""
METHODS = ("sam_adapter", "decoder")
COLUMNS = {
    "iou_box": "IoU box",
    "iou_points": "IoU point",
    "iou_none": "IoU foreground",
    "ap50": "AP50",
    "f1": "F1",
    "aji": "AJI",
    "pq": "PQ",
    "object_iou_box_images": "IoU box, mean over pictures",
    "f1_images": "F1, mean over pictures",
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        weights: Heading of the base.
        model: Of the base.
        method: Of adaptation.
        tile: Side in pixels, 0 for whole pictures.
        epochs: Of training.
        seed: Of the run.
    """

    weights: str
    model: str
    method: str
    tile: int
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.weights}_{self.method}_{self.tile}_{self.epochs}_{self.seed}"

    @property
    def asked(self) -> str:
        """How pictures are seen."""
        return f"tiles of {self.tile}" if self.tile else "whole"


def parted(data: Path, work: Path) -> None:
    """Links to the pictures and label maps of each part."""
    for number, picture in enumerate(sorted((data / "images").iterdir())):
        part = "test" if number % 5 == 4 else "train"
        for kind, path in (("images", picture), ("masks", data / "instances" / picture.name)):
            link = work / part / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink(path.resolve(), link)


def trained(work: Path, run: Run, output: Path) -> None:
    """Train once, over what an interrupted call left."""
    train(
        TrainConfig(
            task="instance",
            images=work / "train/images",
            masks=work / "train/masks",
            output=output,
            overwrite=output.exists(),
            model=run.model,
            method=run.method,
            tile=run.tile or None,
            embedding_cache=work / "embeddings" if run.method == "decoder" and not run.tile else None,
            epochs=run.epochs,
            batch_size=4,
            workers=0,
            lr=1e-3,
            seed=run.seed,
        )
    )


def trained_and_scored(work: Path, run: Run) -> None:
    """Train once and score beside the frozen base, but for what is there."""
    output, scores = work / run.name, work / f"{run.name}_scores"
    if (scores / "metrics.json").exists():
        return
    if not (output / "trained.txt").exists():
        trained(work, run, output)
        (output / "trained.txt").touch()
    evaluate(
        EvaluateConfig(
            images=work / "test/images",
            masks=work / "test/masks",
            adapter=output / "adapter",
            prompt="mixed",
            with_frozen=run.seed == 0,
            workers=0,
            output=scores,
        )
    )


def rows_of(work: Path, runs: list[Run]) -> Iterator[str]:
    """Rows of the table of the runs that are there; a configuration has the mean over its seeds ± their deviation."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        path = work / f"{run.name}_scores" / "metrics.json"
        if not path.exists():
            continue
        scores = json.loads(path.read_text())
        if "frozen" in scores:
            found.setdefault((run.weights, "frozen", run.asked, "–"), [scores["frozen"]])
        found.setdefault((run.weights, run.method, run.asked, str(run.epochs)), []).append(scores)
        for name, title in (("fill_box", "fill the box"), ("otsu", "Otsu's threshold, watershed")):
            if name in scores.get("baselines", {}):
                found.setdefault(("–", title, "whole", "–"), [scores["baselines"][name]])
    for key, scores in sorted(found.items()):
        cells = [mean_and_deviation([one.get(column) for one in scores]) for column in COLUMNS]
        yield row([*key, str(len(scores)), *cells])


def main() -> None:
    """Do what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--former", type=Path, help="folder of other weights, one seed")
    parser.add_argument("--longer", type=int, help="epochs of a longer run of the SAM-Adapter in tiles")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--tiles", type=int, nargs="+", default=[TILE, 0], help="sides; 0 takes pictures whole")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    parted(asked.data.resolve(), asked.work.resolve())
    runs: list[Run] = []
    for seed in asked.seeds:
        for weights, model in (("tiny", "tiny"), ("former tiny", str(asked.former)))[: 2 if asked.former else 1]:
            for method in METHODS if model == "tiny" or seed == 0 else ():
                runs += [
                    Run(weights, model, method, TILE, EPOCHS, seed),
                    Run(weights, model, method, 0, WHOLE_EPOCHS, seed),
                ]
    if asked.longer:
        runs += [Run("tiny", "tiny", "sam_adapter", TILE, asked.longer, seed) for seed in asked.seeds]
    runs.sort(key=lambda run: (run.weights != "tiny", run.method != "sam_adapter", not run.tile))
    wanted = [run for run in runs if run.method in asked.methods and run.tile in asked.tiles]
    for run in () if asked.table else wanted:
        trained_and_scored(asked.work.resolve(), run)
    heads = ["weights", "method", "pictures", "epochs", "seeds", *COLUMNS.values()]
    lines = ["# Nuclei, one mask an object", "", (__doc__ or "").strip(), ""]
    lines += [*heading(heads), *rows_of(asked.work.resolve(), runs)]
    asked.output.write_text("\n".join([*lines, "", described("cpu")]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
