"""A grid of points finds each object once, over the borders of tiles too, and filters as it is told."""

import numpy as np
import pytest
import torch

from exact_objects import SIDE, ExactModel, seen
from sam_adapter.tasks.grid import Grid, find_by_grid, stability_of
from sam_adapter.tasks.splitting import FoundObjects
from sam_adapter.tasks.windows import AT_ONCE


def discs(size: tuple[int, int], radius: int = 8, seed: int = 0) -> np.ndarray:
    """``(H, W)`` int32 of separate discs at random places."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.int32)
    number = 0
    for _ in range(400):
        row, column = rng.integers(radius, size[0] - radius), rng.integers(radius, size[1] - radius)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        if not labels[disc].any() and number < 200:
            number += 1
            labels[disc] = number
    return labels


def same_objects(found: FoundObjects, labels: np.ndarray) -> bool:
    """Whether the objects are the true ones, in any order."""
    pairs = np.unique(np.stack([found.labels.ravel(), labels.ravel()]), axis=1)
    return len(found) == labels.max() and pairs.shape[1] == labels.max() + 1


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("tile", [None, SIDE])
def test_each_object_is_found_once(tile: int | None, multimask: bool):
    labels = discs((64, 50) if tile is None else (150, 190))
    model = ExactModel()
    found = find_by_grid(seen(labels, model, tile=tile), Grid(points=8, multimask=multimask), 0.5)
    assert same_objects(found, labels)
    assert found.scores == pytest.approx(np.full(len(found), 0.95))
    assert max(model.asked) <= AT_ONCE
    assert sum(model.asked) == 64 * (1 if tile is None else 20)


def test_points_that_miss_an_object_do_not_find_it():
    labels = np.zeros((64, 64), np.int32)
    labels[2:8, 2:8] = 1
    assert len(find_by_grid(seen(labels, ExactModel(), tile=None), Grid(points=2), 0.5)) == 0
    assert len(find_by_grid(seen(labels, ExactModel(), tile=None), Grid(points=16), 0.5)) == 1


def test_answers_of_low_quality_and_unstable_ones_are_left_out():
    labels = discs((64, 64))
    few = ExactModel(quality=lambda number: 0.9 if number % 2 else 0.7)
    found = find_by_grid(seen(labels, few, tile=None), Grid(points=16), 0.5)
    assert same_objects(found, np.where(labels % 2, (labels + 1) // 2, 0))
    every = find_by_grid(seen(labels, few, tile=None), Grid(points=16, quality=0.6), 0.5)
    assert same_objects(every, labels)
    weak = ExactModel(slope=lambda number: 8.0 if number % 2 else 0.5)
    found = find_by_grid(seen(labels, weak, tile=None), Grid(points=16), 0.5)
    assert same_objects(found, np.where(labels % 2, (labels + 1) // 2, 0))
    every = find_by_grid(seen(labels, weak, tile=None), Grid(points=16, stability=0), 0.5)
    assert same_objects(every, labels)


def test_stability_is_the_iou_at_a_higher_and_a_lower_threshold():
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-5.0] * 4], [[9.0] * 4]])
    assert stability_of(logits, 0.0).tolist() == pytest.approx([1 / 3, 0, 1])
    assert stability_of(logits, 1.2).tolist() == pytest.approx([0 / 2, 0, 1])


def test_of_masks_that_overlap_the_better_keeps_its_pixels():
    """A model that answers every point by a square around it, those further to the right with better quality."""

    class Squares(ExactModel):
        def _meant(self, numbers: torch.Tensor, box: torch.Tensor | None, points: torch.Tensor | None) -> int:
            assert points is not None
            return int(points[0, 0])

        def __call__(self, batch, **more):
            output = super().__call__(batch, **more)
            logits = torch.full_like(output.mask_logits, -8.0)
            for at, query in enumerate(batch.queries):
                assert query.prompt.points is not None
                column, row = query.prompt.points[0].long().tolist()
                logits[at, :, max(row - 12, 0) : row + 12, max(column - 12, 0) : column + 12] = 8.0
            return output._replace(mask_logits=logits)

    squares = Squares(quality=lambda number: 0.9 + number / 1000)
    blank = seen(np.zeros((64, 64), np.int32), squares, tile=None)
    strict = find_by_grid(blank, Grid(points=4, multimask=False, overlap=0.0), 0.5)
    some = find_by_grid(blank, Grid(points=4, multimask=False, overlap=0.7), 0.5)
    assert 0 < len(strict) < len(some) < 16  # a mask of which less than half is free is none
    assert (np.diff(strict.scores) <= 0).all()
    assert np.count_nonzero(some.labels == 1) == 20 * 20  # the first has all its pixels, to the corner
