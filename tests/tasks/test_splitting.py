"""Objects from probabilities of foreground and core, and the target of the core."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sam_adapter.batch import VOID
from sam_adapter.tasks import label_maps, splitting
from sam_adapter.tasks.label_maps import number_parts
from sam_adapter.tasks.peaks import number_peaks
from sam_adapter.tasks.splitting import FoundObjects, core_map, split_objects

DISCS = [(30, 30, 20), (30, 66, 18), (58, 46, 18), (120, 120, 25), (120, 40, 7)]
"""Row, column, radius; the first three touch."""


def discs(size: int = 160, some: list[tuple[int, int, int]] = DISCS) -> np.ndarray:
    """Labels of discs in order; what two of them hold is the first one's."""
    labels = np.zeros((size, size), dtype=np.int32)
    rows, columns = np.mgrid[:size, :size]
    for number, (row, column, radius) in enumerate(some, start=1):
        labels[((rows - row) ** 2 + (columns - column) ** 2 <= radius**2) & (labels == 0)] = number
    return labels


def answers(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of foreground and core, blurred and never quite sure."""
    maps = [(labels > 0), core_map(labels)]
    foreground, core = (cv2.GaussianBlur(0.1 + 0.8 * one.astype(np.float32), (0, 0), 1) for one in maps)
    return foreground, core


def best_ious(labels: np.ndarray, found: FoundObjects) -> list[float]:
    """For each true object the IoU of the found one that fits best."""
    best = []
    for number in range(1, labels.max() + 1):
        true = labels == number
        ious = [
            np.count_nonzero(true & (found.labels == at)) / np.count_nonzero(true | (found.labels == at))
            for at in range(1, len(found) + 1)
        ]
        best.append(max(ious, default=0.0))
    return best


def test_parts_are_joined_over_corners():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], dtype=bool)
    parts = number_parts(mask)
    assert parts.dtype == np.int32
    assert parts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 2]]
    assert number_parts(mask[:, ::2]).max() == 1


def test_core_of_a_square():
    """Seven pixels wide, distances to the outside are 1, 2, 3, 4, 3, 2, 1: more than 2 is core."""
    labels = np.zeros((11, 11), dtype=np.int32)
    labels[2:9, 2:9] = 7
    expected = np.zeros((11, 11), dtype=bool)
    expected[4:7, 4:7] = True
    assert np.array_equal(core_map(labels), expected)


def test_core_is_where_the_distance_to_other_labels_is_large():
    """Against one exact distance transform an object; the distance along an edge is 1 here, also over a corner."""
    labels = discs()
    core = core_map(labels)
    for number in range(1, len(DISCS) + 1):
        inside = labels == number
        depth = distance_transform_edt(inside)
        assert isinstance(depth, np.ndarray)
        exact = 2 * depth > depth.max()
        assert np.count_nonzero(core[inside] != exact[inside]) <= 0.06 * np.count_nonzero(inside)
        assert np.count_nonzero(core & inside) == pytest.approx(np.count_nonzero(inside) / 4, rel=0.25)
    assert not core[labels == 0].any()


def test_every_object_has_a_core_and_those_of_neighbours_do_not_touch():
    rng = np.random.default_rng(0)
    seeds = np.ones((120, 150), dtype=np.uint8)
    seeds[rng.integers(0, 120, 60), rng.integers(0, 150, 60)] = 0
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    core = core_map(labels)
    assert set(labels[core].tolist()) == set(labels.ravel().tolist())
    assert number_parts(core).max() >= labels.max()
    for shift in ((0, 1), (1, 0)):
        other = np.roll(np.where(core, labels, 0), shift, (0, 1))
        assert not ((labels != other) & core & (other > 0))[1:, 1:].any()


def test_thin_objects_are_all_core():
    labels = np.zeros((5, 9), dtype=np.int32)
    labels[0, 0], labels[2:4, 3:8] = 1, 2
    assert np.array_equal(core_map(labels), labels > 0)


def test_core_of_a_part_of_a_picture_is_not_cut_at_its_border():
    labels = discs(160, [(80, 80, 30)])
    assert np.array_equal(core_map(labels[80:]), core_map(labels)[80:])
    assert core_map(np.ones((8, 8), dtype=np.int32)).all()


def test_void_is_no_object_but_an_edge():
    labels = np.full((12, 300), 3, dtype=np.int32)
    labels[:, 280:] = 256
    without = core_map(labels)
    labels[:, 140:] = VOID
    core = core_map(labels)
    assert not core[:, 140:].any()
    assert without[0, 139]
    assert core[0, 60]
    assert not core[0, 100]


def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch):
    labels = discs()
    maps = answers(labels)
    core, found = core_map(labels), split_objects(*maps)
    monkeypatch.setattr(label_maps, "BAND_PIXELS", 7 * 160)
    assert np.array_equal(core_map(labels), core)
    again = split_objects(*maps)
    assert np.array_equal(again.labels, found.labels)
    assert again.scores == pytest.approx(found.scores)


@pytest.mark.parametrize("with_core", [True, False])
def test_touching_objects_are_split(with_core: bool):
    labels = discs()
    foreground, core = answers(labels)
    found = split_objects(foreground, core if with_core else None)
    assert number_parts(foreground > 0.5).max() == 3
    assert len(found) == len(DISCS)
    assert found.labels.dtype == np.int32
    assert found.scores.dtype == np.float32
    assert set(found.labels.ravel().tolist()) == set(range(6))
    assert min(best_ious(labels, found)) > (0.9 if with_core else 0.85)
    assert np.array_equal(found.labels > 0, foreground > 0.5)


def test_cores_split_what_has_no_waist():
    """Two halves of a rectangle: the distance transform has one ridge, the predicted cores are two."""
    labels = np.zeros((60, 100), dtype=np.int32)
    labels[10:50, 10:45], labels[10:50, 45:90] = 1, 2
    foreground, core = answers(labels)
    assert min(best_ious(labels, split_objects(foreground, core))) > 0.9
    assert len(split_objects(foreground, None)) == 1


def bar(*seeds: slice) -> tuple[np.ndarray, np.ndarray]:
    """A foreground 10 high from column 5 to 55, with cores at some columns."""
    foreground, core = np.zeros((2, 20, 60), dtype=np.float32)
    foreground[5:15, 5:55] = 0.98
    for columns in seeds:
        core[9:11, columns] = 1
    return foreground, core


def test_flat_probabilities_are_shared_by_distance():
    """A slope in them, as small as a network leaves it where it is sure, decides nothing."""
    foreground, core = bar(slice(10, 12), slice(38, 40))
    foreground[5:15, 5:55] += np.linspace(0, 0.01, 50, dtype=np.float32)
    found = split_objects(foreground, core)
    assert np.array_equal(np.flatnonzero(found.labels[10] == found.labels[10, 11]), np.arange(5, 25))


@pytest.mark.parametrize(("dip", "objects"), [(0.05, 1), (0.2, 2)])
def test_objects_are_apart_where_the_core_is_weaker_though_above_the_threshold(dip: float, objects: int):
    foreground, core = np.zeros((2, 20, 60), dtype=np.float32)
    foreground[5:15, 5:55] = core[7:13, 8:52] = 0.9
    core[7:13, 29:31] -= dip
    assert len(split_objects(foreground, core, core_rise=0.1)) == objects
    assert len(split_objects(foreground, core)) == len(split_objects(foreground, core, core_rise=0.1, smoothing=8)) == 1


def test_a_part_of_a_blurred_map_is_that_of_the_whole():
    core = np.random.default_rng(0).random((60, 50), dtype=np.float32)
    whole = cv2.GaussianBlur(core, (0, 0), 2.3)
    for box in ((slice(0, 60), slice(None)), (slice(3, 9), slice(40, 50)), (slice(20, 21), slice(0, 4))):
        np.testing.assert_allclose(splitting._blurred(core, box, 2.3), whole[box], atol=1e-6)


def test_a_dip_of_the_core_is_a_seam():
    foreground, core = bar(slice(10, 12), slice(38, 40))
    core[5:15, 5:55] += 0.45
    core[5:15, 20] = 0.05
    found = split_objects(foreground, core.clip(0, 1))
    at = found.labels[10]
    assert len(set(at[5:20].tolist())) == len(set(at[21:55].tolist())) == 1
    assert at[19] != at[21]


def test_another_part_in_the_box_of_a_part_is_left_alone():
    """An L with two seeds, and a square in its corner with a seed near one of its arms."""
    foreground, core = np.zeros((2, 60, 60), dtype=np.float32)
    foreground[5:55, 5:10] = foreground[50:55, 5:55] = 1
    core[5:8, 5:10] = core[50:55, 52:55] = 1
    alone = split_objects(foreground, core)
    foreground[10:48, 12:40] = core[40:47, 13:39] = 1
    both = split_objects(foreground, core)
    assert len(both) == 3
    square = both.labels == both.labels[20, 20]
    assert np.count_nonzero(square) == 38 * 28
    ell = np.where(square, 0, both.labels)
    assert np.array_equal(ell == ell[5, 5], alone.labels == alone.labels[5, 5])


def test_a_part_without_core_is_an_object():
    labels = discs()
    foreground, core = answers(labels)
    core[100:140, 90:] = 0.1
    found = split_objects(foreground, core)
    assert len(found) == 5
    assert min(best_ious(labels, found)) > 0.9
    lost = found.labels[120, 120] - 1
    assert found.scores[lost] == found.scores.min()


def test_core_outside_of_the_foreground_joins_nothing():
    foreground, core = answers(discs())
    core[4:31, 29:31] = core[4:31, 65:67] = core[4:7, 29:67] = 0.9
    assert number_parts(core > 0.5).max() == 4
    assert len(split_objects(foreground, core)) == 5


def test_specks_are_left_out():
    foreground, core = np.zeros((2, 40, 40), dtype=np.float32)
    foreground[2:7, 2:7] = foreground[20:23, 20:25] = 1
    assert len(split_objects(foreground, core)) == 1
    assert len(split_objects(foreground, core, least_area=15)) == 2
    assert len(split_objects(foreground, core, least_area=26)) == 0
    assert len(split_objects(foreground, core, least_area=0)) == 2


def test_specks_of_core_are_no_seeds_and_pieces_that_they_flood_no_objects():
    foreground, core = np.zeros((2, 40, 40), dtype=np.float32)
    foreground[5:35, 5:35] = 1
    core[15:25, 15:25] = core[7, 7:10] = 1
    assert len(split_objects(foreground, core)) == 1
    assert len(split_objects(foreground, core, least_area=12)) == 2
    foreground[20, 35:39] = foreground[19:22, 38:40] = core[19:22, 38:40] = core[6:34, 6:34] = 1
    found = split_objects(foreground, core)
    assert len(found) == 1
    assert found.labels[20, 39] == 0


def test_thresholds():
    foreground, core = answers(discs())
    assert len(split_objects(foreground, core, threshold=0.95)) == 0
    assert (split_objects(foreground, core, threshold=0.05).labels > 0).all()
    assert len(split_objects(foreground, core, core_threshold=0.95)) == 3
    assert len(split_objects(foreground * 0.4, core, threshold=0.2)) == 5
    assert len(split_objects(foreground, core * 0.4, core_threshold=0.2)) == 5


def test_scores_tell_objects_that_are_unsure_or_cut_in_the_wrong_place():
    labels = discs(160, [(30, 30, 20), (30, 110, 20), (110, 30, 20), (110, 110, 20)])
    foreground, core = answers(labels)
    foreground[labels == 2] *= 0.8
    core[labels == 3] *= 0.8
    core[labels == 4] = 0.1
    core[95:100, 105:115] = core[119:124, 105:115] = 0.9  # two halves
    found = split_objects(foreground, core)
    assert len(found) == 5
    score = {number: found.scores[found.labels[row, column] - 1] for number, row, column in (
        (1, 30, 30), (2, 30, 110), (3, 110, 30), (4, 98, 110)
    )}  # fmt: skip
    assert score[1] > max(score[2], score[3])
    assert score[4] < min(score[2], score[3])
    inner = core_map(found.labels) & (found.labels == found.labels[30, 30])
    expected = foreground[found.labels == found.labels[30, 30]].mean() * core[inner].mean()
    assert score[1] == pytest.approx(expected, abs=6e-5)
    assert score[1] == np.float32(round(float(score[1]), 4))
    plain = split_objects(foreground, None)
    assert plain.scores[plain.labels[30, 110] - 1] == pytest.approx(
        foreground[plain.labels == plain.labels[30, 110]].mean(), abs=6e-5
    )


@pytest.mark.parametrize("with_core", [True, False])
@pytest.mark.parametrize(("value", "objects"), [(0.0, 0), (1.0, 1)])
def test_nothing_and_everything(with_core: bool, value: float, objects: int):
    foreground = np.full((30, 40), value, dtype=np.float32)
    found = split_objects(foreground, np.zeros_like(foreground) if with_core else None)
    assert len(found) == objects
    assert found.labels.tolist() == np.full((30, 40), objects).tolist()


def test_regions_whose_boxes_overlap_are_looked_at_together(monkeypatch: pytest.MonkeyPatch):
    """Slanted lines: each box is most of the picture. The objects are those that each region gives alone."""
    rows, columns = np.mgrid[:120, :120].astype(np.float32)
    lines = 0.45 + 0.45 * np.tanh(8 * np.sin((rows + columns) / 6))
    core = (lines + 0.1 * np.sin(columns / 9)).clip(0, 1).astype(np.float32)
    sizes: list[int] = []

    def counted(height: np.ndarray, rise: float) -> np.ndarray:
        sizes.append(height.size)
        return number_peaks(height, rise)

    monkeypatch.setattr(splitting, "number_peaks", counted)
    together = split_objects(lines, core, core_rise=0.1)
    assert sizes == [core.size]
    regions = number_parts(core > splitting.PEAK_THRESHOLD)
    assert regions.max() > 4
    alone = [np.where(regions == at, core, np.float32(-1)) for at in range(1, regions.max() + 1)]
    tops = [number_peaks(one, 0.1) for one in alone]
    assert len(together) == sum(len(np.unique(one[one > 0])) for one in tops) > 9


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"same shape, got \(3, 5\) and \(3, 4\)"):
        split_objects(np.zeros((3, 4), np.float32), np.zeros((3, 5), np.float32))
