import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from annotation_files import SIZES, coco, labelme, shape, write_images, write_json
from PIL import Image
from pycocotools.coco import COCO

from conftest import DATA, needs_shared
from sam_adapter.annotations.coco import list_coco
from sam_adapter.annotations.export import VOID_LABEL, with_ids_of, write_coco, write_label_maps
from sam_adapter.annotations.labelme import list_labelme
from sam_adapter.annotations.listing import Listing, Record
from sam_adapter.annotations.objects import AnnotatedObject
from sam_adapter.annotations.sources import listing_of
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import DataError

LABEL_FORMATS = DATA / "label_formats"


def sizes_of(listing: Listing) -> dict[str, tuple[int, int]]:
    sizes = {}
    for record in listing.records:
        with Image.open(record.image) as image:
            sizes[record.name] = (image.height, image.width)
    return sizes


def written(folder: Path, listing: Listing) -> Path:
    path = folder / "out.json"
    write_coco(path, listing.records, sizes_of(listing), listing.class_names)
    return path


def as_in_coco(record: Record, names: tuple[str, ...]) -> list[AnnotatedObject]:
    """The objects in the order of a COCO file, void first; what is of no class is a crowd of each."""
    objects = sorted(record.objects or (), key=lambda one: not one.void)
    return [one for one in objects for _ in (names if one.class_name not in names else [0])]


def require_same(first: Listing, second: Listing) -> None:
    """The same objects with the same pixels."""
    assert [record.name for record in first.records] == [record.name for record in second.records]
    sizes = sizes_of(first)
    for one, other in zip(first.records, second.records, strict=True):
        objects = [as_in_coco(record, first.class_names) for record in (one, other)]
        assert len(objects[0]) == len(objects[1])
        for before, after in zip(*objects, strict=True):
            assert before.void == after.void
            assert before.void or before.class_name == after.class_name
            np.testing.assert_array_equal(before.mask(sizes[one.name]), after.mask(sizes[one.name]))


def made(folder: Path) -> Listing:
    """Polygons, groups, void and masks."""
    images = write_images(folder)
    square: list[list[float]] = [[10.25, 5], [30, 5.1234567], [30, 25], [10, 25]]
    small: list[list[float]] = [[0, 0], [6, 0], [6, 6]]
    hole: list[list[float]] = [[12, 7], [20, 7], [20, 15], [12, 15]]
    shapes = [
        shape("car", square),
        shape("_background_", hole),
        shape("__ignore__", hole),
        shape("bus", small, group=1),
    ]
    write_json(folder / "labels/c.json", labelme("c", *shapes, shape("bus", hole, group=1)))
    write_json(folder / "labels/day1/a.json", labelme("day1/a", shape("bus", square)))
    write_json(folder / "labels/day1/b.json", labelme("day1/b"))
    return list_labelme(images, folder / "labels")


def test_a_coco_file_that_is_read_again_has_the_same_objects(tmp_path: Path):
    listing = made(tmp_path)
    path = written(tmp_path, listing)
    again = list_coco(tmp_path / "images", path)
    assert again.problems == []
    assert again.class_names == listing.class_names
    require_same(listing, again)
    first = written(tmp_path, again).read_bytes()
    assert written(tmp_path, list_coco(tmp_path / "images", path)).read_bytes() == first


def test_coco_s_own_library_reads_the_file(tmp_path: Path):
    listing = made(tmp_path)
    read = COCO(str(written(tmp_path, listing)))
    sizes = sizes_of(listing)
    for image_id, record in zip(read.getImgIds(), listing.records, strict=True):
        assert read.loadImgs(image_id)[0]["file_name"] == f"{record.name}.png"
        names = listing.class_names
        objects = [one for one in record.objects or () for _ in (names if one.class_name not in names else [0])]
        for entry, one in zip(read.loadAnns(read.getAnnIds(image_id)), objects, strict=True):
            mask = one.mask(sizes[record.name])
            np.testing.assert_array_equal(read.annToMask(entry), mask)
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
            assert (entry["area"], entry["bbox"], entry["iscrowd"]) == (mask.sum(), box, one.void)
            assert one.void or read.loadCats(entry["category_id"])[0]["name"] == one.class_name


def test_void_of_no_class_is_a_crowd_of_each(tmp_path: Path):
    listing = made(tmp_path)
    entries = json.loads(written(tmp_path, listing).read_text())["annotations"]
    assert sorted(one["category_id"] for one in entries if one["iscrowd"]) == [1, 2]


def result(folder: Path, name: str, images: list[tuple[int, str]], kinds: list[tuple[int, str]]) -> Path:
    """A COCO file with an object of the first class in the last picture."""
    content = {
        "images": [{"id": number, "file_name": file} for number, file in images],
        "categories": [{"id": number, "name": kind} for number, kind in kinds],
        "annotations": [{"id": 9, "image_id": images[-1][0], "category_id": kinds[0][0], "score": 0.5}],
    }
    return write_json(folder / name, content)


def test_results_take_the_ids_of_another_file(tmp_path: Path):
    truth = result(
        tmp_path,
        "truth.json",
        [(30, "x/a.png"), (7, "x/day/b.png"), (4, "x/day2\\b.png"), (5, "c.png")],
        [(90, "car"), (2, "tv/monitor"), (1, "dog")],
    )
    kinds = [(1, "tv/monitor"), (2, "car")]
    found = result(tmp_path, "found.json", [(1, "a.png"), (3, "v/c.png"), (2, "day/b.png")], kinds)
    taken = with_ids_of(found, truth)
    assert [one["id"] for one in taken["images"]] == [30, 5, 7]
    assert taken["categories"] == json.loads(truth.read_text())["categories"]
    assert taken["annotations"] == [{"id": 9, "image_id": 7, "category_id": 2, "score": 0.5}]
    wrong = result(tmp_path, "wrong.json", [(1, "b.png"), (2, "e.png")], [(1, "monitor")])
    with pytest.raises(DataError, match=r"2 file_name 'b\.png'; .*no file_name 'e\.png'; .*no category 'monitor'\."):
        with_ids_of(wrong, truth)


def test_label_maps_show_what_is_not_covered(tmp_path: Path):
    listing = made(tmp_path)
    sizes = sizes_of(listing)
    paths = write_label_maps(tmp_path / "maps", listing.records, sizes)
    assert [path.relative_to(tmp_path / "maps").as_posix() for path in paths] == ["c.png", "day1/a.png", "day1/b.png"]
    for path, record in zip(paths, listing.records, strict=True):
        with Image.open(path) as image:
            assert image.mode == "I;16"
            labels = np.asarray(image)
        covered = np.zeros(sizes[record.name], dtype=bool)
        objects = list(record.objects or ())
        number = sum(not one.void for one in objects)
        for one in reversed(objects):
            seen = one.mask(sizes[record.name]) & ~covered
            np.testing.assert_array_equal(labels == (VOID_LABEL if one.void else number), seen)
            number -= not one.void
            covered |= seen
        np.testing.assert_array_equal(labels == 0, ~covered)


def test_objects_that_cannot_be_written_are_named(tmp_path: Path):
    triangle = (np.array([[0.0, 0], [6, 0], [6, 6]]),)
    for one, text in (
        (AnnotatedObject(class_name="van", polygons=triangle, entry="line 3"), "line 3 is of the class 'van'"),
        (
            AnnotatedObject(class_name="car", file=tmp_path / "m.png"),
            "m.png: is a mask of the image 'c' that has to be",
        ),
    ):
        record = Record("c", tmp_path / "c.png", tmp_path / "c.json", objects=(one,))
        with pytest.raises(DataError, match=text):
            write_coco(tmp_path / "out.json", [record], {"c": SIZES["c"]}, ["car"])
    assert not (tmp_path / "out.json").exists()


@needs_shared(LABEL_FORMATS)
@pytest.mark.parametrize("form", ["coco/annotations.json", "labelme", "yolo"])
def test_every_format_goes_through_a_coco_file(tmp_path: Path, form: str):
    listing = listing_of(DataOptions(images=LABEL_FORMATS / "images", annotations=LABEL_FORMATS / form))
    again = list_coco(LABEL_FORMATS / "images", written(tmp_path, listing))
    require_same(listing, again)
    assert Counter(again.class_names) == Counter(listing.class_names)


def test_the_file_of_a_coco_file_keeps_its_polygons(tmp_path: Path):
    listing = list_coco(write_images(tmp_path), write_json(tmp_path / "in.json", coco()))
    content = json.loads(written(tmp_path, listing).read_text())
    assert sorted(entry["segmentation"] for entry in content["annotations"]) == sorted(
        entry["segmentation"] for entry in coco()["annotations"]
    )
