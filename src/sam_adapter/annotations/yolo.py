"""YOLO's outlines as a source: a text file an image and a data.yaml that names the classes.

The format is that of https://docs.ultralytics.com/datasets/segment: a line an object, ``class x1 y1 x2 y2 ...`` in
fractions of width and height.
"""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import ConfigError
from .folders import named_images, walk
from .image_sizes import image_size_of
from .listing import Listing, Record, printable
from .objects import AnnotatedObject
from .outlines import crossing, polygon
from .problems import EntryError

_EXPORT = "export the outlines again, or delete the line"
_SLACK = 0.01
"""How far beyond 0 and 1 a fraction may lie: tools round, and draw along the border."""


def list_yolo(images: Path, annotations: Path) -> Listing:
    """Pair images with YOLO's text files, by relative path and stem.

    Args:
        images: Folder of images, searched with the folders inside it.
        annotations: Folder with data.yaml and the text files: in the folder that has the path of `images` with
            ``labels`` for ``images``, as YOLO itself pairs them, if there is one below it; else in its folder labels,
            or in itself.

    Returns:
        A record for each image without a fault; one without a text file, or with an empty one, has no objects.

    Raises:
        ConfigError: If a folder is missing or empty, data.yaml names no classes, or no file belongs to an image.
    """
    described = described_by(annotations)
    if described is None:
        raise ConfigError(f"annotations: '{annotations}' has no data.yaml with the names of the classes.")
    names = _class_names(described)
    found, listing = named_images(images, read=(".txt", ".yaml", ".yml"))
    folder = _label_folder(images, annotations)
    files = {_name(path, folder): path for path in walk(folder, []) if path.suffix.lower() == ".txt"}
    if found.keys().isdisjoint(files):
        raise ConfigError(
            f"annotations: '{folder}' has no text file that is named after an image: expected one such as "
            f"'{next(iter(found), '')}.txt', got {repr(next(iter(files))) if files else 'none'}."
        )
    for name, image in found.items():
        if name not in files:
            listing.records.append(Record(name, image, described, objects=()))
        elif (objects := _objects(files[name], image, names, listing)) is not None:
            listing.records.append(Record(name, image, files[name], objects=objects))
    for name in sorted(files.keys() - found.keys()):
        if _is_outlines(files[name]):
            listing.masks_without_image.append(files[name])
        else:  # a list of files, a note
            listing.ignored += 1
    listing.class_names = tuple(dict.fromkeys(names.values()))
    return listing


def described_by(annotations: Path) -> Path | None:
    """The YAML file that names the classes: in a folder, or above a folder that has text files and no such file."""
    for name in ("data.yaml", "data.yml"):
        if (annotations / name).is_file():
            return annotations / name
    own = [path for ending in ("*.yaml", "*.yml") for path in sorted(annotations.glob(ending))]
    if len(own) == 1:
        return own[0]
    if any(path.suffix.lower() == ".txt" for path in walk(annotations, [])):
        above = [folder / "data.yaml" for folder in (annotations.parent, annotations.parent.parent)]
        return next((path for path in above if path.is_file()), None)
    return None


def _class_names(path: Path) -> dict[int, str]:
    """Number to class."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"annotations: '{path}' cannot be read ({' '.join(str(error).split())}).") from error
    names = content.get("names") if isinstance(content, dict) else None
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(numbered, dict) or not numbered:
        raise ConfigError(f"annotations: '{path}' has no names of classes; expected 'names: [first, second]'.")
    wrong = [f"{number!r}: {name!r}" for number, name in numbered.items() if not _is_class(number, name)]
    if wrong:
        raise ConfigError(f"annotations: '{path}' names a class {wrong[0]:.80}; expected a number and text.")
    count = content.get("nc", len(numbered))
    if count != len(numbered):
        raise ConfigError(
            f"annotations: '{path}' says nc {count!r:.20} and names {len(numbered)} classes; make them one."
        )
    twice = {name for name in numbered.values() if list(numbered.values()).count(name) > 1}
    if twice:
        raise ConfigError(f"annotations: '{path}' names the class '{min(twice)}' twice.")
    return {number: printable(name) for number, name in numbered.items()}


def _is_class(number: Any, name: Any) -> bool:
    return type(number) is int and number >= 0 and isinstance(name, str) and bool(name.strip())


def _label_folder(images: Path, annotations: Path) -> Path:
    """Where the text files of a folder of images lie."""
    parts = images.absolute().parts
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        beside = Path(*parts[:last], "labels", *parts[last + 1 :])
        if beside.is_dir() and beside.is_relative_to(annotations.absolute()):
            return beside
    return annotations / "labels" if (annotations / "labels").is_dir() else annotations


def _name(path: Path, folder: Path) -> str:
    return printable(unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix()))


def _objects(path: Path, image: Path, names: dict[int, str], listing: Listing) -> tuple[AnnotatedObject, ...] | None:
    """What a file outlines, in the order of its lines; None, and all that is wrong, if anything is."""
    faults = len(listing.problems)
    size = image_size_of(image)
    objects = []
    try:
        lines = _lines(path)
    except EntryError as error:
        listing.note(path, "", error, image)
        return None
    for number, line in enumerate(lines, start=1):
        if not line.split() or size is None:  # of an image that cannot be read the record will be left out
            continue
        entry = f"line {number}"
        try:
            name, points = _outline(line.split(), names, size)
            if remark := crossing(points):
                listing.note(path, entry, remark, image)
            objects.append(AnnotatedObject(class_name=name, polygons=(points,), entry=entry))
        except EntryError as error:
            listing.note(path, entry, error, image)
    wrong = any(not problem.remark for problem in listing.problems[faults:])
    return None if wrong else tuple(objects)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise EntryError(f"cannot be read ({error.strerror})", "replace the file") from error
    except UnicodeDecodeError as error:
        raise EntryError("is no text in UTF-8", "replace the file") from error


def _outline(words: list[str], names: dict[int, str], size: tuple[int, int]) -> tuple[str, np.ndarray]:
    """Class and polygon ``(n, 2)`` in pixels of a line."""
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        raise EntryError(f"has {wrong!r:.40}; expected a class and fractions", _EXPORT) from None
    if len(values) == 5:
        raise EntryError("has 5 numbers, a class and a box", "export outlines (segmentation), not boxes (detection)")
    if values[0] not in names:
        raise EntryError(f"is of class {words[0]:.20}, and data.yaml names {_shown(names)}", "name it in data.yaml")
    fractions = values[1:]
    if not np.isfinite(fractions).all():
        raise EntryError("has a polygon with a coordinate that is no finite number (NaN or infinite)", _EXPORT)
    outside = (fractions < -_SLACK) | (fractions > 1 + _SLACK)
    if outside.any():
        raise EntryError(
            f"has the coordinate {fractions[outside][0]:g}; expected fractions of width and height from 0 to 1",
            "divide x by the width and y by the height of the picture",
        )
    if len(fractions) % 2 == 0:
        fractions = (fractions.reshape(-1, 2) * size[::-1]).ravel()
    return names[int(values[0])], polygon(fractions, size)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _shown(names: dict[int, str]) -> str:
    return f"{min(names)} to {max(names)}"


def _is_outlines(path: Path) -> bool:
    """Whether a file is empty or begins with a number."""
    try:
        words = path.read_text(encoding="utf-8-sig").split(maxsplit=1)
    except (OSError, UnicodeDecodeError):
        return False
    return not words or _is_number(words[0])
