"""Masks with a random error, which stand for those that users give."""

import cv2
import numpy as np
import pytest

from sam_adapter.config.choices import asked_kinds
from sam_adapter.tasks.coarse_masks import LONGEST_SIDE, coarse_mask
from sam_adapter.tasks.prompts import PromptMaker


def disc(side: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return (rows - side // 2) ** 2 + (columns - side // 2) ** 2 <= radius**2


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("radius", [8, 40, 260])
def test_the_error_is_in_proportion_to_the_object_and_as_large_as_asked(radius: int):
    mask = disc(3 * radius, radius)
    found = {
        error: [coarse_mask(mask, error, np.random.default_rng(seed)).whole() for seed in range(20)]
        for error in (0.1, 0.25, 0.45)
    }
    means = {error: np.mean([overlap(one, mask) for one in some]) for error, some in found.items()}
    assert means[0.1] == pytest.approx(0.87, abs=0.05)
    assert means[0.25] == pytest.approx(0.72, abs=0.06)
    assert means[0.45] == pytest.approx(0.55, abs=0.08)
    sizes = [one.sum() / mask.sum() for one in found[0.25]]
    assert min(sizes) < 0.85
    assert max(sizes) > 1.15
    shifts = [cv2.moments(one.astype(np.uint8)) for one in found[0.25]]
    moved = [shift["m10"] / shift["m00"] - mask.shape[1] // 2 for shift in shifts]
    assert 0.05 * radius < np.std(moved) < 0.3 * radius


def test_an_outline_goes_in_and_out():
    mask = disc(300, 100)
    rough = coarse_mask(mask, 0.25, np.random.default_rng(0)).whole()
    outline, _ = cv2.findContours(rough.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    away = np.linalg.norm(max(outline, key=len)[:, 0] - np.argwhere(rough).mean(0)[::-1], axis=1)
    assert np.ptp(away) > 15


def test_the_same_numbers_give_the_same_mask_and_as_many_are_drawn_for_each():
    mask = disc(90, 20)
    first, again = (coarse_mask(mask, 0.25, np.random.default_rng(3)) for _ in range(2))
    assert first.part == again.part
    assert np.array_equal(first.whole(), again.whole())
    states = set()
    for drawn, error in ((mask, 0.25), (disc(30, 2), 0.25), (mask, 0.0)):
        rng = np.random.default_rng(3)
        coarse_mask(drawn, error, rng)
        states.add(rng.random())
    assert len(states) == 1
    assert np.array_equal(coarse_mask(mask, 0.0, np.random.default_rng(0)).whole(), mask)


@pytest.mark.parametrize(
    ("shape", "area"),
    [((1, 1), 1), ((1, 9), 1), ((40, 40), 1), ((6, 200), 3), ((50, 50), 50), ((2 * LONGEST_SIDE + 7, 40), 40)],
)
def test_something_of_every_mask_stays_in_the_picture(shape: tuple[int, int], area: int):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        mask = np.zeros(shape, bool)
        mask[rng.integers(shape[0]), : area % (shape[1] + 1)] = True
        if area == shape[1]:
            mask[:] = True
        found = coarse_mask(mask, 0.45, rng).whole()
        assert found.shape == shape
        assert found.any()


def test_an_object_may_swell_beyond_the_part_that_it_is_given_by():
    mask = disc(300, 100)
    part = mask[45:256, 45:256]
    maker = PromptMaker(kind="mask", mask_error=0.25)
    grown = False
    for seed in range(10):
        whole = maker.exact(mask, np.random.default_rng(seed))[0].mask
        own = maker.of_part("mask", part, np.random.default_rng(seed), place=(45, 45), size=(300, 300)).mask
        assert whole is not None
        assert own is not None
        assert np.array_equal(own.whole(), whole.whole())
        grown |= own.part.height > 211
    assert grown


def test_empty_masks_have_no_prompt_and_mixed_ones_no_mask():
    empty = np.zeros((9, 9), bool)
    for make in (PromptMaker(kind="mask").drawn, PromptMaker(kind="mask").exact):
        (prompt,) = make(empty, np.random.default_rng(0))
        assert prompt.kind == "none"
    assert asked_kinds("mixed") == ("box", "points", "none")
    drawn = PromptMaker(kind="mixed").drawn(disc(40, 9), np.random.default_rng(0), count=9)
    assert [prompt.kind for prompt in drawn] == ["none", "box", "points"] * 3
