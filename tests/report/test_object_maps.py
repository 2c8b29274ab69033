"""Separate objects drawn on pictures."""

import numpy as np
import pytest

from sam_adapter.report.figures import LONGEST_SIDE
from sam_adapter.report.objects import Drawn, fitted, object_map, outlined

WHITE, BLUE, PURPLE = (240, 240, 240), (0, 114, 178), (204, 121, 167)


def squares(*corners: tuple[int, int], side: int = 10) -> np.ndarray:
    labels = np.zeros((40, 60), np.int32)
    for number, (top, left) in enumerate(corners, start=1):
        labels[top : top + side, left : left + side] = number
    return labels


def test_objects_have_their_colour_and_dark_lines_between_them():
    image = np.full((40, 60, 3), 200, np.uint8)
    truth = squares((5, 5), (25, 5))
    found = squares((5, 20), (5, 30))
    drawn = object_map(image, [Drawn(truth, np.array([2]), BLUE), Drawn(found, np.array([1, 2]), WHITE)])
    assert tuple(drawn[30, 10]) == BLUE
    assert tuple(drawn[10, 10]) == tuple(drawn[0, 59]) == (60, 60, 60)  # an object that is not drawn, and the ground
    assert tuple(drawn[10, 25]) == tuple(drawn[10, 35]) == WHITE
    assert tuple(drawn[10, 29]) == tuple(drawn[10, 30]) == (0, 0, 0)


def test_the_outline_of_what_is_covered_stays():
    image = np.full((40, 60, 3), 200, np.uint8)
    merged = squares((5, 5), side=20)
    drawn = object_map(image, [Drawn(squares((8, 8)), np.array([1]), BLUE), Drawn(merged, np.array([1]), PURPLE)])
    assert tuple(drawn[8, 12]) == tuple(drawn[17, 12]) == BLUE
    assert tuple(drawn[12, 12]) == tuple(drawn[21, 21]) == PURPLE


def test_outlines_lie_within_each_object():
    image = np.zeros((40, 60, 3), np.uint8)
    changed = (outlined(image, squares((5, 5), (5, 15))) != image).any(2)
    assert changed[5:15, [5, 14, 15, 24]].all()
    assert changed.sum() == 2 * 36


@pytest.mark.parametrize(
    ("size", "shown"), [((640, 1280), (160, 320)), ((100, 90), (300, 270)), ((320, 20), (320, 20))]
)
def test_pictures_and_label_maps_get_the_size_of_a_page(size: tuple[int, int], shown: tuple[int, int]):
    labels = np.zeros(size, np.int32)
    labels[: size[0] // 2] = 70_000
    small = fitted(labels)
    assert small.shape == shown
    assert set(np.unique(small)) == {0, 70_000}
    assert (small[: shown[0] // 2 - 1] == 70_000).all()
    assert fitted(np.zeros((*size, 3), np.uint8)).shape == (*shown, 3)
    assert max(shown) <= LONGEST_SIDE
