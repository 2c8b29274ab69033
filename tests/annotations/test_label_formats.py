"""The same three photographs in five formats say the same; see the README beside them."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from conftest import DATA, needs_shared
from sam_adapter.annotations.listing import Listing
from sam_adapter.annotations.sources import listing_of
from sam_adapter.config.options import DataOptions

FOLDER = DATA / "label_formats"
pytestmark = needs_shared(FOLDER)
FORMATS = {"coco": "coco/annotations.json", "labelme": "labelme", "yolo": "yolo"}
VOID = 255


@cache
def listed(form: str) -> Listing:
    return listing_of(DataOptions(images=FOLDER / "images", annotations=FOLDER / FORMATS[form]))


def size_of(image: Path) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.height, opened.width


def objects_of(form: str) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Image to class and mask of each object, without void."""
    found = {}
    for record in listed(form).records:
        size = size_of(record.image)
        found[record.name] = [(one.class_name, one.mask(size)) for one in record.objects or () if not one.void]
    return found


def voc() -> dict[str, list[tuple[str, np.ndarray]]]:
    names = (FOLDER / "voc/class_names.txt").read_text().split("\n")
    found = {}
    for path in sorted((FOLDER / "voc/SegmentationObject").iterdir()):
        numbers = np.asarray(Image.open(path))
        classes = np.asarray(Image.open(FOLDER / "voc/SegmentationClass" / path.name))
        masks = [numbers == number for number in np.unique(numbers) if number not in (0, VOID)]
        found[path.stem] = [(names[np.bincount(classes[mask]).argmax()], mask) for mask in masks]
    return found


def void_of(name: str, size: tuple[int, int]) -> np.ndarray:
    void = np.zeros(size, dtype=bool)
    for record in listed("labelme").records:
        for one in record.objects or ():
            if record.name == name and one.void:
                void |= one.mask(size)
    return void


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_all_formats_list_the_same_pictures_without_a_fault():
    for form in FORMATS:
        listing = listed(form)
        assert [record.name for record in listing.records] == ["2011_000003", "2011_000006", "2011_000025"]
        assert [problem.text for problem in listing.problems if not problem.remark] == []
        assert listing.images_without_mask == listing.masks_without_image == []


def test_classes():
    coco, labelme, yolo = (listed(form).class_names for form in ("coco", "labelme", "yolo"))
    assert coco == yolo  # the background is none, and the twenty have one order
    assert len(coco) == 20
    assert coco[0] == "aeroplane"
    assert labelme == ("bottle", "bus", "car", "chair", "person", "sofa")
    assert set(labelme) <= set(coco)


def test_coco_labelme_and_voc_have_the_same_objects():
    forms = [objects_of("coco"), objects_of("labelme"), voc()]
    for name in forms[0]:
        classes = [Counter(kind for kind, _ in form[name]) for form in forms]
        assert classes[0] == classes[1] == classes[2]
    assert sum(len(objects) for objects in forms[0].values()) == 12
    for name, objects in forms[0].items():
        for (kind, mask), (other_kind, other) in zip(objects, forms[1][name], strict=True):
            assert kind == other_kind
            assert iou(mask, other) > 0.99


def test_polygons_lie_near_the_pictures_of_objects():
    """VOC's pictures were drawn with Pillow, whose polygons hold their outline; COCO's filler ends at the coordinates.

    Half a pixel around an object of 19x54 pixels is 7 % of it.
    """
    drawn = voc()
    for name, objects in objects_of("coco").items():
        for kind, mask in objects:
            # What a file draws later covers what it drew before, in VOC's pictures alone.
            best = max(iou(mask & own_or_free(drawn[name], one), one) for of, one in drawn[name] if of == kind)
            assert best > (0.96 if mask.sum() > 900 else 0.93)
        whole = [np.any([mask for _, mask in form], axis=0) for form in (objects, drawn[name])]
        assert iou(*whole) > 0.98


def own_or_free(objects: list[tuple[str, np.ndarray]], own: np.ndarray) -> np.ndarray:
    """Where no other object of VOC's picture lies."""
    others = [mask for _, mask in objects if mask is not own]
    return ~np.any(others, axis=0)


def test_yolo_has_the_pieces_of_the_same_objects():
    coco, yolo = objects_of("coco"), objects_of("yolo")
    for record in listed("coco").records:
        size = size_of(record.image)
        pieces = [(one.class_name, len(one.polygons), one.mask(size)) for one in record.objects or ()]
        lines = iter(yolo[record.name])
        for kind, count, mask in pieces:
            own = [next(lines) for _ in range(count)]
            assert {of for of, _ in own} == {kind}
            assert iou(mask, np.any([one for _, one in own], axis=0)) > 0.95
        assert next(lines, None) is None
    assert sum(map(len, coco.values())) == 12
    assert sum(map(len, yolo.values())) == 16


def test_void_is_in_labelme_and_voc():
    for record in listed("labelme").records:
        size = size_of(record.image)
        void = void_of(record.name, size)
        classes = np.asarray(Image.open(FOLDER / "voc/SegmentationClass" / f"{record.name}.png"))
        assert void.any() == (classes == VOID).any()
        if void.any():
            assert iou(void, classes == VOID) > 0.9
    assert not any(
        one.void for form in ("coco", "yolo") for record in listed(form).records for one in record.objects or ()
    )
