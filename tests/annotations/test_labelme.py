import base64
import io
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from annotation_files import SIZES, coco, labelme, shape, write_images, write_json
from PIL import Image, ImageDraw

from sam_adapter.annotations.labelme import list_labelme
from sam_adapter.annotations.listing import Listing
from sam_adapter.annotations.objects import AnnotatedObject
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError

SIZE = SIZES["c"]
SQUARE: list[list[float]] = [[10, 5], [30, 5], [30, 25], [10, 25]]


def listed(folder: Path, *shapes: Any, **changes: Any) -> Listing:
    """Of the image c; the others have no file."""
    write_json(folder / "labels/c.json", labelme("c", *shapes, **changes))
    return list_labelme(write_images(folder), folder / "labels")


def objects_of(listing: Listing) -> tuple[AnnotatedObject, ...]:
    (record,) = listing.records
    assert record.objects is not None
    return record.objects


def picture(mask: np.ndarray, form: str = "PNG") -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, form)
    return base64.b64encode(file.getvalue()).decode()


def test_files_are_paired_by_path_and_stem(tmp_path: Path):
    images = write_images(tmp_path)
    write_json(tmp_path / "labels/day1/a.json", labelme("day1/a", shape("car", SQUARE)))
    write_json(tmp_path / "labels/c.json", labelme("c"))
    write_json(tmp_path / "labels/gone.json", labelme("c"))
    write_json(tmp_path / "labels/settings.json", {"theme": "dark"})
    listing = list_labelme(images, tmp_path / "labels")
    assert [(record.name, len(record.objects or ())) for record in listing.records] == [("c", 0), ("day1/a", 1)]
    assert listing.images_without_mask == [images / "day1/b.png"]
    assert listing.masks_without_image == [tmp_path / "labels/gone.json"]
    assert listing.ignored == 1
    assert listing.class_names == ("car",)
    assert listing.records[1].mask == tmp_path / "labels/day1/a.json"
    assert listing.problems == []


def test_files_may_lie_among_the_images(tmp_path: Path):
    images = write_images(tmp_path)
    write_json(images / "c.json", labelme("c", shape("car", SQUARE)))
    listing = list_labelme(images, images)
    assert [record.name for record in listing.records] == ["c"]
    assert listing.ignored == 0


def test_groups_labels_and_void(tmp_path: Path):
    small: list[list[float]] = [[0, 0], [6, 0], [6, 6]]
    objects = objects_of(
        listed(
            tmp_path,
            shape("van", SQUARE, group=1),
            shape("car", SQUARE),
            shape("car", small, group=1),
            shape("van", small, group=1),
            shape("__ignore__", SQUARE),
            shape("car", small, None),
        )
    )
    assert [(one.class_name, len(one.polygons), one.void, one.entry) for one in objects] == [
        ("van", 2, False, "shapes[0] ('van')"),
        ("car", 1, False, "shapes[1] ('car')"),
        ("car", 1, False, "shapes[2] ('car')"),
        ("__ignore__", 1, True, "shapes[4] ('__ignore__')"),
        ("car", 1, False, "shapes[5] ('car')"),
    ]
    assert listed(tmp_path, shape("van", SQUARE), shape("car", SQUARE)).class_names == ("car", "van")


def drawn(kind: str, points: list[tuple[float, float]]) -> np.ndarray:
    """As labelme's documentation of `shape_to_mask` has it: lines 10 wide, points of radius 5."""
    image = Image.new("1", (SIZE[1], SIZE[0]))
    draw = ImageDraw.Draw(image)
    if kind in ("circle", "point"):
        x, y = points[0]
        r = 5 if kind == "point" else math.dist(*points)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=1, outline=1)
    elif kind == "rectangle":
        draw.rectangle(points, fill=1, outline=1)
    else:
        draw.line(points, fill=1, width=10)
    return np.array(image)


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("rectangle", [(8, 6), (50, 35)]),
        ("rectangle", [(50, 6), (8, 35)]),
        ("circle", [(30, 20), (44, 25)]),
        ("point", [(30, 20)]),
        ("line", [(10, 10), (50, 10)]),
        ("line", [(45, 33), (10, 8)]),
        ("linestrip", [(10, 8), (45, 33), (50, 10)]),
    ],
)
def test_shapes_have_the_area_that_labelme_gives_them(tmp_path: Path, kind: str, points: list[tuple[float, float]]):
    (one,) = objects_of(listed(tmp_path, shape("a", [list(point) for point in points], kind)))
    corners = [(min(x), min(y), max(x), max(y)) for x, y in [zip(*points, strict=True)]]
    expected = drawn(kind, [corners[0][:2], corners[0][2:]] if kind == "rectangle" else points).astype(np.uint8)
    mask, around = one.mask(SIZE).astype(np.uint8), np.ones((3, 3), np.uint8)
    # Pillow draws whole pixels around corners of pixels: one lies between what is drawn and what is filled.
    assert (mask < cv2.erode(expected, around)).sum() <= 1  # where two pieces of a line meet
    assert (mask <= cv2.dilate(expected, around)).all()
    assert mask.any()


def test_a_circle_is_round():
    from sam_adapter.annotations.labelme_shapes import outlined

    for radius in (1.0, 17.3, 400.0):
        given = shape("a", [[500, 500], [500 + radius, 500]], "circle")
        (points,) = outlined(given, "a", (1000, 1000), "").polygons
        middles = (points + np.roll(points, 1, axis=0)) / 2 - 500
        assert np.hypot(*(points - 500).T) == pytest.approx(radius)
        assert radius - np.hypot(*middles.T).min() < 0.051


def test_masks_lie_at_their_corner(tmp_path: Path):
    rng = np.random.default_rng(0)
    inside = rng.random((11, 7)) < 0.5
    corners: list[list[float]] = [[20, 10], [26, 20]]
    one, two = objects_of(
        listed(
            tmp_path,
            shape("a", corners, "mask", mask=picture(inside)),
            shape("b", corners, "mask", group=3, mask=picture(inside.astype(np.uint8) * 255)),
            shape("b", SQUARE, group=3),
        )
    )
    expected = np.zeros(SIZE, dtype=bool)
    expected[10:21, 20:27] = inside
    np.testing.assert_array_equal(one.mask(SIZE), expected)
    expected[5:25, 10:30] = True
    np.testing.assert_array_equal(two.mask(SIZE), expected)


def test_background_is_cut_out_of_what_was_painted_before(tmp_path: Path):
    hole: list[list[float]] = [[12, 7], [20, 7], [20, 15], [12, 15]]
    first, second = objects_of(
        listed(tmp_path, shape("car", SQUARE), shape("_background_", hole), shape("car", SQUARE))
    )
    expected = np.zeros(SIZE, dtype=bool)
    expected[5:25, 10:30] = True
    np.testing.assert_array_equal(second.mask(SIZE), expected)
    expected[7:15, 12:20] = False
    np.testing.assert_array_equal(first.mask(SIZE), expected)
    assert first.class_name == "car"


MALFORMED: dict[str, tuple[Any, str, str]] = {
    "a shape that is no object": ("car", "shapes[1] ", "is 'car'; expected an object"),
    "no label": (shape("", SQUARE), "shapes[1] ", "has the label ''"),
    "a list for a group": (shape("a", SQUARE, group=[1]), "shapes[1] ", "has the group_id [1]"),
    "unknown type": (shape("a", SQUARE, "points"), "shapes[1] ('a') ", "is of the shape type 'points', which means no"),
    "a list for a type": (shape("a", SQUARE, ["x"]), "shapes[1] ('a') ", "is of the shape type ['x']"),  # pyright: ignore[reportArgumentType]
    "a polygon of two points": (shape("a", SQUARE[:2]), "shapes[1] ('a') ", "has a polygon of 2 points; expected 3 or"),
    "a circle of one point": (shape("a", SQUARE[:1], "circle"), "shapes[1] ('a') ", "has a circle of 1 points"),
    "a rectangle of four points": (shape("a", SQUARE, "rectangle"), "shapes[1] ('a') ", "has a rectangle of 4 points"),
    "no points": (shape("a", []), "shapes[1] ('a') ", "has a polygon of 0 numbers for points"),
    "points in 3D": (shape("a", [[1, 2, 3]] * 4), "shapes[1] ('a') ", "has a polygon of 12 numbers for points"),
    "NaN": (shape("a", [[1, 2], [3, float("nan")], [5, 1]]), "shapes[1] ('a') ", "no finite number"),
    "words": (shape("a", [["1", "2"], ["3", "4"], ["5", "1"]]), "shapes[1] ('a') ", "not all numbers"),  # pyright: ignore[reportArgumentType]
    "outside": (shape("a", [[100, 2], [120, 2], [110, 9]]), "shapes[1] ('a') ", "outside its image of 62x42"),
    "a circle without radius": (shape("a", [[9, 9], [9, 9]], "circle"), "shapes[1] ('a') ", "without area"),
    "a line without length": (shape("a", [[9, 9], [9, 9]], "line"), "shapes[1] ('a') ", "a line without length"),
    "crosses itself": (shape("a", [[0, 0], [9, 9], [9, 0], [0, 9]]), "shapes[1] ('a') ", "crosses itself"),
    "no mask": (shape("a", [[1, 1], [3, 3]], "mask"), "shapes[1] ('a') ", "has a mask that is no picture in base64"),
    "a mask that is no picture": (
        shape("a", [[1, 1], [3, 3]], "mask", mask="aGVsbG8="),
        "shapes[1] ('a') ",
        "has a mask that is no picture in base64",
    ),
    "a mask of another size": (
        shape("a", [[1, 1], [3, 3]], "mask", mask=picture(np.ones((3, 4), np.uint8))),
        "shapes[1] ('a') ",
        "has a mask of 4x3 pixels for a box from (1, 1) to (3, 3)",
    ),
    "a mask outside": (
        shape("a", [[60, 1], [62, 3]], "mask", mask=picture(np.ones((3, 3), np.uint8))),
        "shapes[1] ('a') ",
        "outside its image",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_shape_is_named_with_its_file_in_one_sentence(tmp_path: Path, case: str):
    wrong, entry, text = MALFORMED[case]
    images = write_images(tmp_path)
    write_json(tmp_path / "labels/day1/a.json", labelme("day1/a"))
    write_json(tmp_path / "labels/day1/b.json", labelme("day1/b"))
    path = write_json(tmp_path / "labels/c.json", labelme("c", shape("good", SQUARE), wrong))
    listing = list_labelme(images, tmp_path / "labels")
    (problem,) = listing.problems
    assert problem.path == path
    assert problem.image == images / "c.png"
    assert problem.text.startswith(entry)
    assert text in problem.text
    kept = ["c"] if problem.remark else []
    assert [record.name for record in listing.records] == [*kept, "day1/a", "day1/b"]
    assert problem.remark == (case == "crosses itself")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is no JSON (it is empty, 0 bytes)"),
        (b'{"shapes": [', "is no JSON (Expecting value"),
        (b"\xff", "is no JSON ('utf-8' codec"),
        (b"[]", "is no file of labelme: it has no list shapes"),
        (b'{"shapes": {}}', "is no file of labelme: it has no list shapes"),
        (b'{"shapes": [], "imageHeight": 42, "imageWidth": 99}', "says 99x42 pixels, and the image has 62x42"),
    ],
)
def test_a_malformed_file_is_named_in_one_sentence(tmp_path: Path, content: bytes, text: str):
    images = write_images(tmp_path)
    path = write_json(tmp_path / "labels/c.json", {})
    path.write_bytes(content)
    listing = list_labelme(images, tmp_path / "labels")
    assert listing.records == []
    (problem,) = listing.problems
    assert str(problem).startswith(f"{path}: {text}")


def test_files_of_other_images_and_of_other_formats_are_refused(tmp_path: Path):
    images = write_images(tmp_path)
    write_json(tmp_path / "labels/x.json", labelme("c"))
    with pytest.raises(ConfigError, match=r"no JSON file that is named after an image: .*'c.json', got 'x.json'"):
        list_labelme(images, tmp_path / "labels")
    write_json(tmp_path / "labels/_annotations.json", coco())
    with pytest.raises(ConfigError, match=r"'.*_annotations.json' is a COCO file; give the file"):
        list_labelme(images, tmp_path / "labels")


def test_options_choose_the_folder(tmp_path: Path):
    from sam_adapter.annotations.sources import listing_of

    write_json(tmp_path / "labels/c.json", labelme("c", shape("car", SQUARE)))
    listing = listing_of(DataOptions(images=write_images(tmp_path), annotations=tmp_path / "labels"))
    assert listing.class_names == ("car",)
