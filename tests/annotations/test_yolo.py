from pathlib import Path

import numpy as np
import pytest
from annotation_files import SIZES, write_images

from sam_adapter.annotations.listing import Listing
from sam_adapter.annotations.sources import listing_of
from sam_adapter.annotations.yolo import list_yolo
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError

NAMES = "names: [bus, car]\nnc: 2\n"
SQUARE = "1 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def listed(folder: Path, text: str, names: str = NAMES) -> Listing:
    """Of the image c; the others have no file."""
    write(folder / "data.yaml", names)
    write(folder / "labels/c.txt", text)
    return list_yolo(write_images(folder), folder)


def test_lines_are_objects_and_images_without_a_file_are_empty(tmp_path: Path):
    write(tmp_path / "labels/day1/a.txt", f"{SQUARE}\n\n0 0 0 1 0 0.5 1\n")
    write(tmp_path / "labels/gone.txt", SQUARE)
    write(tmp_path / "labels/classes.txt", "bus\ncar\n")
    listing = listed(tmp_path, "")
    assert listing.problems == []
    assert listing.class_names == ("bus", "car")
    assert [(record.name, record.mask.name, len(record.objects or ())) for record in listing.records] == [
        ("c", "c.txt", 0),
        ("day1/a", "a.txt", 2),
        ("day1/b", "data.yaml", 0),
    ]
    assert listing.masks_without_image == [tmp_path / "labels/gone.txt"]
    assert listing.ignored == 1
    assert listing.records[1].objects is not None
    first, second = listing.records[1].objects
    assert [(one.class_name, one.entry) for one in (first, second)] == [("car", "line 1"), ("bus", "line 3")]
    height, width = SIZES["day1/a"]
    mask = first.mask((height, width))
    assert mask[height // 4 : 3 * height // 4, width // 4 : width // 2].all()
    assert mask.sum() == height // 2 * width // 4
    np.testing.assert_allclose(second.polygons[0], [[0, 0], [60, 0], [30, 40]])


@pytest.mark.parametrize(
    ("images", "labels", "annotations"),
    [
        ("images", "labels", "."),
        ("images/train", "labels/train", "."),
        ("train/images", "train/labels", "."),
        ("images", "labels", "labels"),
        ("images/train", "labels/train", "labels/train"),
        ("pictures", "texts", "texts"),
        ("images", "images", "."),
        ("pictures", "labels", "."),
    ],
)
def test_layouts(tmp_path: Path, images: str, labels: str, annotations: str):
    write_images(tmp_path / "made").rename(tmp_path / "moved")
    (tmp_path / images).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "moved").rename(tmp_path / images)
    write(tmp_path / "data.yaml", NAMES)
    write(tmp_path / labels / "day1/a.txt", SQUARE)
    write(tmp_path / "labels/val/day1/a.txt", f"{SQUARE}\n{SQUARE}")  # of another set
    if annotations in ("texts", "."):
        write(tmp_path / annotations / "data.yaml", NAMES)
    if (images, labels, annotations) in (("images", "labels", "."), ("images", "labels", "labels")):
        (tmp_path / "labels/val/day1/a.txt").unlink()
    if labels == "images":
        (tmp_path / "labels/val/day1/a.txt").unlink()
        (tmp_path / "labels/val/day1").rmdir()
        (tmp_path / "labels/val").rmdir()
        (tmp_path / "labels").rmdir()
        annotations = "images"
    listing = listing_of(DataOptions(images=tmp_path / images, annotations=tmp_path / annotations))
    assert [(record.name, len(record.objects or ())) for record in listing.records] == [
        ("c", 0),
        ("day1/a", 1),
        ("day1/b", 0),
    ]


@pytest.mark.parametrize("names", ["names: {0: bus, 1: car}", "names: [bus, car]", "nc: 2\nnames:\n- bus\n- car\n"])
def test_names_as_a_list_or_by_number(tmp_path: Path, names: str):
    listing = listed(tmp_path, SQUARE, names)
    assert listing.class_names == ("bus", "car")
    assert [one.class_name for one in listing.records[0].objects or ()] == ["car"]


def test_polygons_may_lie_a_little_beyond_the_border(tmp_path: Path):
    listing = listed(tmp_path, "0 -0.001 0 1.004 0 0.5 1")
    assert listing.problems == []


MALFORMED = {
    "a box": ("0 0.5 0.5 0.2 0.2", "has 5 numbers, a class and a box"),
    "two points": ("0 0.5 0.5 0.2 0.2 ", "has 5 numbers"),
    "x without y": ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.7", "has a polygon of 7 coordinates"),
    "one point": ("0 0.1 0.2", "has a polygon of 1 point; expected 3 or more"),
    "a class alone": ("0", "has a polygon of 0 points"),
    "unknown class": (f"7{SQUARE[1:]}", "is of class 7, and data.yaml names 0 to 1"),
    "class below zero": (f"-1{SQUARE[1:]}", "is of class -1"),
    "a broken class": (f"0.5{SQUARE[1:]}", "is of class 0.5"),
    "class by name": (f"car{SQUARE[1:]}", "has 'car'; expected a class and fractions"),
    "commas": ("0,0.1,0.1,0.5,0.1,0.5,0.5", "has '0,0.1,0.1,0.5,0.1,0.5,0.5'; expected"),
    "pixels": ("0 10 10 50 10 50 30", "has the coordinate 10; expected fractions"),
    "NaN": ("0 0.1 nan 0.5 0.1 0.5 0.5", "no finite number"),
    "infinite": ("0 0.1 inf 0.5 0.1 0.5 0.5", "no finite number"),
    "on a line": ("0 0.1 0.1 0.2 0.2 0.3 0.3", "without area"),
    "crosses itself": ("0 0.1 0.1 0.9 0.9 0.9 0.1 0.1 0.9", "crosses itself"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_line_is_named_with_its_file_in_one_sentence(tmp_path: Path, case: str):
    line, text = MALFORMED[case]
    listing = listed(tmp_path, f"{SQUARE}\n{line}\n")
    (problem,) = listing.problems
    assert problem.path == tmp_path / "labels/c.txt"
    assert problem.image == tmp_path / "images/c.png"
    assert problem.text.startswith("line 2 ")
    assert text in problem.text
    assert problem.remark == (case == "crosses itself")
    assert [record.name for record in listing.records] == (["c"] if problem.remark else []) + ["day1/a", "day1/b"]


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    write(tmp_path / "data.yaml", NAMES)
    write(tmp_path / "labels/c.txt", "").write_bytes(b"\xff\xfe\x00")
    listing = list_yolo(write_images(tmp_path), tmp_path)
    assert [problem.text for problem in listing.problems] == ["is no text in UTF-8"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("", "has no names of classes"),
        ("names: []", "has no names of classes"),
        ("names: car", "has no names of classes"),
        ("- car", "has no names of classes"),
        ("names: [car, 5]", "names a class 1: 5; expected a number and text"),
        ("names: {car: 1}", "names a class 'car': 1"),
        ("names: [bus, car]\nnc: 3", "says nc 3 and names 2 classes"),
        ("names: [car, car]", "names the class 'car' twice"),
        ("names: [car", "cannot be read (while parsing"),
    ],
)
def test_a_malformed_data_yaml_is_named_in_one_sentence(tmp_path: Path, names: str, text: str):
    with pytest.raises(ConfigError) as error:
        listed(tmp_path, SQUARE, names)
    assert str(error.value).startswith(f"annotations: '{tmp_path / 'data.yaml'}' {text}")


def test_text_files_of_other_images_are_refused(tmp_path: Path):
    write(tmp_path / "data.yaml", NAMES)
    write(tmp_path / "labels/x.txt", SQUARE)
    with pytest.raises(ConfigError, match=r"has no text file that is named after an image: .*'c.txt', got 'x'"):
        list_yolo(write_images(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ([], "is an empty folder; expected a COCO file"),
        (["a.txt", "b.txt", "c.xml"], "is a folder of other files (2 .txt, 1 .xml); expected a COCO file (.json), or"),
        (["a.txt"], "YOLO's text files need their data.yaml."),
    ],
)
def test_a_folder_of_anything_else_says_what_is_there(tmp_path: Path, files: list[str], text: str):
    (tmp_path / "labels").mkdir()
    for name in files:
        write(tmp_path / "labels" / name, "x")
    with pytest.raises(ConfigError) as error:
        listing_of(DataOptions(images=write_images(tmp_path), annotations=tmp_path / "labels"))
    assert text in str(error.value)


@pytest.mark.parametrize(("name", "text"), [("gone", "is not there."), ("a.xml", "is a file .xml; expected a COCO")])
def test_a_file_of_another_kind(tmp_path: Path, name: str, text: str):
    write(tmp_path / "a.xml", "x")
    with pytest.raises(ConfigError) as error:
        listing_of(DataOptions(images=write_images(tmp_path), annotations=tmp_path / name))
    assert text in str(error.value)
