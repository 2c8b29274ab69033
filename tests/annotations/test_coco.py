import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import SIZES, SQUARE, coco, write_images, write_json
from PIL import Image
from pycocotools import mask as reference

from sam_adapter.annotations.coco import list_coco
from sam_adapter.annotations.listing import Listing
from sam_adapter.annotations.problems import EntryError
from sam_adapter.annotations.run_lengths import checked, runs_of
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError


def listed(folder: Path, content: dict[str, Any]) -> Listing:
    return list_coco(write_images(folder), write_json(folder / "instances.json", content))


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """As COCO's files hold them, compressed."""
    encoded: Any = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = np.concatenate([[0], mask.ravel(order="F").astype(int), [-1]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges[edges < mask.size], [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def test_a_coco_file_gives_records_classes_and_objects(tmp_path: Path):
    listing = listed(tmp_path, coco())
    assert listing.problems == []
    assert listing.class_names == ("bus", "tram", "car")  # by id
    assert [record.name for record in listing.records] == ["c", "day1/a", "day1/b"]
    empty, two, one = (record.objects for record in listing.records)
    assert empty == ()
    assert two is not None
    assert one is not None
    assert [(item.class_name, item.void, item.entry) for item in two] == [
        ("car", False, "annotations[0] (id 1)"),
        ("bus", False, "annotations[1] (id 2)"),
    ]
    mask = two[0].mask(SIZES["day1/a"])
    assert mask.shape == SIZES["day1/a"]
    assert mask.sum() == 400
    assert mask[5:25, 10:30].all()
    assert [len(polygon) for polygon in two[1].polygons] == [3, 3]
    assert two[1].mask(SIZES["day1/a"])[[1, 31], [5, 45]].all()


def test_a_file_is_found_by_its_path_and_else_by_its_name_where_that_is_unique(tmp_path: Path):
    content = coco()
    for entry, name in zip(content["images"], ("JPEGImages/a.png", r"C:\data\b.png", "./c.png"), strict=True):
        entry["file_name"] = name
    assert [record.name for record in listed(tmp_path, content).records] == ["c", "day1/a", "day1/b"]
    Image.new("RGB", (60, 40)).save(tmp_path / "images/a.png")
    assert "2 files in other folders" in listed(tmp_path, content).problems[0].text
    content["images"][0]["file_name"] = "day1/a.png"
    listing = listed(tmp_path, content)
    assert [record.name for record in listing.records] == ["c", "day1/a", "day1/b"]
    assert listing.unlisted == [tmp_path / "images/a.png"]
    assert listing.ignored == 1


@pytest.mark.parametrize(
    ("number", "name", "used", "is_class"),
    [
        (0, "_background_", False, False),
        (0, "Background", False, False),
        (0, "_background_", True, True),
        (0, "sky", False, True),
        (9, "background", False, True),
    ],
)
def test_a_background_of_id_0_that_is_not_used_is_no_class(
    tmp_path: Path, number: int, name: str, used: bool, is_class: bool
):
    content = coco()
    content["categories"].append({"id": number, "name": name})
    if used:
        content["annotations"][0]["category_id"] = number
    assert (name in listed(tmp_path, content).class_names) == is_class


def test_crowds_are_void_and_come_first(tmp_path: Path):
    content = coco()
    content["annotations"][1]["iscrowd"] = 1
    objects = listed(tmp_path, content).records[1].objects
    assert objects is not None
    assert [(one.class_name, one.void) for one in objects] == [("bus", True), ("car", False)]


@pytest.mark.parametrize("form", [run_lengths, uncompressed])
@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_of_both_forms(tmp_path: Path, form: Callable[[np.ndarray], dict[str, Any]], seed: int):
    rng = np.random.default_rng(seed)
    mask = rng.random(SIZES["day1/b"]) < (0.5, 0.01, 1)[seed]
    content = coco()
    content["annotations"][2]["segmentation"] = form(mask)
    objects = listed(tmp_path, content).records[2].objects
    assert objects is not None
    np.testing.assert_array_equal(objects[0].mask(SIZES["day1/b"]), mask)


def test_compressed_counts_are_read_as_coco_reads_them():
    rng = np.random.default_rng(0)
    for share in (0, 1, 0.5, 0.001, 0.999):
        mask = rng.random((301, 257)) < share
        encoded: Any = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
        runs = runs_of(encoded["counts"])
        painted = np.repeat(np.arange(len(runs)) % 2, runs).reshape(mask.shape, order="F")
        np.testing.assert_array_equal(painted, mask)


@pytest.mark.parametrize("counts", ["", "\x00", "o", "ooooooooooooooooo0", "5\xff", "~~~~"])
def test_damaged_counts_never_reach_the_library(counts: str):
    with pytest.raises(EntryError):
        checked({"size": [4, 5], "counts": counts}, (4, 5))


def test_polygons_are_kept_as_arrays_and_not_as_lists(tmp_path: Path):
    content = coco()
    for _, two, one in [(record.objects or () for record in listed(tmp_path, content).records)]:
        for item in (*two, *one):
            assert all(polygon.dtype == np.float64 for polygon in item.polygons)


def test_objects_of_images_that_cannot_be_read_are_kept_for_the_doctor(tmp_path: Path):
    write_images(tmp_path)
    (tmp_path / "images/c.png").write_bytes(b"no picture")
    listing = list_coco(tmp_path / "images", write_json(tmp_path / "instances.json", coco()))
    assert [record.name for record in listing.records] == ["c", "day1/a", "day1/b"]
    assert listing.problems == []


def set_to(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value; ``annotations.0.id``."""

    def change(content: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        at: Any = content
        for part in parents:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


def added(key: str, entry: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[key].append(entry)


MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    "an image is missing": (
        set_to("images.2.file_name", "gone.png"),
        "images[2] (id 9)",
        "'gone.png', which is not in",
    ),
    "no file_name": (set_to("images.2.file_name", None), "images[2] (id 9)", "has the file_name None"),
    "another size": (set_to("images.2.height", 99), "images[2] (id 9)", "says 62x99 pixels, and the image has 62x42"),
    "a size in words": (set_to("images.2.height", "tall"), "images[2] (id 9)", "says 62xtall pixels"),
    "an image without id": (set_to("images.2.id", None), "images[2]", "has the id None"),
    "the id of another image": (set_to("images.2.id", 8), "images[2] (id 8)", "has the id of images[1] too"),
    "the file of another image": (
        added("images", {"id": 10, "file_name": "c.png"}),
        "images[3] (id 10)",
        "names the file 'c.png' of images[2] too",
    ),
    "an image that is no object": (added("images", "c.png"), "images[3]", "is 'c.png'; expected an object"),
    "unknown image": (set_to("annotations.1.image_id", 70), "annotations[1] (id 2)", "is of image_id 70"),
    "no image": (set_to("annotations.1.image_id", None), "annotations[1] (id 2)", "is of image_id None"),
    "unknown category": (set_to("annotations.1.category_id", 4), "annotations[1] (id 2)", "is of category_id 4"),
    "a list for a category": (set_to("annotations.1.category_id", [1]), "annotations[1] (id 2)", "of category_id [1]"),
    "the id of another annotation": (
        set_to("annotations.1.id", 1),
        "annotations[1] (id 1)",
        "has the id of annotations[0] too",
    ),
    "an annotation without id": (set_to("annotations.1.id", None), "annotations[1]", "has the id None"),
    "an annotation that is no object": (added("annotations", 5), "annotations[3]", "is 5; expected an object"),
    "a polygon of two points": (
        set_to("annotations.1.segmentation", [[1, 1, 9, 9]]),
        "annotations[1] (id 2)",
        "has a polygon of 2 points; expected 3 or more",
    ),
    "an x without y": (
        set_to("annotations.1.segmentation", [[1, 1, 9, 1, 9, 9, 4]]),
        "annotations[1] (id 2)",
        "has a polygon of 7 coordinates",
    ),
    "NaN": (
        set_to("annotations.1.segmentation", [[1, 1, 9, float("nan"), 9, 9]]),
        "annotations[1] (id 2)",
        "no finite number",
    ),
    "infinite": (
        set_to("annotations.1.segmentation", [[1, 1, 9, float("inf"), 9, 9]]),
        "annotations[1] (id 2)",
        "no finite number",
    ),
    "words for numbers": (
        set_to("annotations.1.segmentation", [[1, 1, 9, "9", 4, 4]]),
        "annotations[1] (id 2)",
        "has coordinates that are not all numbers",
    ),
    "pairs of numbers": (
        set_to("annotations.1.segmentation", [[[1, 1], [9, 1], [9, 9]]]),
        "annotations[1] (id 2)",
        "expected x and y in turn",
    ),
    "numbers without a list": (
        set_to("annotations.1.segmentation", SQUARE),
        "annotations[1] (id 2)",
        "expected x and y in turn",
    ),
    "a polygon beside its image": (
        set_to("annotations.1.segmentation", [[100, 1, 110, 1, 110, 9]]),
        "annotations[1] (id 2)",
        "has a polygon from (100, 1) to (110, 9), outside its image of 60x40 pixels",
    ),
    "a polygon far beyond its image": (
        set_to("annotations.1.segmentation", [[1, 1, 1e12, 1, 9, 9]]),
        "annotations[1] (id 2)",
        "outside its image",
    ),
    "a polygon on a line": (
        set_to("annotations.1.segmentation", [[1, 1, 5, 5, 9, 9]]),
        "annotations[1] (id 2)",
        "without area",
    ),
    "a polygon that crosses itself": (
        set_to("annotations.1.segmentation", [[1, 1, 9, 9, 9, 1, 1, 9]]),
        "annotations[1] (id 2)",
        "crosses itself",
    ),
    "run lengths of another size": (
        set_to("annotations.2.segmentation", run_lengths(np.ones((40, 60), bool))),
        "annotations[2] (id 5)",
        "has run lengths of 60x40 pixels for an image of 61x41",
    ),
    "run lengths that end early": (
        set_to("annotations.2.segmentation", {"size": [41, 61], "counts": [5, 10]}),
        "annotations[2] (id 5)",
        "has run lengths of 15 pixels in all; expected 2501",
    ),
    "run lengths below zero": (
        set_to("annotations.2.segmentation", {"size": [41, 61], "counts": [-5, 2506]}),
        "annotations[2] (id 5)",
        "has run lengths with -5",
    ),
    "run lengths that are cut off": (
        set_to("annotations.2.segmentation", {"size": [41, 61], "counts": "Wo"}),
        "annotations[2] (id 5)",
        "damaged or cut off",
    ),
    "run lengths without size": (
        set_to("annotations.2.segmentation", {"counts": [2501]}),
        "annotations[2] (id 5)",
        "has run lengths of size None",
    ),
    "run lengths without counts": (
        set_to("annotations.2.segmentation", {"size": [41, 61]}),
        "annotations[2] (id 5)",
        "has run lengths without counts",
    ),
    "a box alone": (set_to("annotations.0.segmentation", None), "annotations[0] (id 1)", "has a box and no segment"),
    "no outline": (set_to("annotations.1.segmentation", []), "annotations[1] (id 2)", "has the segmentation []"),
    "iscrowd of 2": (set_to("annotations.1.iscrowd", 2), "annotations[1] (id 2)", "has iscrowd 2; expected 0 or 1"),
    "a category without name": (set_to("categories.2.name", None), "categories[2] (id 2)", "has the name None"),
    "two categories of one name": (
        set_to("categories.2.name", "car"),
        "categories[2] (id 2)",
        "has the name 'car' of categories[0] too",
    ),
    "the id of another category": (set_to("categories.2.id", 1), "categories[2] (id 1)", "the id of categories[1] too"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_entry_is_named_with_its_file_in_one_sentence(tmp_path: Path, case: str):
    change, entry, text = MALFORMED[case]
    content = copy.deepcopy(coco())
    change(content)
    listing = listed(tmp_path, content)
    assert len(listing.problems) == 1, listing.problems
    problem = listing.problems[0]
    assert problem.path == tmp_path / "instances.json"
    assert problem.text.startswith(f"{entry} ")
    assert text in problem.text
    assert problem.cure
    assert not problem.cure.endswith(".")
    assert str(problem).startswith(f"{tmp_path / 'instances.json'}: {entry}")
    assert problem.remark == (case == "a polygon that crosses itself")
    if problem.image is not None and not problem.remark:
        assert problem.image not in [record.image for record in listing.records]


def test_no_image_is_listed_with_a_part_of_its_annotations(tmp_path: Path):
    for number, case in enumerate(("the id of another image", "the file of another image", "words for numbers")):
        content = coco()
        MALFORMED[case][0](content)
        names = [record.name for record in listed(tmp_path / str(number), content).records]
        lost = {"the id of another image": {"c", "day1/b"}, "the file of another image": {"c"}}
        assert names == [name for name in ("c", "day1/a", "day1/b") if name not in lost.get(case, {"day1/a"})]


def test_all_problems_of_an_image_are_told_at_once(tmp_path: Path):
    content = coco()
    content["annotations"][0]["category_id"] = 77
    content["annotations"][1]["segmentation"] = [[1, 2, 3]]
    assert [problem.text.split()[0] for problem in listed(tmp_path, content).problems] == [
        "annotations[0]",
        "annotations[1]",
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is no JSON (it is empty, 0 bytes)"),
        (b'{"images": [', "is no JSON (Expecting value"),
        (b"\xff\xfe\x00", "is no JSON ('utf-8' codec can't decode"),
        (b"[]", "holds a list, as files of results are"),
        (b"17", "holds 17; expected a COCO file"),
        (b'{"images": [], "annotations": []}', "has no list categories"),
        (b'{"images": {}, "categories": []}', "has no list images and no list annotations"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "lists no images"),
        (b'{"images": [{"id": 1}], "annotations": [], "categories": []}', "lists no categories"),
        (b"[" * 100_000, "is no JSON (maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_is_no_coco_file_is_named_in_one_sentence(tmp_path: Path, content: bytes, text: str):
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        list_coco(write_images(tmp_path), path)
    assert str(error.value).startswith(f"annotations: '{path}' {text}")
    assert len(error.value.problems) == 1


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"annotations: '.*gone.json' cannot be read \(No such file"):
        list_coco(write_images(tmp_path), tmp_path / "gone.json")


def test_a_size_before_the_exif_rotation_is_named_as_such(tmp_path: Path):
    content = coco()
    content["images"][2] |= {"height": 62, "width": 42}
    write_images(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (42, 62)).save(tmp_path / "images/c.png", exif=exif)
    listing = list_coco(tmp_path / "images", write_json(tmp_path / "instances.json", content))
    assert "says 42x62 pixels, and the image has 62x42 as it is shown (EXIF orientation 6)" in listing.problems[0].text


def test_options_choose_the_file(tmp_path: Path):
    from sam_adapter.annotations.sources import listing_of

    options = DataOptions(images=write_images(tmp_path), annotations=write_json(tmp_path / "a.JSON", coco()))
    assert len(listing_of(options).records) == 3
