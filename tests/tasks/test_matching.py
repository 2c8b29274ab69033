"""Pairs of true and found objects, and scores of them, against cases that are counted by hand."""

import numpy as np
import pytest

from sam_adapter.batch import VOID
from sam_adapter.tasks.metrics import matching
from sam_adapter.tasks.metrics.matching import Overlaps, count_objects, find_overlaps, match, object_scores
from sam_adapter.tasks.metrics.object_errors import object_errors


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A map of one row from values and how often they come one after another."""
    return np.concatenate([np.full(length, value, dtype=np.int32) for value, length in runs])[None]


def scores(overlaps: Overlaps) -> dict[str, float]:
    return {name: float(value) for name, value in object_scores(np.array(count_objects(overlaps))).items()}


TRUTH = row((1, 10), (0, 2), (2, 8), (3, 6), (0, 4))
FOUND = row((1, 8), (0, 4), (2, 14), (3, 2), (0, 2))
"""Found 1 lies in true 1 (8 of 10); found 2 has merged 2 and 3 (IoU 8/14 and 6/14); found 3 is none."""


def test_pairs_and_areas():
    overlaps = find_overlaps(TRUTH, FOUND)
    assert overlaps.true_numbers.tolist() == [1, 2, 3]
    assert overlaps.true_areas.tolist() == [10, 8, 6]
    assert overlaps.found_numbers.tolist() == [1, 2, 3]
    assert overlaps.found_areas.tolist() == [8, 14, 2]
    assert overlaps.pairs.tolist() == [[1, 1, 8], [2, 2, 8], [3, 2, 6]]
    assert overlaps.ious == pytest.approx([0.8, 8 / 14, 6 / 14])


def test_merged_objects():
    overlaps = find_overlaps(TRUTH, FOUND)
    assert count_objects(overlaps) == (3, 3, 2, pytest.approx(0.8 + 8 / 14), pytest.approx(0.8 + 8 / 14), 22, 40, 1, 0)
    expected = {
        "f1": 4 / 6,
        "precision_objects": 2 / 3,
        "recall_objects": 2 / 3,
        "matched_iou": (0.8 + 8 / 14) / 2,
        "pq": (0.8 + 8 / 14) / 2 * 2 / (2 + 0.5 + 0.5),  # SQ * RQ
        "aji": (8 + 8 + 6) / (10 + 14 + 14 + 2),  # found 2 fits two best, found 3 none
    }
    assert scores(overlaps) == pytest.approx(expected)


def test_split_objects():
    overlaps = find_overlaps(FOUND, TRUTH)
    counts = count_objects(overlaps)
    assert (counts.merged, counts.split, counts.matched) == (0, 1, 2)
    assert (counts.common, counts.joint) == (8 + 8, 10 + 14 + 2 + 6)


def test_halves_are_matched_once_and_are_no_panoptic_match():
    """An IoU of exactly a half counts for F1, as for AP, and not for panoptic quality, which asks for more."""
    overlaps = find_overlaps(row((1, 8)), row((1, 4), (2, 4)))
    assert match(overlaps).tolist() == [0]
    assert match(find_overlaps(row((1, 4), (2, 4)), row((1, 8)))).tolist() == [0]
    assert scores(overlaps)["f1"] == pytest.approx(2 / 3)
    assert scores(overlaps)["pq"] == 0
    assert count_objects(overlaps).split == 1
    assert count_objects(overlaps).joint == 8 + 4


def test_the_best_pair_is_matched_first():
    """Found 2 has 3/7 of true 1 and 5/7 of true 2; the pair with the smaller number is not taken before it."""
    overlaps = find_overlaps(row((1, 5), (2, 5), (0, 1)), row((1, 2), (2, 8), (0, 1)))
    assert overlaps.pairs[match(overlaps, 0.3)].tolist() == [[2, 2, 5], [1, 1, 2]]
    assert match(overlaps, 0.3).tolist() == [2, 0]
    assert match(overlaps, 0.4).tolist() == [2, 0]
    assert match(overlaps, 0.41).tolist() == [2]
    assert match(overlaps, 0.7).tolist() == []


def test_nothing_true_or_nothing_found():
    nothing = row((0, 30))
    missed, extra, both = (find_overlaps(*maps) for maps in ((TRUTH, nothing), (nothing, FOUND), (nothing, nothing)))
    assert count_objects(missed) == (3, 0, 0, 0, 0, 0, 24, 0, 0)
    assert count_objects(extra) == (0, 3, 0, 0, 0, 0, 24, 0, 0)
    nan = float("nan")
    assert list(scores(missed).values()) == pytest.approx([0, nan, 0, nan, 0, 0], nan_ok=True)
    assert list(scores(extra).values()) == pytest.approx([0, 0, nan, nan, 0, 0], nan_ok=True)
    assert np.isnan(list(scores(both).values())).all()


def test_void_counts_nowhere():
    """Void ring around a small object: what reaches into it is as good as what does not."""
    truth = row((VOID, 20), (1, 6), (VOID, 20), (2, 4), (0, 4))
    found = row((0, 10), (1, 26), (0, 10), (2, 4), (0, 4))
    overlaps = find_overlaps(truth, found)
    assert overlaps.true_numbers.tolist() == [1, 2]
    assert overlaps.found_areas.tolist() == [6, 4]
    assert scores(overlaps)["pq"] == 1
    assert scores(overlaps)["aji"] == 1


def test_objects_in_void_are_left_out():
    truth = row((VOID, 20), (1, 6), (0, 14))
    found = row((0, 4), (1, 6), (0, 4), (2, 8), (0, 12), (3, 6))
    overlaps = find_overlaps(truth, found)
    assert overlaps.found_void.tolist() == [6, 6, 0]
    assert overlaps.without_crowd().found_numbers.tolist() == [3]  # 2 has 6 of 8 in void, and 2 of 6 of true 1
    for void, kept in ((4, [1]), (5, []), (8, [])):
        one = find_overlaps(row((VOID, void), (0, 8 - void)), row((1, 8)))
        assert one.without_crowd().found_numbers.tolist() == kept
        assert count_objects(one).found == len(kept)
    fits = find_overlaps(row((VOID, 5), (1, 3)), row((1, 8)))
    assert count_objects(fits)[:3] == (1, 1, 1)


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong():
    truth = row((7, 20), (1, 6), (0, 4))
    found = row((1, 5), (2, 10), (0, 4), (3, 7), (4, 4))
    overlaps = find_overlaps(truth, found, crowd=[7])
    assert overlaps.crowd.tolist() == [False, True]
    kept = overlaps.without_crowd()
    assert kept.true_numbers.tolist() == [1]
    assert kept.found_numbers.tolist() == [3, 4]
    assert count_objects(overlaps)[:3] == (1, 2, 1)
    edge = find_overlaps(row((7, 20), (0, 10)), row((0, 16), (1, 8), (0, 6)), crowd=[7])
    assert edge.without_crowd().found_numbers.tolist() == [1]  # half of it


def test_classes_scores_and_numbers_with_gaps():
    truth, found = row((3, 4), (9, 4), (0, 4)), row((0, 1), (2, 3), (4, 4), (0, 4))
    overlaps = find_overlaps(
        truth, found, scores=[0.1, 0.2, 0.3, 0.4], true_classes={3: 1, 9: 2}, found_classes=[9, 2, 9, 2]
    )
    assert overlaps.scores.tolist() == [0.2, 0.4]
    assert overlaps.true_classes.tolist() == [1, 2]
    assert overlaps.found_classes.tolist() == [2, 2]
    second = overlaps.of_class(2)
    assert second.true_numbers.tolist() == [9]
    assert second.found_numbers.tolist() == [2, 4]
    assert second.pairs.tolist() == [[9, 4, 4]]
    assert second.scores.tolist() == [0.2, 0.4]
    assert len(overlaps.of_class(1).pairs) == 0


def test_many_objects_in_bands_against_counting_one_by_one(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    truth, found = (np.kron(rng.integers(0, 40, (12, 10)), np.ones((5, 6), int)).astype(np.int32) for _ in range(2))
    found = np.roll(found, (2, 3), (0, 1))
    truth[20:25] = VOID
    monkeypatch.setattr(matching, "_BAND_PIXELS", 7 * 60)
    overlaps = find_overlaps(truth, found)
    for number, area in zip(overlaps.true_numbers, overlaps.true_areas, strict=True):
        assert area == (truth == number).sum()
    for number, area in zip(overlaps.found_numbers, overlaps.found_areas, strict=True):
        assert area == ((found == number) & (truth != VOID)).sum()
    expected = [
        [one, other, both]
        for one in range(1, 40)
        for other in overlaps.found_numbers.tolist()
        if (both := int(((truth == one) & (found == other)).sum()))
    ]
    assert overlaps.pairs.tolist() == expected


def test_maps_of_different_size():
    with pytest.raises(ValueError, match=r"same shape, got \(1, 30\) and \(1, 29\)"):
        find_overlaps(TRUTH, FOUND[:, 1:])


def test_errors_by_number_are_those_that_are_counted():
    truth = row((1, 10), (0, 2), (2, 8), (3, 6), (0, 4), (4, 12), (5, 4), (VOID, 6))
    found = row((1, 8), (0, 4), (2, 14), (3, 2), (0, 2), (4, 4), (5, 4), (6, 4), (0, 4), (7, 6))
    overlaps = find_overlaps(truth, found)
    errors = object_errors(overlaps, [1])
    assert errors.matched.tolist() == [1, 2]
    assert errors.missed.tolist() == [3, 4, 5]
    assert errors.false.tolist() == [3, 4, 5, 6]  # 7 lies in void
    assert (errors.merged.tolist(), errors.split.tolist()) == ([2], [4])
    counts = count_objects(overlaps)
    assert (counts.merged, counts.split, counts.true - counts.matched) == (1, 1, 3)
    classes = dict.fromkeys(range(1, 6), 1) | {2: 2}
    apart = object_errors(find_overlaps(truth, found, true_classes=classes, found_classes=[1] * 7), [1, 2])
    assert apart.missed.tolist() == [3, 4, 5, 2]  # class after class
    assert apart.merged.tolist() == []
