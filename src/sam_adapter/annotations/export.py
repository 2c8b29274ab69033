"""Annotated objects to files that other tools read: a COCO file, and label maps."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from ..system.writing import written_beside
from .listing import Record
from .objects import AnnotatedObject, label_map
from .run_lengths import run_lengths_of

VOID_LABEL = 65535
"""Value of void in label maps."""


def write_coco(
    path: Path, records: Sequence[Record], sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]
) -> None:
    """Write a COCO file.

    Polygons stay as they are, to a thousandth of a pixel; what is given by run lengths, and void, which is a crowd in
    COCO's words, is written as run lengths; void that is of no class is a crowd of each, as COCO's scores take the
    classes apart. COCO knows no order, and void that covered an object is read below it. Objects of a mask file must be
    read first; see `with_outlines`.

    Args:
        path: The file.
        records: Images with their objects; ``file_name`` is the record's name with the image's extension.
        sizes: Name of a record to ``(H, W)``.
        class_names: Classes in the order of their ids, which begin at 1.

    Raises:
        DataError: If an object is of no class that is named, or is a mask file.
    """
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    images, annotations = [], []
    for image_id, record in enumerate(records, start=1):
        height, width = size = sizes[record.name]
        name = f"{record.name}{record.image.suffix}"
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for one in record.objects or ():
            if one.class_name not in numbers and not one.void:
                raise DataError(f"{record.mask}: {one.entry} is of the class '{one.class_name}', which has no number.")
            shape = _shape(one, record, size)
            for of in [numbers[one.class_name]] if one.class_name in numbers else numbers.values():
                entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": of, "iscrowd": int(one.void)}
                annotations.append(entry | shape)
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with written_beside(path) as partial:
        partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def with_outlines(record: Record, labels: np.ndarray, class_names: Mapping[int, str], *, void: int) -> Record:
    """A record with the objects of a label map as run lengths, for `write_coco`.

    Args:
        record: Of the image.
        labels: ``(H, W)`` int32, 0 is background and every other number an object.
        class_names: Number of each object to the name of its class.
        void: Value of what is void.
    """
    objects = [
        AnnotatedObject(
            class_name="" if number == void else class_names[number],
            run_lengths={**runs, "counts": runs["counts"].encode("ascii")},
            void=number == void,
            entry=f"object {number}",
        )
        for number, runs in run_lengths_of(labels).items()
    ]
    return replace(record, objects=tuple(objects))


def with_ids_of(results: Path, truth: Path) -> dict[str, Any]:
    """A COCO file of results under the ids of another one, so that COCO's library can compare the two.

    ``predict`` numbers pictures by their names and classes in their order, and knows no other file's ids.

    Args:
        results: What ``predict`` wrote, ``objects.json``.
        truth: A COCO file of the same pictures, known by the ends of their paths, and the same names of categories.

    Returns:
        The contents of ``results``; ids of annotations stay. Categories of ``truth`` alone are among its categories.

    Raises:
        DataError: If a picture or a category is not in ``truth``, or two of its pictures have one name.
    """
    found, known = (json.loads(path.read_text(encoding="utf-8")) for path in (results, truth))
    problems: list[str] = []
    images = _numbers_of_pictures(found["images"], known["images"], problems)
    named = {one["name"]: one["id"] for one in known["categories"]}
    kinds = {one["id"]: named.get(one["name"]) for one in found["categories"]}
    problems += [f"it has no category '{one['name']}'" for one in found["categories"] if one["name"] not in named]
    if problems:
        raise DataError(f"{results}: cannot take the ids of {truth}: {'; '.join(problems)}.")
    return {
        "images": [{**one, "id": images[one["id"]]} for one in found["images"]],
        "annotations": [
            {**one, "image_id": images[one["image_id"]], "category_id": kinds[one["category_id"]]}
            for one in found["annotations"]
        ],
        "categories": known["categories"],
    }


def _numbers_of_pictures(
    found: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]], problems: list[str]
) -> dict[int, Any]:
    """The id of each picture to the known one of its name; a picture that has none, or several, is a problem.

    A path that the other file has under more folders, or under fewer, is the same.
    """
    alone: dict[str, list[tuple[list[str], Any]]] = defaultdict(list)
    for one in known:
        *folders, name = one["file_name"].replace("\\", "/").split("/")
        alone[name].append((folders[::-1], one["id"]))
    numbers = {}
    for one in found:
        *folders, name = one["file_name"].split("/")
        same = [number for others, number in alone[name] if all(map(eq, folders[::-1], others))]
        if len(same) != 1:
            problems.append(f"it has {len(same) or 'no'} file_name '{one['file_name']}'")
        numbers[one["id"]] = same[0] if same else None
    return numbers


def write_label_maps(folder: Path, records: Sequence[Record], sizes: Mapping[str, tuple[int, int]]) -> list[Path]:
    """Write a 16-bit PNG an image: 0 for the ground, 1, 2, ... for objects, and `VOID_LABEL`.

    Later objects cover earlier ones, so that one that is covered as a whole leaves a gap in the numbers.

    Args:
        folder: Is made if it is not there; files lie in it as the records' names say.
        records: Images with their objects.
        sizes: Name of a record to ``(H, W)``.

    Returns:
        The files, in the order of the records.

    Raises:
        DataError: If there are more objects than numbers.
    """
    paths = []
    for record in records:
        objects = record.objects or ()
        if sum(not one.void for one in objects) >= VOID_LABEL:
            raise DataError(
                f"{record.mask}: has {len(objects)} objects; a label map of 16 bits holds {VOID_LABEL - 1}."
            )
        labels = label_map(objects, sizes[record.name], void=VOID_LABEL)
        path = folder / f"{record.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as partial:
            Image.fromarray(labels.astype(np.uint16)).save(partial, "PNG")
        paths.append(path)
    return paths


def _shape(one: AnnotatedObject, record: Record, size: tuple[int, int]) -> dict[str, Any]:
    """Segmentation, area and box of an object."""
    if one.file is not None:
        raise DataError(f"{one.file}: is a mask of the image '{record.name}' that has to be read before it is written.")
    (rows, columns), inside = one.region(size)
    area = int(inside.sum())
    box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
    if one.polygons and not one.void:
        outline: Any = [np.round(polygon, 3).ravel().tolist() for polygon in one.polygons]
    else:
        outline = _run_lengths(one.mask(size))
    return {"segmentation": outline, "area": area, "bbox": box}


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco

    encoded: Any = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
