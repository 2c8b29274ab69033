"""Draw docs/demo.png from a finished demo: image, ground truth, frozen SAM and SAM-Adapter, side by side.

Run: `sam-adapter demo --output demo`, then `python tools/readme_picture.py demo docs/demo.png`.
"""

import csv
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from sam_adapter import Predictor, load
from sam_adapter.annotations.reading.files import read_image, read_mask
from sam_adapter.report.drawing import overlay

COLUMNS = ("image", "ground truth", "SAM, frozen, no prompt", "SAM-Adapter, no prompt")
SIDE, GAP, TOP = 200, 8, 22


def median_scenes(demo: Path, count: int) -> list[str]:
    """Names of scenes around the median of the adapter's IoU without a prompt: neither the best nor the worst."""
    table = next((demo / "scores").glob("sam_adapter*none*/per_image.csv"))
    ranked = sorted(csv.DictReader(table.open()), key=lambda row: float(row["iou"]))
    start = (len(ranked) - count) // 2
    return [row["name"] for row in ranked[start : start + count]]


def main(demo: Path, target: Path, count: int = 3) -> None:
    """Draw the picture."""
    test = demo / "scenes/camouflage_test"
    adapted = next((demo / "runs").glob("sam_adapter*/adapter"))
    predictors = [Predictor(load(model="tiny")), Predictor(load(adapted))]
    names = median_scenes(demo, count)
    sheet = Image.new("RGB", (4 * (SIDE + GAP) - GAP, TOP + count * (SIDE + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        pen.text((column * (SIDE + GAP) + 4, 4), title, fill="black")
    for row, name in enumerate(names):
        image = read_image(test / "images" / f"{name}.png")
        mask, _ = read_mask(test / "masks" / f"{name}.png")
        panels = [image, overlay(image, mask)]
        for predictor in predictors:
            predictor.set_image(image)
            panels.append(overlay(image, predictor.predict().masks[0].numpy()))
        for column, panel in enumerate(panels):
            place = (column * (SIDE + GAP), TOP + row * (SIDE + GAP))
            sheet.paste(Image.fromarray(panel).resize((SIDE, SIDE), Image.Resampling.LANCZOS), place)
    sheet.quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
