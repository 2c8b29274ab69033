"""Scenes of many objects."""

import numpy as np
import pytest

from sam_adapter.demo.crowd_looks import KINDS
from sam_adapter.demo.crowds import LEAST_PIXELS, MOST_OBJECTS, crowd

SEED = 5


@pytest.fixture(scope="module")
def crowds():
    return [crowd(SEED, index) for index in range(40)]


def test_same_number_same_scene(crowds):
    again = crowd(SEED, 3)
    np.testing.assert_array_equal(again.image, crowds[3].image)
    np.testing.assert_array_equal(again.labels, crowds[3].labels)
    assert not np.array_equal(crowd(SEED + 1, 3).image, again.image)


def test_labels_without_gaps_and_large_enough(crowds):
    for one in crowds:
        count = len(one.parents) - 1
        whole = np.bincount(one.whole.ravel(), minlength=count + 1)
        roots = np.flatnonzero(one.parents[1:] == 0) + 1
        assert 1 <= len(roots) <= MOST_OBJECTS
        assert one.labels.max() == count
        assert (whole[roots] >= LEAST_PIXELS).all()
        assert set(np.unique(one.labels)) >= set(range(1, count + 1))


def test_parts_lie_in_what_holds_them(crowds):
    held = [(one, part) for one in crowds for part in np.flatnonzero(one.parents)]
    assert held
    for one, part in held:
        assert one.parents[one.parents[part]] == 0
        assert (one.whole[one.labels == part] == one.parents[part]).all()


def test_scenes_vary(crowds):
    assert {one.kind for one in crowds} == set(KINDS)
    counts = [len(one.parents) - 1 for one in crowds]
    assert min(counts) < 8
    assert max(counts) > 35
    sides = np.concatenate([np.sqrt(np.bincount(one.whole.ravel())[1:]) for one in crowds])
    assert (sides[sides > 0] < 8).mean() > 0.1
    assert (sides > 30).mean() > 0.02


def test_other_sizes():
    small = crowd(SEED, 1, 128)
    assert small.image.shape == (128, 128, 3)
    assert small.labels.shape == (128, 128)
