"""Masks as prompts: kept as bits, cut to tiles, and brought to the mask input in the geometry of their pictures."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sam_adapter import Predictor
from sam_adapter.batch import GivenMask, Prompt, Window
from sam_adapter.batch.given_mask import CERTAIN
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tiling.asking import prompts_in_tiles

FAMILIES = [(256, 64), (168, 48)]
"""Side of the square and of the mask input, whose cells are as large as those of SAM and of SAM 3: 4 pixels and 3.5."""


def blob(size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    apart = ((rows - 0.55 * size[0]) / (0.25 * size[0])) ** 2 + ((columns - 0.4 * size[1]) / (0.3 * size[1])) ** 2
    return apart < 1


def random_mask(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < 0.4


def covered(mask: np.ndarray, preprocessing: Preprocessing, side: int) -> np.ndarray:
    """The share of each cell that a mask covers, from a picture that is enlarged until its pixels fill whole cells."""
    height, width = preprocessing.input_size(mask.shape)
    fine = np.zeros((side * 20, side * 20), np.float32)
    rows, columns = (round(inside / preprocessing.image_size * side * 20) for inside in (height, width))
    down = np.minimum((np.arange(rows) + 0.5) * mask.shape[0] / rows, mask.shape[0] - 1).astype(int)
    across = np.minimum((np.arange(columns) + 0.5) * mask.shape[1] / columns, mask.shape[1] - 1).astype(int)
    fine[:rows, :columns] = mask[down][:, across]
    return fine.reshape(side, 20, side, 20).mean((1, 3))


@pytest.mark.parametrize("width", [1, 7, 8, 9, 41])
def test_a_mask_is_kept_by_its_bits_and_comes_back(width: int):
    mask = np.zeros((30, 70), bool)
    mask[4:25, 11 : 11 + width] = random_mask((21, width)) | np.eye(21, width, dtype=bool)
    given = GivenMask.of(mask)
    assert np.array_equal(given.whole(), mask)
    assert given.area == mask.sum()
    assert given.bits.numel() <= 21 * 6
    part = GivenMask.of(mask[2:28, 9:60], corner=(2, 9), size=mask.shape)
    assert part.part == given.part
    assert np.array_equal(part.whole(), mask)
    x, y, wide, high = cv2.boundingRect(mask.astype(np.uint8))
    assert given.box.tolist() == [x, y, x + wide, y + high]


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize(("square", "side"), FAMILIES)
@pytest.mark.parametrize("size", [(60, 83), (700, 401), (64, 64)])
def test_each_cell_has_the_log_odds_of_the_share_that_the_mask_covers(
    size: tuple[int, int], square: int, side: int, resize: Any
):
    preprocessing = Preprocessing(image_size=square, resize=resize)
    mask = blob(size)
    prompt = preprocessing.prompt_to_input(Prompt(mask=GivenMask.of(mask)), size, side)
    logits = prompt.mask_input
    assert logits is not None
    assert prompt.mask is None
    assert logits.shape == (1, side, side)
    assert logits.abs().max() == CERTAIN
    share = torch.from_numpy(covered(mask, preprocessing, side))
    assert (logits[0].sigmoid() - share).abs().max() < 0.12  # by the steps of the reference, a twentieth on each side
    assert (logits[0].sigmoid() - share).abs().mean() < 2e-3
    back = (preprocessing.to_original_size(logits, size)[0] > 0).numpy()
    assert (back & mask).sum() / (back | mask).sum() > 0.95


def test_large_masks_go_in_bands(monkeypatch: pytest.MonkeyPatch):
    given, options = GivenMask.of(random_mask((200, 90))), {"input_size": (128, 58), "image_size": 128, "side": 32}
    whole = given.logits(**options)
    monkeypatch.setattr("sam_adapter.batch.given_mask.BAND_PIXELS", 700)
    torch.testing.assert_close(given.logits(**options), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_is_cut_to_tiles_as_a_picture_is(seed: int):
    mask = np.zeros((150, 170), bool)
    mask[20:110, 33:150] = random_mask((90, 117), seed)
    given, rng = GivenMask.of(mask), np.random.default_rng(seed)
    for _ in range(20):
        top, left = (int(rng.integers(0, side - 40)) for side in mask.shape)
        window = Window(top, left, int(rng.integers(1, 41)), int(rng.integers(1, 41)))
        expected = mask[top : top + window.height, left : left + window.width]
        seen = given.inside(window)
        assert (seen is None) == (not expected.any())
        assert seen is None or np.array_equal(seen.whole(), expected)


LEFT, RIGHT, BELOW = Window(0, 0, 64, 64), Window(0, 48, 64, 64), Window(48, 0, 64, 64)


def test_a_mask_is_asked_for_in_the_tiles_that_show_some_of_it():
    mask = np.zeros((112, 112), bool)
    mask[10:30, 40:80] = True
    points = torch.tensor([[50.0, 20.0], [5.0, 100.0]])
    prompt = Prompt(mask=GivenMask.of(mask), points=points, point_labels=torch.tensor([1, 0]))
    asked, background = prompts_in_tiles(prompt, [LEFT, RIGHT, BELOW])
    assert asked.keys() == {0, 1}
    assert background == [2]
    for at, window in ((0, LEFT), (1, RIGHT)):
        own = asked[at].mask
        assert own is not None
        assert np.array_equal(own.whole(), mask[window.top :, window.left :][:64, :64])
        assert asked[at].points is not None
    assert asked[1].points.tolist() == [[2.0, 20.0]]  # pyright: ignore[reportOptionalMemberAccess]
    mask[10:30, 40:80] = False
    mask[10:30, :49] = True
    asked, background = prompts_in_tiles(Prompt(mask=GivenMask.of(mask)), [LEFT, RIGHT, BELOW])
    assert list(asked) == [0]  # of 49 columns the other tile shows one
    assert background == [2]
    boxed = Prompt(mask=GivenMask.of(mask), box=torch.tensor([0.0, 10.0, 90.0, 30.0]))
    asked, _ = prompts_in_tiles(boxed, [LEFT, RIGHT, BELOW])
    assert asked[0].box.tolist() == [0, 10, 63, 30]  # pyright: ignore[reportOptionalMemberAccess]


def test_an_earlier_answer_takes_the_place_of_the_mask_and_keeps_its_box():
    mask, earlier = blob((60, 83)), torch.randn(1, 64, 64)
    prompt = Prompt(mask=GivenMask.of(mask), mask_input=earlier)
    found = Preprocessing(image_size=256).prompt_to_input(prompt, (60, 83), 64)
    assert found.mask_input is earlier
    assert found.box is not None
    assert prompt.kind == "mask"
    own = Prompt(mask=prompt.mask, points=torch.ones(1, 2), point_labels=torch.ones(1))
    assert Preprocessing(image_size=256).prompt_to_input(own, (60, 83), 64).box is None


def test_a_model_sees_the_mask_at_its_own_side():
    segmenter = SamSegmenter.frozen("tiny", image_size=128).train(False)
    asked: list[Tensor | None] = []
    decode = segmenter.backbone.decode

    def kept(prepared: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        asked.extend(one.mask_input for one in prompts)
        return decode(prepared, prompts, *rest, **more)

    segmenter.backbone.decode = kept  # type: ignore[method-assign]
    predictor = Predictor(segmenter, device="cpu", precision="32")
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (60, 83, 3), dtype=np.uint8))
    answers = [predictor.predict(mask=one).probability() for one in (blob((60, 83)), blob((60, 83))[:, ::-1])]
    assert [None if one is None else tuple(one.shape) for one in asked] == [(1, 32, 32)] * 2
    assert (answers[0] - answers[1]).abs().max() > 0.1
