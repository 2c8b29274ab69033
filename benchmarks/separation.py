"""Which second map keeps objects apart that touch: cores, the distance to the edge, or borders.

    python benchmarks/separation.py --data DATA --work WORK

DATA has train/images, train/masks, test/images and test/masks, masks with a number an object. One adapter is trained
to answer all maps, each by a learned prompt of its own, so that nothing but the map differs; the foreground is then
split by each of them. The distance is normalised to the largest one in its object, and has no overlap loss, which
would push it to 0 and 1; borders are pixels that have another label within two pixels.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam_adapter import Predictor, TrainConfig, load, train
from sam_adapter.batch import Annotation, Batch
from sam_adapter.config import registry
from sam_adapter.tasks import instance
from sam_adapter.tasks.metrics.objects import ObjectMetrics
from sam_adapter.tasks.object_prediction import ObjectPrediction
from sam_adapter.tasks.splitting import split_objects
from sam_adapter.training.lightning_module import TrainingModule
from sam_adapter.training.losses.base import WeightedLosses

DISTANCE, BORDERS = -3, -4
"""What queries for the added maps ask for."""
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Of the second map."""


def distance_map(labels: np.ndarray) -> np.ndarray:
    """Distance to the edge over the largest in the same object, ``(H, W)`` float32."""
    found = np.zeros(labels.shape, np.float32)
    for number in np.unique(labels[labels > 0]).tolist():
        mask = np.pad((labels == number).astype(np.uint8), 1, mode="edge")
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        found += np.where(labels == number, depth / max(float(depth[labels == number].max()), 1), 0)
    return found


def border_map(labels: np.ndarray) -> np.ndarray:
    """Where another label is within two pixels, ``(H, W)`` bool."""
    window = np.ones((5, 5), np.uint8)
    values = labels.astype(np.float32)
    return cv2.dilate(values, window) != cv2.erode(values, window)


def with_more_maps() -> None:
    """Teach the package the added maps, in this process."""
    registry.TASKS["instance"] = replace(  # pyright: ignore[reportIndexIssue]
        registry.TASKS["instance"], questions=("foreground", "cores", "distance", "borders")
    )
    instance.MAPS = (*instance.MAPS, DISTANCE, BORDERS)
    usual, losses, terms = Annotation.target, TrainingModule.losses, WeightedLosses.terms
    makers: dict[int, Callable[[np.ndarray], np.ndarray]] = {DISTANCE: distance_map, BORDERS: border_map}
    asked: list[Batch] = []

    def target(self: Annotation, label: int, rows: slice = slice(None)) -> Tensor:
        if label not in makers:
            return usual(self, label, rows)
        return torch.from_numpy(makers[label](self.labels.cpu().numpy()))[rows]

    def remembered(self: TrainingModule, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        asked[:] = [batch]
        found = losses(self, batch)
        asked.clear()
        return found

    def without_overlap(self: WeightedLosses, sums: Tensor) -> dict[str, Tensor]:
        found = terms(self, sums)
        if asked:
            mask = torch.tensor([query.label == DISTANCE for query in asked[0].queries])
            found["iou"] = found["iou"].masked_fill(mask, 0)
        return found

    Annotation.target, TrainingModule.losses = target, remembered
    WeightedLosses.terms = without_overlap


def trained(data: Path, output: Path, epochs: int, seed: int) -> Path:
    """The adapter, made if it is not there."""
    if not (output / "adapter").exists():
        train(
            TrainConfig(
                task="instance",
                images=data / "train/images",
                masks=data / "train/masks",
                model="tiny",
                tile=128,
                epochs=epochs,
                batch_size=4,
                workers=0,
                lr=1e-3,
                val_fraction=0.03,
                seed=seed,
                output=output,
                overwrite=output.exists(),
            )
        )
    return output / "adapter"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with_more_maps()
    predictor = Predictor(load(trained(asked.data, asked.work / f"maps_{asked.seed}", asked.epochs, asked.seed)))
    ways = ("shape alone", *(f"{name} > {at}" for name in ("cores", "distance", "no border") for at in THRESHOLDS))
    scores = {way: ObjectMetrics() for way in ways}
    for index, path in enumerate(sorted((asked.data / "test/images").iterdir())):
        (mask,) = (asked.data / "test/masks").glob(f"{path.stem}.*")
        truth = np.asarray(Image.open(mask)).astype(np.int32)
        truth[truth == 255] = truth.max() + 1  # the value of void
        predictor.set_image(path)
        found = predictor.predict_all()
        assert isinstance(found, ObjectPrediction)
        foreground, cores, distance, borders = (one.numpy() for one in found.probability_maps().values())
        scores["shape alone"].add_objects(index, truth, split_objects(foreground, None))
        for name, second in (("cores", cores), ("distance", distance), ("no border", foreground * (1 - borders))):
            for at in THRESHOLDS:
                objects = split_objects(foreground, second, core_threshold=at)
                scores[f"{name} > {at}"].add_objects(index, truth, objects)
    print("| split by | F1 | AP50 | AP | PQ | count error |\n|---|---|---|---|---|---|")
    for way, metrics in scores.items():
        values = metrics.compute()
        shown = " | ".join(f"{values[name]:.3f}" for name in ("f1", "ap50", "ap", "pq", "count_error"))
        print(f"| {way} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
