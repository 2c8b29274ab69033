"""Small things in large pictures: the bundled model on whole pictures and on tiles.

    python benchmarks/tiles.py --work WORK
    python benchmarks/tiles.py --work WORK_2048 --side 2048 --pictures 6 1 2 --epochs 4

Pictures of 1024x1024 with 60 discs of radius 4 on texture, little brighter than it. On whole pictures a disc is two
pixels wide in the encoder's input of 256. Both runs see the same number of samples; without a prompt, as nobody draws a
box around each of 60 discs. Writes benchmarks/tiles.md, or WORK/tiles.md of pictures of another side; a second call
goes on where the first stopped.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from machine import described
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train

SIDE, DISCS, RADIUS = 1024, 60, 4
PARTS = ("train", "val", "test")
PICTURES = (12, 1, 6)
TILES_EACH = 8
TABLE = Path(__file__).with_suffix(".md")


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


def trained(work: Path, name: str, epochs: int, **options: Any) -> tuple[Path, float]:
    """The adapter of a run, made if it is not there, and its minutes."""
    output, log = work / name, work / f"{name}.txt"
    if not log.exists():
        began = time.perf_counter()
        train(
            TrainConfig(
                images=work / "train/images",
                masks=work / "train/masks",
                val_images=work / "val/images",
                val_masks=work / "val/masks",
                model="tiny",
                output=output,
                overwrite=output.exists(),
                epochs=epochs,
                prompt="none",
                lr=1e-3,
                workers=0,
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
            **options,
        )
    )
    return found, (time.perf_counter() - began) / len(list((work / "test/images").iterdir()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=14, help="of the run on tiles")
    parser.add_argument("--side", type=int, default=SIDE, help="of the pictures")
    parser.add_argument("--pictures", type=int, nargs=3, default=PICTURES, help="to train, to validate, to test")
    asked = parser.parse_args()
    for part, count in zip(PARTS, asked.pictures, strict=True):
        rng = np.random.default_rng(len(part))
        for index in range(count if not (asked.work / part).exists() else 0):
            write_picture(asked.work / part, f"{index:02}", asked.side, rng)
    whole, whole_minutes = trained(asked.work, "whole", asked.epochs * TILES_EACH, patience=0)
    tiles, tile_minutes = trained(asked.work, "tiles", asked.epochs, tile="auto", tiles_per_image=TILES_EACH)
    rows = []
    for name, adapter, minutes, options in (
        ("whole pictures", whole, whole_minutes, {}),
        ("tiles", tiles, tile_minutes, {}),
        ("trained on tiles, whole pictures scored", tiles, tile_minutes, {"tile": 0}),
    ):
        found, seconds = scored(asked.work, adapter, name.split()[0] + str(len(rows)), **options)
        tile = f"{found['tile']} px, overlap {found['overlap']}" if "tile" in found else "–"
        rows.append(f"| {name} | {tile} | {found['iou']:.3f} | {found['dice']:.3f} | {minutes:.1f} | {seconds:.1f} |")
        print(rows[-1])
    computer = described("cpu")
    head = (
        "# Small things in large pictures\n\n`python benchmarks/tiles.py --work WORK`\n\n"
        f"Pictures of {asked.side}x{asked.side} with {DISCS} discs of radius {RADIUS} on texture, "
        f"{asked.pictures[0]} to train and {asked.pictures[2]} to test, asked without a prompt. "
        f"The bundled model, learning rate 1e-3, {asked.epochs * TILES_EACH * asked.pictures[0]} samples each. "
        f"One seed. {computer}\n\n"
        "| run | tile | IoU | Dice | minutes of training | seconds a picture |\n|---|---|---|---|---|---|\n"
    )
    table = TABLE if asked.side == SIDE else asked.work / "tiles.md"
    table.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
