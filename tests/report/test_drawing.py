"""Outlines, tints and error maps are seen on any picture."""

import cv2
import numpy as np
import pytest
import torch

from sam_adapter.batch import GivenMask, Prompt
from sam_adapter.report import drawing
from sam_adapter.report.drawing import (
    COLOURS,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    VOID,
    contrasting_colour,
    error_map,
    overlay,
    overlay_bands,
    with_prompt,
)

SKIN, LEAF, ORANGE, SKY, NUCLEI, PAPER = (
    (222, 170, 140),
    (140, 95, 40),
    (255, 106, 0),
    (110, 170, 235),
    (8, 8, 8),
    (245, 245, 240),
)


def textured(colour: tuple[int, int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, (60, 80, 1))
    return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


def test_outlines_have_the_width_that_is_asked_for():
    mask = np.ones((41, 41), bool)
    drawn = overlay(np.full((41, 41, 3), 100, np.uint8), mask, width=3)
    colour = np.array(contrasting_colour(np.full((41, 41, 3), 100, np.uint8)))
    assert [(drawn[20, at] == colour).all() for at in range(5)] == [True, True, True, False, False]


@pytest.mark.parametrize("band", [1, 700, 1 << 22])
def test_regions_in_bands_are_drawn_as_masks_one_after_another(band: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "BAND_PIXELS", band)
    rng = np.random.default_rng(1)
    image = textured(SKIN)
    regions = np.zeros(image.shape[:2], np.uint8)
    for region, (x, y, radius) in enumerate(rng.integers(3, 60, (40, 3)).tolist()):
        cv2.circle(regions, (x, y), radius // 3, region % 4, -1)
    expected = image
    for region in (1, 2, 3):
        expected = one_after_another(expected, regions == region, 2, COLOURS[region])
    found = [rows for _, rows in overlay_bands(image, regions, [COLOURS[at] for at in (1, 2, 3)], width=2)]
    assert np.array_equal(np.concatenate(found), expected)
    assert len(found) == (60 if band == 1 else 8 if band == 700 else 1)


def one_after_another(image: np.ndarray, mask: np.ndarray, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    """The tint and both outlines of one mask, by the distance to what is outside of it."""
    outside = np.pad(~mask, 2 * width, constant_values=True)
    reach = (2 * width, 4 * width)
    around = [cv2.dilate(outside.astype(np.uint8), np.ones((one + 1, one + 1), np.uint8)) > 0 for one in reach]
    near, far = (one[2 * width : -2 * width, 2 * width : -2 * width] for one in around)
    drawn = np.where(mask[..., None], np.round(0.6 * image + 0.4 * np.array(colour)), image)
    drawn[mask & far] = 255 if brightness(np.array(colour)) < 110 else 0
    drawn[mask & near] = colour
    return drawn.astype(np.uint8)


def brightness(colour: np.ndarray) -> float:
    return float(np.dot(colour, (0.2126, 0.7152, 0.0722)))


def test_an_overlay_tints_the_mask_and_outlines_it_twice_from_within():
    image = np.full((40, 50, 3), 100, np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[5:35, 20:] = True  # up to the picture's edge, which is outlined too
    drawn, colour = overlay(image, mask), np.array(contrasting_colour(image))
    assert (drawn[~mask] == 100).all()
    assert (drawn[5, 20:] == colour).all()
    assert (drawn[5:35, 49] == colour).all()
    assert (drawn[6, 21:48] == drawn[20, 48]).all()
    assert set(drawn[6, 21:48].flatten()) <= {0, 255}
    assert (drawn[7:33, 22:48] == np.round(60 + 0.4 * colour)).all()
    assert (image == 100).all()


@pytest.mark.parametrize("ground", [SKIN, LEAF, ORANGE, SKY, NUCLEI, PAPER])
def test_an_outline_is_seen_on_any_picture(ground: tuple[int, int, int]):
    image = textured(ground)
    mask = np.zeros(image.shape[:2], bool)
    mask[20:40, 20:60] = True
    drawn = overlay(image, mask).astype(float)
    outlines = [drawn[20, 40], drawn[21, 40]]
    # One of the two is far from the ground in brightness alone, and so is the coloured one from the other.
    assert max(abs(brightness(one) - brightness(np.array(ground))) for one in outlines) > 80
    assert abs(brightness(outlines[0]) - brightness(outlines[1])) > 80
    assert np.abs(drawn[30, 30:50] - image[30, 30:50]).max() > 20


def test_the_colour_is_not_one_of_the_picture():
    chosen = {colour: contrasting_colour(textured(colour)) for colour in COLOURS}
    assert all(colour != other for colour, other in chosen.items())
    assert contrasting_colour(textured(LEAF)) not in (COLOURS[0], COLOURS[5])
    assert contrasting_colour(textured(SKIN)) not in (COLOURS[0], COLOURS[5])


def test_error_map_colours():
    image = np.full((2, 2, 3), 200, np.uint8)
    mask, target = np.array([[True, True], [False, False]]), np.array([[True, False], [True, False]])
    drawn = error_map(image, mask, target)
    assert tuple(drawn[0, 0]) == TRUE_POSITIVE
    assert tuple(drawn[0, 1]) == FALSE_POSITIVE
    assert tuple(drawn[1, 0]) == FALSE_NEGATIVE
    assert tuple(drawn[1, 1]) == (60, 60, 60)
    # Without colour at all they still differ, also from the darkened picture.
    greys = sorted(brightness(np.array(colour)) for colour in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE))
    assert np.diff(greys).min() > 50
    assert greys[0] > 0.3 * 255


def test_void_is_striped_whatever_was_answered_there():
    image = np.full((40, 40, 3), 200, np.uint8)
    mask, target, valid = (np.zeros((40, 40), bool) for _ in range(3))
    mask[:20], target[:, :20], valid[:, 10:30] = True, True, True
    drawn = error_map(image, mask, target, valid)
    assert {tuple(colour) for colour in drawn[~valid]} == {VOID, (60, 60, 60)}
    assert 0.4 < (drawn[~valid] == VOID).all(-1).mean() < 0.6
    assert (drawn[valid] == error_map(image, mask, target)[valid]).all()


def test_prompts_are_drawn_where_they_are():
    image = np.full((100, 120, 3), 90, np.uint8)
    assert (with_prompt(image, Prompt()) == image).all()
    boxed = with_prompt(image, Prompt(box=torch.tensor([20.0, 30, 80, 90])))
    assert (boxed[30, 20:80] == (255, 255, 0)).all()
    assert (boxed[60, 60] == 90).all()
    points = Prompt(points=torch.tensor([[20.0, 30], [80, 90]]), point_labels=torch.tensor([1, 0]))
    pointed = with_prompt(image, points)
    assert tuple(pointed[30, 20]) == (255, 255, 0)
    assert tuple(pointed[88, 80]) != tuple(pointed[28, 20])
    mask = np.zeros((100, 120), bool)
    mask[30:70, 20:60] = mask[80:95, 90:110] = True
    mask[45:55, 35:45] = False
    outlined = with_prompt(image, Prompt(mask=GivenMask.of(mask)))
    for row, column in ((30, 40), (50, 20), (69, 40), (80, 100), (87, 109), (50, 34)):
        assert tuple(outlined[row, column]) == (255, 255, 0)
    assert (outlined[mask & (outlined == 90).all(-1)]).any()
    assert (outlined[50, 40] == 90).all()
    assert (image == 90).all()
