import numpy as np
import pytest

from sam_adapter.data.inspection import objects
from sam_adapter.data.inspection.objects import Objects, objects_in


def squares(size: tuple[int, int], *corners: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    for top, left, side in corners:
        mask[top : top + side, left : left + side] = True
    return mask


def test_parts_their_areas_and_the_box_around_them():
    found = objects_in(squares((100, 100), (10, 10, 20), (70, 70, 20), (0, 50, 2)))
    assert (found.parts, found.count) == (3, 2)
    assert found.areas == (4, 400, 400)
    assert found.box_fill == pytest.approx(804 / (90 * 80))
    assert objects_in(np.zeros((5, 5), bool)) == Objects()


def test_parts_that_meet_at_a_corner_are_one():
    assert objects_in(np.eye(4, dtype=bool)).parts == 1


def test_large_masks_are_reduced_without_losing_area(monkeypatch: pytest.MonkeyPatch):
    mask = squares((1000, 1400), (101, 203, 7), (500, 601, 301), (990, 1399, 1))
    exact = objects_in(mask)
    monkeypatch.setattr(objects, "MOST_PIXELS", 20_000)
    assert objects_in(mask) == exact
    assert exact.areas == (1, 49, 301 * 301)


@pytest.mark.parametrize(("side", "image_size", "tiny"), [(11, 1024, 60), (12, 1024, 0), (12, 512, 60)])
def test_what_is_tiny_depends_on_the_input_size(side: int, image_size: int, tiny: int):
    corners = [(100 + 200 * row, 100 + 200 * column, side) for row in range(6) for column in range(10)]
    found = objects_in(squares((2048, 2048), *corners))
    assert found.tiny(longest_side=2048, image_size=image_size) == tiny
    assert found.has_tiny_objects(longest_side=2048, image_size=image_size) == (tiny > 0)


def test_a_speck_beside_an_object_is_no_tiny_object():
    found = objects_in(squares((512, 512), (50, 50, 200), (400, 400, 1)))
    assert found.tiny(longest_side=512, image_size=1024) == 1
    assert not found.has_tiny_objects(longest_side=512, image_size=1024)
    assert found.count == 1
