"""Objects are asked for again where a window shows them whole, and stay apart."""

import cv2
import numpy as np
import pytest
import torch

from exact_objects import SIDE, ExactModel, seen
from sam_adapter.tasks.refinement import refine_objects
from sam_adapter.tasks.splitting import FoundObjects

from test_point_grid import discs  # isort: skip


def smaller(labels: np.ndarray) -> FoundObjects:
    """The objects without their outermost pixels."""
    kernel, numbers = np.ones((3, 3), np.uint8), labels.astype(np.uint8)
    eroded = np.where(cv2.erode(numbers, kernel) == cv2.dilate(numbers, kernel), labels, 0)
    return FoundObjects(eroded.astype(np.int32), np.linspace(0.5, 1, int(labels.max())).astype(np.float32))


@pytest.mark.parametrize("tile", [None, SIDE])
def test_outlines_are_those_of_the_answers(tile: int | None):
    labels = discs((64, 50) if tile is None else (150, 190))
    found = smaller(labels)
    assert not np.array_equal(found.labels, labels)
    model = ExactModel()
    refined = refine_objects(seen(labels, model, tile=tile), found, 0.5)
    assert np.array_equal(refined.labels, labels)
    assert refined.scores == pytest.approx(0.95 * found.scores)
    assert sum(model.asked) == labels.max()
    ranked = refine_objects(seen(labels, model, tile=tile), found, 0.5, outlines=False)
    assert np.array_equal(ranked.labels, found.labels)
    assert ranked.scores == pytest.approx(0.95 * found.scores)


def test_an_object_that_no_tile_shows_as_a_whole_stays():
    labels = np.zeros((64, 190), np.int32)
    labels[20:40, 5:180] = 1
    labels[45:60, 100:115] = 2
    model = ExactModel()
    found = smaller(labels)
    refined = refine_objects(seen(labels, model), found, 0.5)
    assert sum(model.asked) == 1
    assert np.array_equal(refined.labels == 1, found.labels == 1)
    assert np.array_equal(refined.labels == 2, labels == 2)


def test_an_answer_about_another_thing_is_not_taken():
    labels = np.zeros((64, 64), np.int32)
    labels[10:50, 10:50] = 1
    found = np.zeros((64, 64), np.int32)
    found[12:20, 12:20] = 1  # a small part of it
    refined = refine_objects(seen(labels, ExactModel(), tile=None), FoundObjects(found, np.ones(1, np.float32)), 0.5)
    assert np.array_equal(refined.labels, found)


def test_a_pixel_goes_to_the_more_certain_answer():
    """Two objects whose answers both are all of their surroundings, the first with higher logits."""
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 10:30], labels[10:30, 30:50] = 1, 2

    class Wide(ExactModel):
        def __call__(self, batch, **more):
            output = super().__call__(batch, **more)
            grown = torch.nn.functional.max_pool2d(output.mask_logits, 9, 1, 4)
            return output._replace(mask_logits=grown)

    wide = Wide(slope=lambda number: (0.0, 4.0, 2.0)[number])
    found = FoundObjects(labels, np.ones(2, np.float32))
    refined = refine_objects(seen(labels, wide, tile=None), found, 0.5)
    assert np.count_nonzero(refined.labels == 1) == 28 * 28
    assert np.count_nonzero(refined.labels == 2) == 28 * 28 - 8 * 28
    assert (refined.labels[15, 26:34] == 1).all()
