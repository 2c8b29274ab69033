"""Small things in large pictures: the bundled model on whole pictures and on tiles.

    python benchmarks/tiles.py --work WORK
    python benchmarks/tiles.py --work WORK_2048 --side 2048 --pictures 6 1 2 --epochs 4
    python benchmarks/tiles.py --work WORK_REAL --data FOLDER/neu_seg --tile 100 --tiles-each 4 --epochs 6

Pictures of 1024x1024 with 60 discs of radius 4 on texture, little brighter than it. On whole pictures a disc is two
pixels wide in the encoder's input of 256. Both runs see the same number of samples; without a prompt, as nobody draws a
box around each of 60 discs. FOLDER/neu_seg holds images/ and masks/; sorted by name every fifth is a test picture.
Writes benchmarks/tiles.md, or WORK/tiles.md of other pictures; a second call goes on where the first stopped.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from machine import described
from real_data import split
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from writing import heading, row

SIDE, DISCS, RADIUS = 1024, 60, 4
PARTS = ("train", "val", "test")
PICTURES = (12, 1, 6)
TILES_EACH = 8
TABLE = Path(__file__).with_suffix(".md")
MASKS: dict[str, Any] = {"mask_rule": "nonzero"}
"""Classes of a real set count as foreground together."""


def texture(side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of several scales, ``(side, side)`` float32 about 110."""
    found = np.full((side, side), 110, np.float32)
    for sigma, strength in ((1, 9), (3, 9), (12, 14), (60, 18)):
        noise = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), sigma)
        found += strength * noise / noise.std()
    return found


def write_picture(folder: Path, name: str, side: int, rng: np.random.Generator) -> None:
    """A picture and its mask."""
    mask = np.zeros((side, side), np.uint8)
    for x, y in rng.integers(2 * RADIUS, side - 2 * RADIUS, (DISCS, 2)).tolist():
        cv2.circle(mask, (x, y), RADIUS, 255, -1)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 1)
    grey = texture(side, rng) + 40 * soft
    picture = np.stack([grey + shift for shift in (4, 0, -6)], -1).clip(0, 255).astype(np.uint8)
    for kind, pixels in (("images", picture), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")


def own_validation(work: Path) -> dict[str, Path]:
    """Pictures to validate on, where there are any apart from those to train on."""
    folder = work / "val"
    return {"val_images": folder / "images", "val_masks": folder / "masks"} if folder.exists() else {}


def trained(work: Path, name: str, epochs: int, **options: Any) -> tuple[Path, float]:
    """The adapter of a run, made if it is not there, and its minutes."""
    output, log = work / name, work / f"{name}.txt"
    if not log.exists():
        began = time.perf_counter()
        train(
            TrainConfig(
                images=work / "train/images",
                masks=work / "train/masks",
                model="tiny",
                output=output,
                overwrite=output.exists(),
                epochs=epochs,
                prompt="none",
                lr=1e-3,
                workers=0,
                **own_validation(work),
                **MASKS,
                **options,
            )
        )
        log.write_text(f"{(time.perf_counter() - began) / 60:.1f}")
    return output / "adapter", float(log.read_text())


def scored(work: Path, adapter: Path, name: str, **options: Any) -> tuple[dict[str, Any], float]:
    """Scores on the test pictures, and seconds a picture."""
    began = time.perf_counter()
    found = evaluate(
        EvaluateConfig(
            images=work / "test/images",
            masks=work / "test/masks",
            adapter=adapter,
            output=work / f"scores_{name}",
            prompt="none",
            batch_size=8,
            workers=0,
            **MASKS,
            **options,
        )
    )
    return found, (time.perf_counter() - began) / len(list((work / "test/images").iterdir()))


def main() -> None:
    """Make the pictures, train and score what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=14, help="of the run on tiles")
    parser.add_argument("--side", type=int, default=SIDE, help="of the pictures")
    parser.add_argument("--pictures", type=int, nargs=3, default=PICTURES, help="to train, to validate, to test")
    parser.add_argument("--data", type=Path, help="a real set instead of discs")
    parser.add_argument("--tile", default="auto", help="side of tiles in pixels")
    parser.add_argument("--tiles-each", type=int, default=TILES_EACH, help="of a picture in an epoch")
    asked = parser.parse_args()
    if asked.data:
        split(asked.data, asked.work)
    for part, count in zip(PARTS if not asked.data else (), asked.pictures, strict=False):
        rng = np.random.default_rng(len(part))
        for index in range(count if not (asked.work / part).exists() else 0):
            write_picture(asked.work / part, f"{index:02}", asked.side, rng)
    tile: Any = asked.tile if asked.tile == "auto" else int(asked.tile)
    whole, whole_minutes = trained(asked.work, "whole", asked.epochs * asked.tiles_each, patience=0)
    tiles, tile_minutes = trained(asked.work, "tiles", asked.epochs, tile=tile, tiles_per_image=asked.tiles_each)
    rows = []
    for name, adapter, minutes, options in (
        ("whole pictures", whole, whole_minutes, {}),
        ("tiles", tiles, tile_minutes, {}),
        ("trained on tiles, whole pictures scored", tiles, tile_minutes, {"tile": 0}),
    ):
        found, seconds = scored(asked.work, adapter, name.split()[0] + str(len(rows)), **options)
        seen = f"{found['tile']} px, overlap {found['overlap']}" if "tile" in found else "–"
        rows.append(
            row([name, seen, f"{found['iou']:.3f}", f"{found['dice']:.3f}", f"{minutes:.1f}", f"{seconds:.1f}"])
        )
        print(rows[-1], flush=True)
    table = TABLE if asked.side == SIDE and not asked.data else asked.work / "tiles.md"
    table.write_text(
        "\n".join(
            [
                "# Small things in large pictures",
                "",
                about(asked.work, None if asked.data else asked.side, asked.epochs * asked.tiles_each),
                "",
                *heading(["run", "tile", "IoU", "Dice", "minutes of training", "seconds a picture"]),
                *rows,
            ]
        )
        + "\n",
        encoding="utf-8",
    )


def about(work: Path, side: int | None, epochs: int) -> str:
    """What was done, for above the table; no side is that of a real set."""
    training, test = (len(list((work / part / "images").iterdir())) for part in ("train", "test"))
    what = f"{side}x{side} with {DISCS} discs of radius {RADIUS} on texture" if side else "a real set"
    return (
        f"Pictures of {what}, {training} to train and {test} to test, asked without a prompt. The bundled model, "
        f"learning rate 1e-3, {epochs * training} samples each. One seed. {described('cpu')}"
    )


if __name__ == "__main__":
    main()
