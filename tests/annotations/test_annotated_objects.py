from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference

from sam_adapter.annotations.objects import AnnotatedObject, label_map
from sam_adapter.errors import DataError


def filled(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """As pycocotools fills polygons in the whole picture."""
    encoded = reference.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)
    decoded: Any = reference.decode(reference.merge(encoded))
    return decoded.astype(bool)


@pytest.mark.parametrize("size", [(1, 1), (7, 301), (97, 64)])
@pytest.mark.parametrize("decimals", [0, 1, 2, 9])
def test_a_part_of_the_picture_is_filled_as_the_whole_is(size: tuple[int, int], decimals: int):
    rng = np.random.default_rng(decimals)
    for _ in range(150):
        centre, spread = rng.uniform(-0.2, 1.2, 2), rng.uniform(0.02, 1)
        polygons = [
            np.round((centre + rng.normal(0, spread, (rng.integers(3, 9), 2))) * size[::-1], decimals)
            for _ in range(rng.integers(1, 4))
        ]
        one = AnnotatedObject(class_name="a", polygons=tuple(polygons))
        np.testing.assert_array_equal(one.mask(size), filled(polygons, size))


@pytest.mark.parametrize("share", [0, 1, 0.5, 0.01])
def test_run_lengths_are_unrolled_as_the_library_unrolls_them(share: float):
    rng = np.random.default_rng(0)
    for size in ((1, 1), (5, 1), (1, 6), (33, 41)):
        mask = rng.random(size) < share
        mask[:, : size[1] // 3] = False
        encoded: Any = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
        one = AnnotatedObject(class_name="a", run_lengths=encoded)
        np.testing.assert_array_equal(one.mask(size), mask)
        window, inside = one.region(size)
        np.testing.assert_array_equal(mask[window], inside)
        assert inside.sum() == mask.sum()


def test_run_lengths_of_another_size_name_their_entry():
    encoded: Any = reference.encode(np.asfortranarray(np.ones((3, 4), np.uint8)))
    with pytest.raises(DataError, match=r"annotations\[3\]: run lengths of 4x3 pixels for an image of 3x4"):
        AnnotatedObject(class_name="a", run_lengths=encoded, entry="annotations[3]").mask((4, 3))


def test_an_object_needs_no_more_memory_than_the_box_around_it():
    one = AnnotatedObject(class_name="a", polygons=(np.array([[900.0, 700], [910, 700], [910, 705]]),))
    window, inside = one.region((1000, 2000))
    assert inside.size <= 12 * 7
    assert (window[0].start, window[1].start) == (700, 901)


def test_later_objects_are_painted_over_earlier_ones():
    def square(start: int, end: int, *, void: bool = False) -> AnnotatedObject:
        corners = np.array([[start, start], [end, start], [end, end], [start, end]], float)
        return AnnotatedObject(class_name="a", polygons=(corners,), void=void)

    labels = label_map(
        [square(0, 6, void=True), square(2, 8), square(0, 3), square(7, 9, void=True)], (10, 10), void=99
    )
    assert labels.dtype == np.int32
    assert labels.diagonal().tolist() == [2, 2, 2, 1, 1, 1, 1, 99, 99, 0]
