"""Folders in which an image has several masks: a folder a class, or a folder an image with a file an object.

A file an object in the image's folder is how the 2018 Data Science Bowl published its nuclei.
"""

import unicodedata
from collections import defaultdict
from pathlib import Path

from ..errors import ConfigError
from .folders import list_pictures, named_images
from .listing import Listing, Record, printable
from .objects import AnnotatedObject

OBJECT_CLASS = "object"
"""Class of objects that have none."""


def list_folder_per_class(images: Path, masks: Path, mask_pattern: str = "{stem}") -> Listing:
    """Pair images with masks that lie in a folder a class: ``MASKS/CLASS/STEM.png``.

    Args:
        images: Folder of images, searched with the folders inside it.
        masks: Folder of the classes' folders, each laid out as that of the images.
        mask_pattern: Name of a mask, with ``{stem}`` for the stem of its image.

    Returns:
        A record for each image; one without any mask has no objects.

    Raises:
        ConfigError: If a folder is missing or empty, or masks lie in no class's folder.
    """
    found, listing = named_images(images)
    classes = _folders(masks, images)
    files: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for name in classes:
        for path in _pictures(masks / name, listing):
            files[_image_name(path, masks / name, mask_pattern)].append((name, path))
    _require_partners(found, files, masks, "CLASS/STEM.png")
    for name, image in found.items():
        own = {kind: [path for of, path in files.get(name, ()) if of == kind] for kind in classes}
        if shared := [paths for paths in own.values() if len(paths) > 1]:
            listing.duplicates += shared
            continue
        objects = tuple(_object(paths[0], masks, kind) for kind, paths in own.items() if paths)
        listing.records.append(Record(name, image, masks, objects=objects))
    listing.masks_without_image = sorted(path for name in files.keys() - found.keys() for _, path in files[name])
    listing.class_names = tuple(unicodedata.normalize("NFC", name) for name in classes)
    return listing


def list_folder_per_image(images: Path, masks: Path, mask_pattern: str = "{stem}") -> Listing:
    """Pair images with folders that hold a mask an object: ``MASKS/STEM/*.png``.

    Args:
        images: Folder of images, searched with the folders inside it. If it is that of the masks too, each folder in it
            is laid out as the Bowl's: ``STEM/images/STEM.png`` and ``STEM/masks/*.png``.
        masks: Folder of the images' folders, laid out as that of the images.
        mask_pattern: Name of such a folder, with ``{stem}`` for the stem of its image.

    Returns:
        A record for each image that has a folder; an empty folder is an image without objects.

    Raises:
        ConfigError: If a folder is missing or empty.
    """
    if images.resolve() == masks.resolve():
        return _list_as_published(images)
    found, listing = named_images(images)
    _folders(masks, images)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in _pictures(masks, listing):
        if path.parent == masks:
            listing.masks_without_image.append(path)
            continue
        files[_image_name(path.parent, masks, mask_pattern)].append(path)
    _require_partners(found, files, masks, "STEM/*.png")
    for name, image in found.items():
        folder = masks / Path(name).parent / mask_pattern.replace("{stem}", Path(name).name)
        if name not in files and not folder.is_dir():
            listing.images_without_mask.append(image)
            continue
        own = files.get(name, [])
        objects = tuple(_object(path, masks, OBJECT_CLASS) for path in own)
        listing.records.append(Record(name, image, own[0].parent if own else folder, objects=objects))
    listing.masks_without_image += sorted(path for name in files.keys() - found.keys() for path in files[name])
    listing.class_names = (OBJECT_CLASS,)
    return listing


def _list_as_published(folder: Path) -> Listing:
    """Folders with an image in ``images`` and the masks of its objects in ``masks``."""
    listing = Listing(class_names=(OBJECT_CLASS,))
    for name in _folders(folder, folder):
        images = _pictures(folder / name / "images", listing)
        masks = folder / name / "masks"
        objects = tuple(_object(path, folder, OBJECT_CLASS) for path in _pictures(masks, listing))
        if len(images) > 1:
            listing.duplicates.append(images)
        elif images and masks.is_dir():
            record = Record(printable(unicodedata.normalize("NFC", name)), images[0], masks, objects=objects)
            listing.records.append(record)
        else:
            listing.images_without_mask += images
            listing.masks_without_image += [one.file for one in objects if one.file is not None]
    if not listing.records:
        raise ConfigError(f"masks: '{folder}' has no folder with an image in images/ and masks in masks/.")
    return listing


def _object(path: Path, masks: Path, class_name: str) -> AnnotatedObject:
    name = unicodedata.normalize("NFC", class_name)
    return AnnotatedObject(class_name=name, file=path, entry=printable(path.relative_to(masks).as_posix()))


def _folders(masks: Path, images: Path) -> list[str]:
    """Names of the folders in a folder, without the one of the images."""
    if not masks.is_dir():
        raise ConfigError(f"masks: '{masks}' is not a folder.")
    names = [path.name for path in masks.iterdir() if path.is_dir() and not path.name.startswith(".")]
    names = sorted(name for name in names if (masks / name).resolve() != images.resolve())
    if not names:
        raise ConfigError(f"masks: '{masks}' holds no folders, as the mask layout has it; expected files in folders.")
    return names


def _pictures(folder: Path, listing: Listing) -> list[Path]:
    """Masks below a folder; what else lies there is counted."""
    found = list_pictures(folder, arrays=True)
    listing.ignored += found.ignored
    listing.loops = sorted({*listing.loops, *found.loops})
    return found.files


def _image_name(path: Path, folder: Path, mask_pattern: str) -> str:
    """Name of the image that a file, or a folder, is named after; its own if the pattern does not fit."""
    before, _, after = (unicodedata.normalize("NFC", part) for part in mask_pattern.partition("{stem}"))
    place = path.relative_to(folder)
    stem = unicodedata.normalize("NFC", place.name if path.is_dir() else place.stem)
    if len(stem) > len(before) + len(after) and stem.startswith(before) and stem.endswith(after):
        stem = stem[len(before) : len(stem) - len(after)]
    return printable((Path(unicodedata.normalize("NFC", place.parent.as_posix())) / stem).as_posix())


def _require_partners(images: dict[str, Path], files: dict[str, list], masks: Path, layout: str) -> None:
    """Refuse a folder of which no file fits: every image would count as empty.

    Raises:
        ConfigError: If no name of a mask is that of an image.
    """
    if images.keys().isdisjoint(files):
        got = f"'{next(iter(files))}'" if files else "no pictures"
        raise ConfigError(
            f"masks: '{masks}' has no mask that is named after an image: expected {layout} with a stem such as "
            f"'{next(iter(images), '')}', got {got}."
        )
