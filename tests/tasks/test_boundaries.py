"""Boundary IoU and the 95 % Hausdorff distance against plain definitions, pixel by pixel, and cases by hand."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from sam_adapter.tasks.metrics.boundaries import boundary_iou, hd95
from sam_adapter.tasks.metrics.full_size_answer import FullSizeAnswer

SIZES = [(30, 44), (61, 47), (1, 50), (9, 9), (150, 40)]


def patches(seed: int, size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.sin(rows / 5 + seed) + np.cos(columns / 6 - seed / 2) > 0.2


def answer(mask: np.ndarray, target: np.ndarray, **more) -> FullSizeAnswer:
    return FullSizeAnswer.of_mask(mask, target, **more)


def inner_band(mask: np.ndarray, depth: int) -> np.ndarray:
    """Foreground with background, or what lies outside the picture, within so many rows and columns."""
    found = np.zeros_like(mask)
    padded = np.pad(mask, depth)
    for row, column in np.argwhere(mask):
        found[row, column] = not padded[row : row + 2 * depth + 1, column : column + 2 * depth + 1].all()
    return found


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_boundary_iou_is_that_of_its_definition(size: tuple[int, int], seed: int):
    mask, target = patches(0, size), patches(seed, size)
    depth = max(round(0.02 * (size[0] ** 2 + size[1] ** 2) ** 0.5), 1)
    ours, theirs = inner_band(mask, depth), inner_band(target, depth)
    expected = (ours & theirs).sum() / (ours | theirs).sum()
    assert boundary_iou(answer(mask, target)) == pytest.approx(expected, abs=1e-12)


def test_boundary_iou_by_hand():
    """Squares of 6 x 6 of which one lies a column further right: frames of 20 pixels, 10 of them in both."""
    mask, target = np.zeros((2, 20, 20), bool)
    mask[5:11, 5:11], target[5:11, 6:12] = True, True
    assert boundary_iou(answer(mask, target)) == pytest.approx(10 / 30)
    large, inner = np.ones((2, 100, 100), bool)
    inner[40:60, 40:60] = False  # 3 pixels deep: a frame of 100^2 - 94^2, and around the hole 26^2 - 20^2
    assert boundary_iou(answer(large, inner)) == pytest.approx((100**2 - 94**2) / (100**2 - 94**2 + 26**2 - 20**2))


def edge_points(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~surrounded)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0), (3e-7, 1e-7)])
@pytest.mark.parametrize("size", SIZES)
def test_hd95_is_that_of_all_pairs_of_edge_pixels(size: tuple[int, int], spacing: tuple[float, float]):
    mask, target = patches(0, size), patches(3, size)
    ours, theirs = (edge_points(one) * np.array(spacing) for one in (mask, target))
    pairs = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1))
    expected = np.percentile(np.concatenate([pairs.min(1), pairs.min(0)]), 95)
    assert hd95(answer(mask, target, spacing=spacing)) == pytest.approx(expected, rel=1e-9)


def test_hd95_is_that_of_medpy():
    """Its few lines: erosions by a cross, distance transforms, and the percentile of both directions together."""
    mask, target = patches(0, (90, 70)), patches(2, (90, 70))
    borders = []
    for one in (mask, target):
        border = np.zeros_like(one)
        border[tuple(edge_points(one).T)] = True
        borders.append(border)
    ours, theirs = borders
    to_theirs = np.asarray(distance_transform_edt(~theirs, sampling=(0.8, 1.3)))[ours]
    to_ours = np.asarray(distance_transform_edt(~ours, sampling=(0.8, 1.3)))[theirs]
    expected = np.percentile(np.hstack((to_theirs, to_ours)), 95)
    assert hd95(answer(mask, target, spacing=(0.8, 1.3))) == pytest.approx(expected, rel=1e-6)


def test_hd95_by_hand():
    mask, target = np.zeros((2, 10, 12), bool)
    mask[2, 3], target[5, 7] = True, True
    assert hd95(answer(mask, target)) == pytest.approx(5)
    assert hd95(answer(mask, target, spacing=(2.0, 0.5))) == pytest.approx(40**0.5)
    line, longer = np.zeros((2, 3, 60), bool)
    line[1, :20], longer[1, :40] = True, True
    # 60 distances: 40 of 0, then 1 to 20; the 95th percentile lies at place 56.05 of 0 to 59.
    assert hd95(answer(line, longer)) == pytest.approx(17.05)


EMPTY, FULL = np.zeros((30, 40), bool), np.ones((30, 40), bool)


def test_empty_and_full_masks():
    some = patches(1, (30, 40))
    for mask, target, iou, distance in (
        (EMPTY, EMPTY, 1, 0),
        (FULL, FULL, 1, 0),
        (some, some, 1, 0),
        (EMPTY, some, 0, 50),
        (some, EMPTY, 0, 50),
        (EMPTY, FULL, 0, 50),
    ):
        given = answer(mask, target)
        assert boundary_iou(given) == iou
        assert hd95(given) == pytest.approx(distance)
    assert hd95(answer(EMPTY, some, spacing=(2.0, 0.75))) == pytest.approx((60**2 + 30**2) ** 0.5)
    assert 0 < boundary_iou(answer(FULL, some)) < 1
    assert 0 < hd95(answer(FULL, some)) < 50


@pytest.mark.parametrize("score", [boundary_iou, hd95])
def test_void_is_background_in_both(score):
    mask, target = patches(0, (30, 44)), patches(1, (30, 44))
    counted = np.ones((30, 44), bool)
    counted[10:20] = False
    found = score(answer(mask, target & counted, counted=counted))
    assert found == score(answer(mask & counted, target & counted))
    assert found == score(answer(mask | ~counted, target & counted, counted=counted))
    assert found != score(answer(mask, target))


def test_the_threshold_decides_what_is_scored():
    target = patches(0, (30, 40))
    logits = torch.from_numpy(np.where(target, 1.0, -1.0)).float()  # probabilities .73 and .27
    for threshold, mask in ((0.5, target), (0.8, EMPTY), (0.2, FULL)):
        given = FullSizeAnswer(logits=logits, target=target, threshold=threshold)
        assert hd95(given) == hd95(answer(mask, target))
        assert boundary_iou(given) == boundary_iou(answer(mask, target))
    half = torch.zeros(1, 1)
    assert not FullSizeAnswer(logits=half, target=EMPTY[:1, :1], threshold=0.5).mask  # above the threshold, not at it


def test_distances_where_denormal_numbers_are_flushed():
    """As `Machine.prepare_process` has it; a KDTree of points at 0 ends the process there, so it is one of its own."""
    program = """
import numpy as np, torch
assert torch.set_flush_denormal(True)
from sam_adapter.tasks.metrics.full_size_answer import FullSizeAnswer
from sam_adapter.tasks.metrics.boundaries import hd95
column, single = np.zeros((2, 200, 300), bool)
column[:, 0] = column[50, 299] = single[50, 299] = True
print(hd95(FullSizeAnswer.of_mask(column, single)))
print(hd95(FullSizeAnswer.of_mask(column, single, spacing=(1e-9, 1e-9))) * 1e9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels, small = map(float, done.stdout.split())
    assert pixels == pytest.approx((299**2 + 140**2) ** 0.5, abs=1)  # of all but ten of the column's pixels
    assert small == pytest.approx(pixels)
