"""How much of an epoch is spent waiting for data, by task and source.

    python benchmarks/waiting.py --data FOLDER --work WORK

FOLDER holds kvasir_seg/, neu_seg/ and dsb2018_nuclei/ with images/ and masks/ (instances/ for the last), and neu_seg's
classes.txt. Sources that are not there are made from these in WORK: a table, a folder a class, a folder an image, COCO
files, and one COCO file of 50,000 annotations. Each case is a run of two epochs with the bundled model; the second one
is measured. Waiting is the time between asking the loader for a batch and having it: without workers all reading is,
with one worker what the reading takes longer than the step. Writes benchmarks/waiting.md.
"""

import argparse
import csv
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from machine import described
from sam_adapter import TrainConfig, train
from sam_adapter.annotations.class_file import read_class_file
from sam_adapter.annotations.export import write_coco
from sam_adapter.annotations.listing import Record
from sam_adapter.annotations.objects import AnnotatedObject
from sam_adapter.annotations.run_lengths import run_lengths_of
from sam_adapter.data.loading import ResumableLoader

MOST = 60
"""Pictures of a case."""


def some_pairs(data: Path, masks: str, work: Path) -> list[tuple[Path, Path]]:
    """Links to the first pairs of a set, below ``work/images`` and ``work/masks``."""
    pairs = []
    for image in sorted((data / "images").iterdir())[:MOST]:
        (mask,) = (data / masks).glob(f"{image.stem}.*")
        for source, kind in ((image, "images"), (mask, "masks")):
            link = work / kind / source.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink(source.resolve(), link)
        pairs.append((work / "images" / image.name, work / "masks" / mask.name))
    return pairs


def coco_of(pairs: list[tuple[Path, Path]], path: Path, names: tuple[str, ...], class_of: Callable[[int], str]) -> None:
    """A COCO file of run lengths: an annotation for each value of each mask."""
    records, sizes = [], {}
    for image, mask in pairs:
        labels = np.asarray(Image.open(mask)).astype(np.int32)
        objects = [
            AnnotatedObject(
                class_name=class_of(number),
                run_lengths={"size": one["size"], "counts": one["counts"].encode()},
            )
            for number, one in run_lengths_of(labels).items()
        ]
        records.append(Record(image.stem, image, mask, objects=tuple(objects)))
        sizes[image.stem] = labels.shape
    write_coco(path, records, sizes, names)


def table_of(pairs: list[tuple[Path, Path]], path: Path) -> None:
    """A table of images and masks."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask"])
        writer.writerows([os.path.relpath(one, path.parent) for one in pair] for pair in pairs)


def files_of(pairs: list[tuple[Path, Path]], folder: Path, place: Callable[[str, int], str]) -> None:
    """A mask file for each value of each mask."""
    for _, mask in pairs:
        labels = np.asarray(Image.open(mask))
        for value in np.unique(labels[labels > 0]).tolist():
            file = folder / place(mask.stem, value)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((labels == value).astype(np.uint8) * 255).save(file)


def cases(data: Path, work: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Task, source, and the options of a run."""
    binary, classes, objects = work / "binary", work / "classes", work / "objects"
    pairs = some_pairs(data / "kvasir_seg", "masks", binary)
    own = {"images": binary / "images", "masks": binary / "masks"}
    yield "binary", "masks", own
    yield "binary", "masks, tiles of 256", {**own, "tile": 256, "tiles_per_image": 1}
    table_of(pairs, binary / "pairs.csv")
    yield "binary", "table", {"table": binary / "pairs.csv"}
    pairs = some_pairs(data / "neu_seg", "masks", classes)
    file = data / "neu_seg/classes.txt"
    found = read_class_file(file)
    semantic: dict[str, Any] = {"task": "semantic", "images": classes / "images"}
    yield "semantic", "masks", {**semantic, "masks": classes / "masks", "classes": file}
    values = {int(value): name for name, (value,) in zip(found.names, found.values, strict=True)}
    files_of(pairs, classes / "folders", lambda stem, value: f"{values[value]}/{stem}.png")
    layout = {"masks": classes / "folders", "mask_layout": "folder_per_class"}
    yield "semantic", "a folder a class", {**semantic, **layout}
    coco_of(pairs, classes / "coco.json", found.names, lambda number: values[number])
    yield "semantic", "COCO", {**semantic, "annotations": classes / "coco.json"}
    pairs = some_pairs(data / "dsb2018_nuclei", "instances", objects)
    instance: dict[str, Any] = {"task": "instance", "images": objects / "images", "masks": objects / "masks"}
    yield "instance", "label maps", instance
    yield "instance", "label maps, tiles of 128", {**instance, "tile": 128, "tiles_per_image": 1}
    files_of(pairs, objects / "files", lambda stem, value: f"{stem}/{value}.png")
    layout = {"masks": objects / "files", "mask_layout": "folder_per_image"}
    yield "instance", "a file an object", {**instance, **layout}
    coco_of(pairs, objects / "coco.json", ("nucleus",), lambda _: "nucleus")
    yield "instance", "COCO", {**instance, "masks": None, "annotations": objects / "coco.json"}
    large = import_module("annotations").write_set(work / "large", 5000, 10, 40)
    yield "semantic", "COCO, 50,000 annotations", {**semantic, "images": work / "large/images", "annotations": large}


class EnoughError(Exception):
    """Enough steps were measured."""


def waited(options: dict[str, Any], work: Path, workers: int, steps: int) -> tuple[float, float]:
    """Seconds of some steps after the first epoch, or after as many, and of the waiting among them."""
    ready = ResumableLoader.__iter__
    times: list[tuple[float, float]] = []

    def timed(loader: ResumableLoader) -> Iterator[Any]:
        batches = ready(loader)
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            times.append((began, time.perf_counter()))
            if len(times) > 2 * steps:
                raise EnoughError
            yield batch

    ResumableLoader.__iter__ = timed  # pyright: ignore[reportAttributeAccessIssue]
    try:
        train(
            TrainConfig(
                output=work,
                model="tiny",
                epochs=100,
                batch_size=4,
                val_fraction=0,
                workers=workers,
                overwrite=work.exists(),
                **options,
            )
        )
    except EnoughError:
        pass
    finally:
        ResumableLoader.__iter__ = ready
    own = times[steps:]
    return own[-1][0] - own[0][0], sum(end - begin for begin, end in own[:-1])


def main() -> None:
    """Measure all cases and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    lines = ["# Waiting for data", "", (__doc__ or "").strip(), ""]
    lines += ["| task | source | seconds a step | waiting, no worker | waiting, one worker |", "|---|---|---|---|---|"]
    for task, source, options in cases(given.data.resolve(), given.work.resolve()):
        shares = []
        step = 0.0
        for workers in (0, 1):
            whole, waiting = waited(options, given.work / "run", workers, given.steps)
            step = step or whole / given.steps
            shares.append(f"{waiting / whole:.1%}")
        lines.append(f"| {task} | {source} | {step:.2f} | {shares[0]} | {shares[1]} |")
        print(lines[-1], flush=True)
    shutil.rmtree(given.work / "run", ignore_errors=True)
    given.output.write_text("\n".join([*lines, "", described("cpu")]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
