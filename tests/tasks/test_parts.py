"""Masks made in the part of the picture where they lie are those of the whole picture."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_adapter.preprocessing import MaskLogits, Preprocessing
from sam_adapter.tasks.parts import part_of
from sam_adapter.tiling.blending import TileAnswers, TiledLogits
from sam_adapter.tiling.grid import Tiling

SIZES = [(37, 53), (150, 91), (91, 150), (64, 64), (7, 300), (300, 7), (1, 50), (611, 402)]


def bump(side: int, place: tuple[float, float], width: float) -> Tensor:
    """Logits ``(1, side, side)`` that are above 0 around a place, given in parts of the side."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    away = (rows - place[0] * side) ** 2 + (columns - place[1] * side) ** 2
    return (5 - away / width**2)[None].float()


def same_as_whole(logits: MaskLogits, size: tuple[int, int], preprocessing: Preprocessing, threshold: float) -> None:
    whole = preprocessing.to_original_size(logits, size)[0].sigmoid().numpy()
    part = part_of(logits, size, preprocessing, threshold)
    mask = np.zeros(size, bool)
    if part is not None:
        mask[part.rows, part.columns] = part.mask
        inside = whole[part.rows, part.columns]
        np.testing.assert_allclose(part.probabilities, inside, atol=2e-5)
        assert all(edge.any() for edge in (part.mask[0], part.mask[-1], part.mask[:, 0], part.mask[:, -1]))
    clear = np.abs(whole - threshold) > 1e-4
    assert np.array_equal(mask[clear], (whole > threshold)[clear])


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize(("image_size", "side"), [(64, 16), (96, 24), (64, 100)])
@pytest.mark.parametrize("size", SIZES)
def test_a_part_is_the_whole_where_there_is_something(resize: Any, image_size: int, side: int, size: tuple[int, int]):
    preprocessing = Preprocessing(image_size=image_size, resize=resize)
    rng = np.random.default_rng(0)
    for _ in range(4):
        logits = bump(side, tuple(rng.random(2)), float(rng.uniform(0.3, 6)))
        for threshold in (0.0, 0.1, 0.5, 0.9, 1.0):
            same_as_whole(logits, size, preprocessing, threshold)
    noise = 5 * torch.randn(1, side, side, generator=torch.Generator().manual_seed(0)) - 8
    same_as_whole(noise, size, preprocessing, 0.5)


def tiled(size: tuple[int, int], seed: int) -> TiledLogits:
    """Tiles of which each answers an object, nothing, or background unasked."""
    tiling = Tiling(tile=40, overlap=12)
    rng = np.random.default_rng(seed)
    tiles = []
    for window in tiling.windows(size):
        kind = int(rng.integers(4))
        asked = (0,) if kind < 2 else ()
        logits = bump(16, tuple(rng.random(2)), 2.0) if asked else torch.zeros(0, 1, 1)
        tiles.append(TileAnswers(window, asked, logits, torch.zeros(len(asked)), frozenset([0] if kind == 2 else [])))
    return TiledLogits(tiles=tiles, queries=(0,), size=size, tiling=tiling, preprocessing=Preprocessing(image_size=64))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_a_part_of_tiles_is_the_whole_where_there_is_something(seed: int, threshold: float):
    logits = tiled((150, 91), seed)
    same_as_whole(logits, (150, 91), Preprocessing(image_size=64), threshold)


def test_nothing_is_made_where_there_is_nothing():
    preprocessing = Preprocessing(image_size=64)
    assert part_of(torch.full((1, 16, 16), -1.0), (30, 40), preprocessing, 0.5) is None
    padding = torch.full((1, 16, 16), -1.0)
    padding[:, 14:] = 5  # below a picture of 3:4
    assert part_of(padding, (30, 40), preprocessing, 0.5) is None
    large = part_of(bump(16, (0.5, 0.5), 1.0), (64_000, 64_000), preprocessing, 0.9999)  # of 4 gigapixels
    assert large is None
    small = bump(64, (0.5, 0.5), 0.5)
    reach = preprocessing.reach(small, (6400, 6400), 0.0)
    assert reach is not None
    assert reach.rows.stop - reach.rows.start < 700
