"""Objects of every kind of file, told apart."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import DATA
from object_scenes import discs, picture_of
from sam_adapter.annotations.reading.instances import Instances, number_parts, read_instances
from sam_adapter.config.commands import CheckConfig
from sam_adapter.config.labels import FOREGROUND, VOID
from sam_adapter.data.augmentation import Augmentation
from sam_adapter.data.inspection.findings import Inspection
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import ConfigError


def found_in(folder: Path, **more) -> Inspection:
    return inspect(CheckConfig(task="instance", images=folder / "images", masks=folder / "masks", **more))


def objects_of(found: Inspection, at: int = 0) -> Instances:
    return read_instances(found.records[at], found.rules)


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label maps differ in their numbers alone."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(other))


@pytest.fixture
def labels(tmp_path: Path) -> list[np.ndarray]:
    """Four label maps with their pictures; masks are written by the tests."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(3)
    made = [discs(rng) for _ in range(4)]
    for at, one in enumerate(made):
        Image.fromarray(picture_of(one, rng)).save(tmp_path / f"images/{at}.png")
    return made


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_numbers_with_gaps_are_objects_and_255_is_one_of_them(tmp_path, labels, suffix):
    for at, one in enumerate(labels):
        path = tmp_path / f"masks/{at}.{suffix}"
        if suffix == "png":
            Image.fromarray(one.astype(np.uint16)).save(path)
        elif suffix == "tif":
            tifffile.imwrite(path, one.astype(np.uint32))
        else:
            np.save(path, one)
    found = found_in(tmp_path)
    assert not found.faults
    assert found.rules.objects == "numbers"
    for at, one in enumerate(labels):
        read = objects_of(found, at).labels
        assert same_objects(read, one)
        assert VOID not in read
        assert found.looks[at].objects.count == len(np.unique(one)) - 1


def test_thousands_of_numbers_in_one_file_are_objects_and_a_deep_photograph_is_none(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    squares = np.arange(1, 5001).reshape(50, 100).repeat(6, 0).repeat(6, 1)
    squares[::6] = squares[:, ::6] = 0
    Image.fromarray(np.zeros((*squares.shape, 3), np.uint8)).save(tmp_path / "images/0.png")
    Image.fromarray(squares.astype(np.uint16)).save(tmp_path / "masks/0.png")
    found = found_in(tmp_path)
    assert not found.faults
    assert found.looks[0].objects.count == 5000
    assert same_objects(objects_of(found).labels, squares)
    grain = np.random.default_rng(0).integers(0, 9000, squares.shape)
    grain[:20] = 0
    Image.fromarray(grain.astype(np.uint16)).save(tmp_path / "masks/0.png")
    assert found_in(tmp_path).faults


def test_colours_are_numbers_only_if_it_is_said(tmp_path, labels):
    for at, one in enumerate(labels):
        colours = np.stack([one % 251, one // 3 % 251, (one > 0) * 200], -1).astype(np.uint8)
        Image.fromarray(colours).save(tmp_path / f"masks/{at}.png")
    assert found_in(tmp_path).faults
    found = found_in(tmp_path, mask_rule="numbers")
    assert not found.faults
    assert same_objects(objects_of(found, 2).labels, labels[2])


def test_the_parts_of_a_foreground_are_objects_over_corners_too(tmp_path, labels):
    for at, one in enumerate(labels):
        Image.fromarray((one > 0).astype(np.uint8) * 255).save(tmp_path / f"masks/{at}.png")
    found = found_in(tmp_path)
    assert found.rules.objects == "parts"
    assert same_objects(objects_of(found).labels, number_parts(labels[0] > 0))
    corner = np.zeros((4, 4), bool)
    corner[:2, :2] = corner[2:, 2:] = True
    assert number_parts(corner).max() == 1


def test_more_parts_than_255_leave_out_the_number_of_void():
    grid = np.zeros((80, 80), bool)
    grid[::4, ::4] = True
    numbers = number_parts(grid)
    assert len(np.unique(numbers)) == 401
    assert VOID not in numbers


def test_numbers_of_classes_are_not_taken_for_objects(tmp_path, labels):
    for at, one in enumerate(labels):
        kinds = np.where(one > 254, 3, np.where(one > 0, 1, 0)).astype(np.uint8)
        kinds[:3, :3] = 2
        Image.fromarray(kinds).save(tmp_path / f"masks/{at}.png")
    found = found_in(tmp_path)
    assert {fault.kind for fault in found.faults} == {"class_indices"}
    assert "--classes FILE" in found.faults[0].advice
    assert "--mask-rule numbers" in found.faults[0].advice
    (tmp_path / "classes.yaml").write_text("small: 1\nmark: 2\nlarge: 3\n")
    found = found_in(tmp_path, classes=tmp_path / "classes.yaml")
    assert not found.faults
    read = objects_of(found)
    kinds = np.asarray(Image.open(tmp_path / "masks/0.png"))
    assert np.array_equal(read.class_labels(), kinds)
    assert set(read.classes.values()) == {1, 2, 3}


def test_a_value_that_is_void_is_no_object(tmp_path, labels):
    for at, one in enumerate(labels):
        marked = one.astype(np.uint16)
        marked[:5] = 65535
        Image.fromarray(marked).save(tmp_path / f"masks/{at}.png")
    read = objects_of(found_in(tmp_path, ignore_value=(65535,)))
    assert (read.labels[:5] == VOID).all()
    assert set(np.unique(read.class_labels())) == {0, FOREGROUND, VOID}


def test_a_file_an_object_and_their_overlap_is_the_later_one(tmp_path):
    (tmp_path / "masks/a").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "images/a.png")
    for at, columns in enumerate((slice(2, 12), slice(10, 20), slice(25, 28))):
        mask = np.zeros((20, 30), np.uint8)
        mask[5:10, columns] = 255
        Image.fromarray(mask).save(tmp_path / f"masks/a/{at}.png")
    read = objects_of(found_in(tmp_path, mask_layout="folder_per_image"))
    assert [int((read.labels == number).sum()) for number in (1, 2, 3)] == [40, 50, 15]


@pytest.mark.skipif(not (DATA / "label_formats").is_dir(), reason="needs the shared data")
def test_the_formats_of_one_set_have_the_same_objects():
    folder = DATA / "label_formats"
    sources = {
        "voc": {"masks": folder / "voc/SegmentationObject", "ignore_value": (255,)},
        "coco": {"annotations": folder / "coco/annotations.json"},
        "labelme": {"annotations": folder / "labelme"},
    }
    counts, classes = {}, {}
    for name, source in sources.items():
        found = inspect(CheckConfig(task="instance", images=folder / "images", **source))
        assert not found.faults
        counts[name] = [look.objects.count for look in found.looks]
        if found.rules.classes is not None:
            names = found.rules.classes.names
            kinds = [[names[label - 1] for label in objects_of(found, at).classes.values()] for at in range(3)]
            classes[name] = [sorted(one) for one in kinds]
    assert counts["voc"] == counts["coco"] == counts["labelme"] == [3, 6, 3]
    assert classes["coco"] == classes["labelme"]


def test_augmentation_keeps_every_number_beyond_eight_bits():
    rng = np.random.default_rng(0)
    labels = np.zeros((90, 90), np.int32)
    for at, number in enumerate((1, 254, 256, 300, 70000)):
        labels[10 + 15 * at : 22 + 15 * at, 30:60] = number
    for most in (300, 70000):
        own = np.where(labels <= most, labels, 0)
        seen: set[int] = set()
        for seed in range(6):
            _, moved = Augmentation("default")(picture_of(own, rng), own, seed=seed)
            assert moved.dtype == np.int32
            assert set(np.unique(moved)) <= set(np.unique(own))
            seen |= set(np.unique(moved).tolist())
        assert seen == set(np.unique(own).tolist())


def test_numbers_are_of_tasks_with_objects_alone():
    with pytest.raises(ConfigError, match="mask_rule: 'numbers' tells objects apart, and the task 'binary' has none"):
        CheckConfig(images=Path("i"), masks=Path("m"), mask_rule="numbers")
