"""Objects over the borders of tiles are counted once: exact maps through the blending of tiles and the split."""

from collections.abc import Mapping

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sam_adapter.batch import Batch
from sam_adapter.config.choices import ASKED_KINDS, AskedKind
from sam_adapter.config.labels import CORES
from sam_adapter.config.options import PromptOptions
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.instance import InstanceTask
from sam_adapter.tasks.metrics.matching import count_objects, find_overlaps
from sam_adapter.tasks.splitting import core_map
from sam_adapter.tiling.grid import Tiling
from sam_adapter.tiling.sweep import Sweep

THRESHOLDS: Mapping[AskedKind, float] = dict.fromkeys(ASKED_KINDS, 0.5)
SIZE = (500, 640)
COUNT = 100


def discs_and_worms(seed: int) -> np.ndarray:
    """``(H, W)`` int32 of 100 objects at random places, which may touch; worms are longer than a tile is wide."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SIZE, np.int32)
    number = 0
    while number < COUNT:
        one = np.zeros(SIZE, np.uint8)
        at = rng.uniform((0, 0), SIZE[::-1])
        if number < COUNT // 10:  # first, while there is room
            turn, way = rng.uniform(-0.06, 0.06), rng.uniform(0, 2 * np.pi)
            steps = way + turn * np.arange(28)
            line = at + np.cumsum(np.stack([np.cos(steps), np.sin(steps)], 1) * 6, axis=0)
            cv2.polylines(one, [line.round().astype(np.int32)], isClosed=False, color=1, thickness=11)
        else:
            cv2.circle(one, at.astype(int).tolist(), int(rng.integers(6, 20)), 1, -1)
        inside = one > 0
        if inside.sum() > 60 and not labels[inside].any():
            number += 1
            labels[inside] = number
    return labels


def exact(batch: Batch) -> tuple[Tensor, Tensor]:
    """The maps that the picture's channels are, at half of the tiles' resolution as a model gives them."""
    assert batch.pixel_values is not None
    answers = [
        batch.pixel_values[at, int(query.label == CORES)]
        for at, query in zip(batch.image_index, batch.queries, strict=True)
    ]
    logits = functional.avg_pool2d(torch.stack(answers)[:, None], 2)[:, 0]
    return 5 * logits, torch.ones(len(logits))


@pytest.mark.parametrize(("tile", "overlap", "seed"), [(64, 16, 0), (160, 0, 2), (96, 70, 3)])
def test_objects_over_the_borders_of_tiles_are_counted_once(tile: int, overlap: int, seed: int):
    labels = discs_and_worms(seed)
    picture = np.zeros((*SIZE, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 255 * (labels > 0), 255 * core_map(labels)
    preprocessing = Preprocessing(image_size=tile, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
    sweep = Sweep(answer=exact, tiling=Tiling(tile=tile, overlap=overlap), preprocessing=preprocessing, batch_size=8)
    task = InstanceTask.from_options(PromptOptions(prompt="none"))
    queries = task.prediction_queries([])
    found = task.tiled_prediction(sweep.strips(torch.from_numpy(picture), queries), queries, THRESHOLDS).objects
    shared = find_overlaps(np.where(labels == 255, 1000, labels), found.labels, scores=found.scores)
    counts = count_objects(shared)
    assert (counts.true, counts.found, counts.matched, counts.merged, counts.split) == (COUNT, COUNT, COUNT, 0, 0)
