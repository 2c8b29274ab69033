"""labelme's JSON files as a source, one an image: https://github.com/wkentaro/labelme."""

import json
import unicodedata
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .folders import named_images, walk
from .image_sizes import image_size_of
from .labelme_shapes import BACKGROUND, VOID, joined, outlined, without
from .listing import Listing, Record, printable
from .objects import AnnotatedObject
from .outlines import crossing
from .problems import EntryError

_REWRITE = "open and save it with labelme, or delete it"


def list_labelme(images: Path, annotations: Path) -> Listing:
    """Pair images with labelme's files, by relative path and stem.

    A file's own ``imagePath`` is not asked: files are often moved together. Shapes of one label and one ``group_id``
    are one object; it is painted where its first shape stands. Classes are in alphabetical order.

    Args:
        images: Folder of images, searched with the folders inside it.
        annotations: Folder of the files, laid out as that of the images, or that folder itself.

    Returns:
        A record for each image with a file that has no fault; a file without shapes is an image without objects.

    Raises:
        ConfigError: If a folder is missing or empty, or no file belongs to an image.
    """
    found, listing = named_images(images, read=(".json",))
    files = {_name(path, annotations): path for path in labelme_files(annotations)}
    if found.keys().isdisjoint(files):
        raise ConfigError(_nothing_fits(annotations, files, found))
    for name, image in found.items():
        if name not in files:
            listing.images_without_mask.append(image)
        elif (objects := _objects(files[name], image, listing)) is not None:
            listing.records.append(Record(name, image, files[name], objects=objects))
    for name in sorted(files.keys() - found.keys()):
        if _is_labelme(files[name]):
            listing.masks_without_image.append(files[name])
        else:
            listing.ignored += 1
    names = {one.class_name for record in listing.records for one in record.objects or ()} - {VOID}
    listing.class_names = tuple(sorted(names))
    return listing


def labelme_files(folder: Path) -> list[Path]:
    """JSON files below a folder."""
    return sorted(path for path in walk(folder, []) if path.suffix.lower() == ".json")


def _name(path: Path, folder: Path) -> str:
    return printable(unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix()))


def _nothing_fits(annotations: Path, files: dict[str, Path], found: dict[str, Path]) -> str:
    """Why no file belongs to an image."""
    for path in files.values():
        if _has(path, "annotations", "categories"):
            return f"annotations: '{path}' is a COCO file; give the file, not its folder."
    return (
        f"annotations: '{annotations}' has no JSON file that is named after an image: expected one such as "
        f"'{next(iter(found), '')}.json', got '{next(iter(files), '')}.json'."
    )


def _has(path: Path, *keys: str) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and all(key in content for key in keys)


def _is_labelme(path: Path) -> bool:
    return _has(path, "shapes")


def _objects(path: Path, image: Path, listing: Listing) -> tuple[AnnotatedObject, ...] | None:
    """What a file outlines, in the order in which it is painted; None, and all that is wrong, if anything is."""
    entry, faults = "", len(listing.problems)
    try:
        content = _content(path)
        size = image_size_of(image, height=content.get("imageHeight"), width=content.get("imageWidth"))
    except EntryError as error:
        listing.note(path, entry, error, image)
        return None
    objects: dict[Any, AnnotatedObject] = {}
    for index, shape in enumerate(content["shapes"]):
        entry = f"shapes[{index}]"
        try:
            label, group = _label_and_group(shape)
            entry = f"{entry} ('{label}')"
            if size is None:  # the image cannot be read, and its record will be left out
                continue
            made = outlined(shape, label, size, entry)
            for one in made.polygons:
                if remark := crossing(one):
                    listing.note(path, entry, remark, image)
            if label == BACKGROUND:
                objects = {key: without(one, made, size) for key, one in objects.items()}
                continue
            key = (label, group) if group is not None else index
            objects[key] = joined(objects[key], made, size) if key in objects else made
        except EntryError as error:
            listing.note(path, entry, error, image)
    wrong = any(not problem.remark for problem in listing.problems[faults:])
    return None if wrong else tuple(objects.values())


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EntryError(f"cannot be read ({error.strerror})", _REWRITE) from error
    except (ValueError, RecursionError) as error:
        reason = "it is empty, 0 bytes" if not path.stat().st_size else " ".join(str(error).split())
        raise EntryError(f"is no JSON ({reason})", _REWRITE) from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise EntryError("is no file of labelme: it has no list shapes", _REWRITE)
    return content


def _label_and_group(shape: Any) -> tuple[str, int | str | None]:
    if not isinstance(shape, dict):
        raise EntryError(f"is {shape!r:.60}; expected an object with a label and points", _REWRITE)
    label, group = shape.get("label"), shape.get("group_id")
    if not isinstance(label, str) or not label.strip():
        raise EntryError(f"has the label {label!r:.60}; expected the name of a class", "give it a label")
    if group is not None and type(group) not in (int, str):
        raise EntryError(f"has the group_id {group!r:.60}; expected a whole number or null", "give it another")
    return printable(label), group
