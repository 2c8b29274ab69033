"""Frozen models on objects that lie close together: each asked for by its own box and by one point.

    python benchmarks/objects.py --data FOLDER/dsb2018_nuclei --models tiny FORMER_WEIGHTS

The folder holds images/ and instances/, label maps of the same names with a number an object, 0 for background. Up
to twelve objects of a picture are asked for, chosen at random; the point is the one farthest from the object's edge.
Prints a table: mean IoU over objects, beside that of the filled box.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_adapter import Predictor, load

MOST = 12
"""Objects of a picture."""
LEAST_PIXELS = 12
"""Smaller objects are not asked for."""
SMALL = 16
"""An object whose longer side is shorter, in pixels of the model's input, is small."""
COLUMNS = ("box", "point", "point, the best by `iou_scores` of three", "small, box", "small, point")


@dataclass(frozen=True)
class Asked:
    """The objects of one picture."""

    masks: NDArray[np.bool_]
    """``(N, H, W)``."""
    boxes: NDArray[np.float64]
    """XYXY, ``(N, 4)``."""
    points: NDArray[np.float64]
    """XY, ``(N, 2)``."""

    @property
    def longer_sides(self) -> NDArray[np.float64]:
        """Of the boxes, as parts of the longer side of the picture, ``(N,)``."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1) / max(self.masks.shape[1:])


def asked_in(labels: NDArray[np.integer], rng: np.random.Generator) -> Asked:
    """Some objects of a label map."""
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)
    numbers = rng.permutation(numbers[areas >= LEAST_PIXELS])[:MOST]
    masks = labels == numbers[:, None, None]
    boxes, points = [], []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        points.append((x + 0.5, y + 0.5))
    return Asked(masks, np.array(boxes, dtype=float).reshape(-1, 4), np.array(points, dtype=float).reshape(-1, 2))


def overlap(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of each pair of masks ``(N, H, W)``."""
    return (found & true).sum(axis=(1, 2)) / np.maximum((found | true).sum(axis=(1, 2)), 1)


def filled(asked: Asked) -> NDArray[np.bool_]:
    """The boxes as masks."""
    masks = np.zeros_like(asked.masks)
    for mask, (left, top, right, bottom) in zip(masks, asked.boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    return masks


def pictures(data: Path) -> Iterator[tuple[Path, Asked]]:
    """Each picture that has objects, with those asked for."""
    rng = np.random.default_rng(0)
    labels = {path.stem: path for path in (data / "instances").iterdir()}
    for image in sorted((data / "images").iterdir()):
        asked = asked_in(np.asarray(Image.open(labels[image.stem])), rng)
        if len(asked.masks):
            yield image, asked


def scores(model: str, data: Path) -> list[float]:
    """Mean IoU for each of `COLUMNS`."""
    predictor = Predictor(load(model=model), device="cpu")
    rows, sides = [], []
    for image, asked in pictures(data):
        predictor.set_image(image)
        by_box = overlap(predictor.predict(box=asked.boxes).masks.numpy(), asked.masks)
        for mask, point, box_score in zip(asked.masks, asked.points, by_box, strict=True):
            single = predictor.predict(points=[point]).masks.numpy()
            three = predictor.predict(points=[point], multimask=True)
            best = three.masks.numpy()[[int(three.iou_scores.argmax())]]
            rows.append((box_score, overlap(single, mask[None])[0], overlap(best, mask[None])[0]))
        sides.append(asked.longer_sides)
    table, small = np.array(rows), np.concatenate(sides) * predictor.segmenter.preprocessing.image_size < SMALL
    return [*table.mean(axis=0), *table[small, :2].mean(axis=0)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["tiny"])
    options = parser.parse_args()
    boxes = np.concatenate([overlap(filled(asked), asked.masks) for _, asked in pictures(options.data)])
    print(f"{len(boxes)} objects\n\n| model | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    print(f"| fill the box | {boxes.mean():.3f} |" + " – |" * (len(COLUMNS) - 1))
    for model in options.models:
        print(f"| {model} | " + " | ".join(f"{value:.3f}" for value in scores(model, options.data)) + " |", flush=True)


if __name__ == "__main__":
    main()
