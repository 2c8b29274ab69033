"""Tiles that training shows: they hold something, or nothing as often as is asked for."""

import numpy as np
import pytest

from sam_adapter.batch import Window
from sam_adapter.config.labels import VOID
from sam_adapter.tiling.windows import draw_window


def labels(*spots: tuple[int, int, int], size: tuple[int, int] = (200, 260)) -> np.ndarray:
    """A label map with squares of four pixels at some places."""
    found = np.zeros(size, np.uint8)
    for row, column, label in spots:
        found[row : row + 4, column : column + 4] = label
    return found


def drawn(given: np.ndarray, times: int = 300, **options) -> list[tuple[Window, np.ndarray]]:
    rng = np.random.default_rng(0)
    windows = [draw_window(given, 64, rng, **{"empty_share": 0.0, **options}) for _ in range(times)]
    return [(one, given[one.top : one.top + one.height, one.left : one.left + one.width]) for one in windows]


def test_tiles_hold_foreground_at_any_place_of_them_and_lie_inside():
    found = drawn(labels((100, 120, 1)), 600)
    places = []
    for window, seen in found:
        assert seen.shape == (64, 64)
        assert (seen == 1).any()
        places.append((100 - window.top, 120 - window.left))
    spread = np.array(places)
    assert (spread.min(0) <= 3).all()
    assert (spread.max(0) >= 57).all()
    assert abs(spread.mean(0) - 30).max() < 4


def test_tiles_at_the_border_of_the_picture_lie_inside():
    for window, seen in drawn(labels((0, 0, 1), (196, 256, 1))):
        assert seen.shape == (64, 64)
        assert window.top >= 0
        assert window.left >= 0
        assert (seen == 1).any()


def test_all_foreground_is_as_likely():
    found = drawn(labels((20, 20, 1), (180, 240, 1)), 600)
    share = np.mean([window.top < 60 for window, _ in found])
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_set_share_of_tiles_holds_nothing(share: float):
    empty = np.mean([not seen.any() for _, seen in drawn(labels((100, 120, 1)), 1000, empty_share=share)])
    assert abs(empty - share) < 0.04


def test_tiles_that_hold_nothing_are_not_all_void():
    given = labels((100, 120, 1))
    given[:, 150:] = VOID
    given[:, :60] = VOID
    for _, seen in drawn(given, 200, empty_share=1.0):
        assert (seen != VOID).any()


def test_a_picture_smaller_than_the_tile_is_taken_whole():
    given = labels((10, 10, 1), size=(40, 50))
    assert drawn(given, 1)[0][0] == Window(0, 0, 40, 50)
    given = labels((10, 10, 1), size=(40, 150))
    assert {window.height for window, _ in drawn(given)} == {40}
    assert {window.width for window, _ in drawn(given)} == {64}


def test_a_picture_without_foreground_is_shown_anywhere():
    found = drawn(labels())
    assert len({window for window, _ in found}) > 100


def test_balanced_classes_are_shown_as_often_whatever_their_size():
    given = labels((20, 20, 2))
    given[120:180, 150:230] = 1
    for by_class, low, high in ((False, 0.0, 0.05), (True, 0.4, 0.6)):
        share = np.mean([(seen == 2).any() for _, seen in drawn(given, 400, by_class=by_class)])
        assert low <= share <= high


def test_what_is_drawn_follows_from_the_random_numbers():
    given = labels((20, 20, 1), (100, 120, 1))
    assert [window for window, _ in drawn(given, empty_share=0.3)] == [
        window for window, _ in drawn(given, empty_share=0.3)
    ]
