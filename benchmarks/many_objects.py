"""Time and memory of commands by the number of objects: discs on textured ground, a label map of 16 bits.

    python benchmarks/many_objects.py                               # every cell; prints the table
    python benchmarks/many_objects.py tiles 100 20000               # one cell: command, megapixels, objects
    python benchmarks/many_objects.py --adapter runs/nuclei/adapter # without it one is trained first, for a minute

Each cell is a command in a process of its own: `check`, `train --dry-run`, `predict --prompts` with 500 boxes, and
`predict` without prompts. Seconds are those that the processor worked for it, from the start of Python on; memory is
the peak of the process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

CELLS = [(command, *size) for size in ((1, 300), (100, 20_000)) for command in ("check", "step", "prompts", "tiles")]
TILE = 1024
"""Side of tiles in pixels; a picture of one megapixel is a tile."""
PROMPTS = 500


def write_set(folder: Path, megapixels: int, objects: int) -> None:
    """A square picture with discs at jittered places of a grid, its label map, and boxes of some of the discs."""
    side = round((megapixels * 1e6) ** 0.5)
    rng = np.random.default_rng(0)
    across = int(np.ceil(objects**0.5))
    space = side / across
    labels = np.zeros((side, side), np.uint16)
    boxes = []
    for number in range(1, objects + 1):
        row, column = divmod(number - 1, across)
        radius = int(rng.uniform(0.2, 0.42) * space)
        centre = [int((at + 0.5) * space + rng.uniform(-0.06, 0.06) * space) for at in (column, row)]
        cv2.circle(labels, centre, radius, number, -1)  # pyright: ignore[reportArgumentType, reportCallIssue]
        low, high = (np.clip(np.array(centre) + way * radius, 0, side - 1).tolist() for way in (-1, 1))
        boxes.append([*low, *high])
    grain = rng.integers(-20, 21, (256, 256), dtype=np.int16)
    ground = np.tile(grain, (side // 256 + 1, side // 256 + 1))[:side, :side]
    grey = np.clip(np.where(labels > 0, 170, 70).astype(np.int16) + ground, 0, 255).astype(np.uint8)
    for name, pixels in (("images", cv2.merge([grey] * 3)), ("masks", labels)):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "a.png"), pixels)
    some = rng.permutation(objects)[:PROMPTS]
    (folder / "prompts.json").write_text(json.dumps({"a.png": [{"box": boxes[at]} for at in some]}))


def arguments(command: str, data: Path, output: Path, adapter: Path | None, megapixels: int) -> list[str]:
    """The command line of a cell."""
    pairs = ["--task", "instance", "--images", str(data / "images"), "--masks", str(data / "masks")]
    tile = ["--tile", str(TILE if megapixels > 1 else 0)]
    if command == "check":
        return ["check", *pairs, "--image-size", "256"]
    if command == "step":
        own = ["--model", "tiny", "--val-fraction", "0", "--dry-run", "true", "--workers", "0"]
        return ["train", *pairs, *own, "--output", str(output), *(tile if megapixels > 1 else [])]
    prompts = ["--prompts", str(data / "prompts.json")] if command == "prompts" else []
    source = ["--adapter", str(adapter), "--input", str(data / "images"), "--output", str(output), "--workers", "0"]
    return ["predict", *source, *tile, "--batch-size", "4", *prompts]


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds of the processor and peak memory in GB of a command."""
    child = subprocess.Popen([sys.executable, "-m", "sam_adapter", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"sam-adapter {' '.join(words)} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def trained(folder: Path) -> Path:
    """An adapter that knows the discs."""
    write_set(folder / "small", 1, 300)
    words = arguments("step", folder / "small", folder / "run", None, 1)
    words[words.index("--dry-run") + 1] = "false"
    measured([*words, "--tile", "256", "--tiles-per-image", "200", "--epochs", "1", "--lr", "1e-3"])
    return folder / "run/adapter"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", nargs="*", help="command, megapixels, objects")
    parser.add_argument("--adapter", type=Path)
    given = parser.parse_args()
    cells = [(given.cell[0], int(given.cell[1]), int(given.cell[2]))] if given.cell else CELLS
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        needed = any(command in ("prompts", "tiles") for command, *_ in cells)
        adapter = given.adapter or (trained(folder / "adapter") if needed else None)
        print("| command | megapixels | objects | seconds | GB |\n|---|---|---|---|---|")
        for command, megapixels, objects in cells:
            data = folder / f"{megapixels}-{objects}"
            if not data.exists():
                write_set(data, megapixels, objects)
            output = folder / f"{command}-{megapixels}"
            seconds, memory = measured(arguments(command, data, output, adapter, megapixels))
            print(f"| {command} | {megapixels} | {objects} | {seconds:.1f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
