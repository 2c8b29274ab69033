"""COCO's files of annotations (``instances_*.json``) as a source: https://cocodataset.org/#format-data."""

import json
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .class_file import BACKGROUND_NAMES
from .folders import by_name
from .image_sizes import image_size_of
from .listing import Listing, Record, printable
from .objects import AnnotatedObject
from .outlines import crossing, polygon
from .problems import EntryError
from .run_lengths import checked

_NO_IMAGE = "add its image to images, or delete it"
_IDS = "give every entry an id of its own; files that were joined must be numbered anew"


Id = int | str | None


@dataclass
class _Set:
    """What is known of a file's entries while it is read.

    Attributes:
        file: The COCO file.
        listing: What is found.
        images: Id to the image and its size ``(H, W)``, None if it cannot be read.
        faulty: Ids of images that are left out; not all of them are in `images`.
        objects: Id of an image to its objects.
        classes: Id of a category to its name.
    """

    file: Path
    listing: Listing
    images: dict[Id, tuple[Path, tuple[int, int] | None]] = field(default_factory=dict)
    faulty: set[Id] = field(default_factory=set)
    objects: dict[Id, list[AnnotatedObject]] = field(default_factory=lambda: defaultdict(list))
    classes: dict[Id, str] = field(default_factory=dict)


def list_coco(images: Path, file: Path) -> Listing:
    """Pair images with the objects that a COCO file outlines.

    Args:
        images: Folder of images, searched with the folders inside it.
        file: With ``images``, ``annotations`` and ``categories``.

    Returns:
        A record for each image that the file lists and that has no fault; one without annotations has no objects.
        Images that the file does not list are `Listing.unlisted`: files of training and validation images may share a
        folder.

    Raises:
        ConfigError: If the folder is missing or empty, or the file is no COCO file.
    """
    document = _document(file)
    named, pictures = by_name(images, "images")
    listing = Listing(ignored=pictures.ignored - pictures.endings[".json"], loops=pictures.loops)
    names = {path: name for name, paths in named.items() for path in paths}
    found = _Set(file, listing)
    _read_categories(found, document)
    listed = _read_images(found, document["images"], names)
    _read_annotations(found, document["annotations"])
    by_record = defaultdict(list)
    for number, (image, _) in found.images.items():
        if number not in found.faulty:
            objects = sorted(found.objects[number], key=lambda one: not one.void)  # void is painted first
            by_record[names[image]].append(Record(names[image], image, file, objects=tuple(objects)))
    for _, records in sorted(by_record.items()):
        if len(records) > 1:
            listing.duplicates.append([record.image for record in records])
        else:
            listing.records += records
    listing.unlisted = sorted(names.keys() - listed)
    listing.ignored += len(listing.unlisted)
    return listing


def _document(file: Path) -> dict[str, Any]:
    """The file's contents, with polygons as arrays: a fifth of the memory of lists."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            document = json.load(opened, object_hook=_compact)
    except OSError as error:
        raise ConfigError(f"annotations: '{file}' cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        reason = "it is empty, 0 bytes" if not file.stat().st_size else " ".join(str(error).split())
        raise ConfigError(f"annotations: '{file}' is no JSON ({reason}). Export it again.") from error
    if not isinstance(document, dict):
        what = "a list, as files of results are" if isinstance(document, list) else repr(document)[:60]
        raise ConfigError(
            f"annotations: '{file}' holds {what}; expected a COCO file with images, annotations and categories."
        )
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(document.get(key), list)]
    if missing:
        raise ConfigError(
            f"annotations: '{file}' has no list {' and no list '.join(missing)}; expected a COCO file with images, "
            "annotations and categories."
        )
    for key in ("images", "categories"):
        if not document[key]:
            raise ConfigError(f"annotations: '{file}' lists no {key}.")
    return document


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with polygons as arrays, and without what is not used."""
    outlines = entry.get("segmentation")
    if type(outlines) is list:
        entry["segmentation"] = [_array(one) for one in outlines]
    if type(entry.get("bbox")) is list:
        entry["bbox"] = True
    return entry


def _array(values: Any) -> Any:
    """A list of numbers as an array; what is anything else stays, to be named later."""
    if type(values) is not list:
        return values
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return values
    return array.astype(np.float64) if array.dtype.kind in "if" else values


def _read_categories(found: _Set, document: dict[str, Any]) -> None:
    """Classes in the order of their ids, without a background that nothing is of."""
    known: dict[Id, int] = {}
    of_names: dict[str, int] = {}
    for index, entry in enumerate(document["categories"]):
        place = _place("categories", index, entry)
        try:
            number = _id_of(entry, known, "categories", index)
            name = entry.get("name")
            if not isinstance(name, str) or not name.strip():
                raise EntryError(f"has the name {name!r:.60}; expected text", "name the class")
            name = found.classes[number] = printable(name)
            if of_names.setdefault(name, index) != index:
                raise EntryError(f"has the name '{name}' of categories[{of_names[name]}] too", "join or rename them")
        except EntryError as error:
            found.listing.note(found.file, place, error)
    used = {entry["category_id"] for entry in document["annotations"] if _has_id(entry, "category_id")}
    order = sorted(found.classes, key=lambda number: (isinstance(number, str), number))
    if 0 in found.classes and found.classes[0].lower() in BACKGROUND_NAMES and 0 not in used:
        del found.classes[0]
        order.remove(0)
    found.listing.class_names = tuple(dict.fromkeys(found.classes[number] for number in order))


def _read_images(found: _Set, entries: list[Any], names: dict[Path, str]) -> set[Path]:
    """Find the image of each entry, and its size; returns all images that are listed."""
    exact = {f"{name}{path.suffix}": path for path, name in names.items()}
    alone: dict[str, list[Path]] = defaultdict(list)
    for place, path in exact.items():
        alone[place.rpartition("/")[2]].append(path)
    known: dict[Id, int] = {}
    of_images: dict[Path, int] = {}
    for index, entry in enumerate(entries):
        place, image, number = _place("images", index, entry), None, None
        try:
            number = _id_of(entry, known, "images", index)
            image = _image_of(entry, exact, alone)
            if of_images.setdefault(image, index) != index:
                found.faulty.add(entries[of_images[image]]["id"])  # the annotations of either are not all
                raise EntryError(f"names the file '{image.name}' of images[{of_images[image]}] too", "keep one of them")
            size = image_size_of(image, height=entry.get("height"), width=entry.get("width"))
            found.images[number] = (image, size)
        except EntryError as error:
            found.listing.note(found.file, place, error, image)
            found.faulty.add(entry["id"] if _has_id(entry, "id") else None)
    return {*of_images}


def _image_of(entry: dict[str, Any], exact: dict[str, Path], alone: dict[str, list[Path]]) -> Path:
    """The file that an entry names: by its path below the folder, else by its name if that is unique."""
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise EntryError(f"has the file_name {name!r:.60}; expected the name of an image", "name the image's file")
    normal = printable(unicodedata.normalize("NFC", name.replace("\\", "/"))).removeprefix("./")
    if normal in exact:
        return exact[normal]
    paths = alone.get(normal.rpartition("/")[2], [])
    if not paths:
        raise EntryError(f"names the image '{name}', which is not in the folder of images", "add it, or give --images")
    if len(paths) > 1:
        raise EntryError(
            f"names the image '{name}', and {len(paths)} files in other folders have that name ('{paths[0]}' is one)",
            "write the path below the folder of images into file_name",
        )
    return paths[0]


def _read_annotations(found: _Set, entries: list[Any]) -> None:
    """Give each image its objects."""
    known: dict[Id, int] = {}
    for index, entry in enumerate(entries):
        place, image = _place("annotations", index, entry), None
        number = entry["image_id"] if _has_id(entry, "image_id") else None
        try:
            if number in found.images:
                image, size = found.images[number]
                found.objects[number].append(_object(entry, place, found, size, image))
            _id_of(entry, known, "annotations", index)
            if number not in found.images and number not in found.faulty:
                raise EntryError(f"is of image_id {entry.get('image_id')!r:.60}, which no image has", _NO_IMAGE)
        except EntryError as error:
            found.listing.note(found.file, place, error, image)
            found.faulty.add(number)


def _object(
    entry: dict[str, Any], place: str, found: _Set, size: tuple[int, int] | None, image: Path
) -> AnnotatedObject:
    category, crowd = entry.get("category_id"), entry.get("iscrowd", 0)
    if not _has_id(entry, "category_id") or category not in found.classes:
        raise EntryError(f"is of category_id {category!r:.60}, which no category has", "add it to categories")
    if crowd not in (0, 1):
        raise EntryError(f"has iscrowd {crowd!r:.60}; expected 0 or 1", "write 1 for a region that is void, else 0")
    outline, kind, void = entry.get("segmentation"), found.classes[category], bool(crowd)
    if isinstance(outline, dict):
        return AnnotatedObject(class_name=kind, run_lengths=checked(outline, size), void=void, entry=place)
    if not outline and entry.get("bbox"):
        raise EntryError("has a box and no segmentation", "outline the object, as a box says nothing of its pixels")
    if not isinstance(outline, list) or not outline:
        raise EntryError(
            f"has the segmentation {outline!r:.60}; expected polygons or run lengths", "outline the object"
        )
    polygons = tuple(polygon(one, size) for one in outline)
    if remark := next(filter(None, map(crossing, polygons)), None):
        found.listing.note(found.file, place, remark, image)
    return AnnotatedObject(class_name=kind, polygons=polygons, void=void, entry=place)


def _place(key: str, index: int, entry: Any) -> str:
    """Where an entry stands: ``annotations[3] (id 17)``."""
    return f"{key}[{index}] (id {entry['id']!r:.60})" if _has_id(entry, "id") else f"{key}[{index}]"


def _has_id(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and type(entry.get(key)) in (int, str)


def _id_of(entry: Any, known: dict[Id, int], key: str, index: int) -> Id:
    """The id of an entry, which becomes one of those known."""
    if not isinstance(entry, dict):
        raise EntryError(f"is {entry!r:.60}; expected an object with an id", "delete it")
    if not _has_id(entry, "id"):
        raise EntryError(f"has the id {entry.get('id')!r:.60}; expected a whole number", _IDS)
    if entry["id"] in known:
        raise EntryError(f"has the id of {key}[{known[entry['id']]}] too", _IDS)
    known[entry["id"]] = index
    return entry["id"]
