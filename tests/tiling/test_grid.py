"""Where tiles lie, how much their pixels count, and which side is chosen for them."""

from itertools import pairwise

import pytest
import torch

from sam_adapter.batch import Window
from sam_adapter.errors import ConfigError
from sam_adapter.tiling.choice import choose_tile
from sam_adapter.tiling.grid import Tiling

SIZES = [(100, 130), (40, 300), (33, 32), (1, 500), (64, 64), (65, 129)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 7, 16, 50, 63])
def test_tiles_lie_inside_cover_every_pixel_and_overlap_as_much_as_is_asked_for(size: tuple[int, int], overlap: int):
    tiling = Tiling(tile=64, overlap=overlap)
    rows = tiling.rows(size)
    seen = torch.zeros(size)
    for window in tiling.windows(size):
        assert window[2:] == (min(64, size[0]), min(64, size[1]))
        assert window.top >= 0
        assert window.left >= 0
        assert window.top + window.height <= size[0]
        assert window.left + window.width <= size[1]
        seen[window.top : window.top + window.height, window.left : window.left + window.width] += 1
    assert seen.min() == 1
    for first, second in pairwise(rows[0]):
        assert first.left + 64 - second.left >= overlap
    for first, second in pairwise(rows):
        assert first[0].top + 64 - second[0].top >= overlap


def test_a_picture_smaller_than_the_tile_is_one_tile():
    assert Tiling.of(64).windows((50, 40)) == [Window(0, 0, 50, 40)]


def test_weights_are_one_in_the_middle_fall_towards_the_border_and_sum_to_one_with_the_neighbours():
    tiling, window = Tiling(tile=64, overlap=16), Window(0, 0, 64, 64)
    weights = tiling.weights(window, slice(0, 64))
    assert torch.equal(weights[16:48, 16:48], torch.ones(32, 32))
    middle = weights[32]
    assert (middle[:16].diff() > 0).all()
    assert (middle[-16:].diff() < 0).all()
    assert 0 < middle[0] < 0.1
    assert torch.allclose(middle[-16:] + middle[:16], torch.ones(16))
    assert torch.equal(tiling.weights(window, slice(5, 9)), weights[5:9])
    assert torch.equal(Tiling(tile=64, overlap=0).weights(window, slice(0, 2)), torch.ones(2, 64))


def test_what_tiles_cannot_be_is_said():
    assert Tiling.of(64) == Tiling(tile=64, overlap=16)
    with pytest.raises(ConfigError, match="tile: expected 32 pixels or more, got 31"):
        Tiling.of(31)
    with pytest.raises(ConfigError, match="overlap: expected a value from 0 to 63, less than the tile of 64 pixels"):
        Tiling.of(64, 64)


def test_options_come_before_the_adapters_own_tiles():
    own = Tiling(tile=100, overlap=20)
    assert Tiling.asked(None, None, own) is own
    assert Tiling.asked(None, 50, own) == Tiling(tile=100, overlap=50)
    assert Tiling.asked(0, None, own) is None
    assert Tiling.asked(80, None, own) == Tiling(tile=80, overlap=20)
    assert Tiling.asked(None, None, None) is None
    with pytest.raises(ConfigError, match="overlap: there are no tiles"):
        Tiling.asked(None, 5, None)
    with pytest.raises(ConfigError, match="less than the tile of 100"):
        Tiling.asked(None, 100, own)


@pytest.mark.parametrize(
    ("diameter", "largest", "side", "tile"),
    [
        (20, 25, 1000, 200),  # ten of the median object
        (20, 220, 1000, 220),  # the largest one fits
        (20, 900, 1000, 240),  # as far as the median object is a twelfth
        (20, 900, 150, 150),  # not larger than the picture
        (2, 2, 1000, 32),  # not smaller than tiles can be
    ],
)
def test_the_side_of_tiles_follows_from_the_objects(diameter: int, largest: int, side: int, tile: int):
    area = round(3.14159265 / 4 * diameter**2 * 1000) / 1000
    chosen = choose_tile([1, area, 10**6], largest, [(side, side + 50)] * 3)  # type: ignore[list-item]
    assert chosen.tile is not None
    assert abs(chosen.tile - tile) <= 1
    assert chosen.diameter == pytest.approx(diameter, rel=1e-3)


def test_without_objects_or_in_tiny_pictures_there_are_no_tiles():
    assert choose_tile([], 0, [(500, 500)]).tile is None
    assert choose_tile([100], 10, [(20, 20)]).tile is None
