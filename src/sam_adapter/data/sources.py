"""Folders of images and masks → records, paired by relative path and stem."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import ConfigError


@dataclass(frozen=True)
class Record:
    """One image and its mask."""

    name: str
    """Path below the folder without extension, ``/`` between folders: ``day1/img_07``."""
    image: Path
    mask: Path


@dataclass
class Listing:
    """What a pair of folders holds.

    Attributes:
        records: Complete pairs, sorted by name.
        images_without_mask: Images that no mask belongs to.
        masks_without_image: Masks that no image belongs to.
        duplicates: Files that share one name.
        ignored: Number of files that are no pictures.
    """

    records: list[Record] = field(default_factory=list)
    images_without_mask: list[Path] = field(default_factory=list)
    masks_without_image: list[Path] = field(default_factory=list)
    duplicates: list[list[Path]] = field(default_factory=list)
    ignored: int = 0


def list_pairs(images: Path, masks: Path, mask_pattern: str = "{stem}") -> Listing:
    """Pair the pictures of two folders.

    Args:
        images: Folder of images, searched with the folders inside it.
        masks: Folder of masks in the same layout.
        mask_pattern: Name of a mask, with ``{stem}`` for the stem of its image.

    Returns:
        The pairs, and all that has no partner or more than one.

    Raises:
        ConfigError: If a folder is missing or holds no picture.
    """
    listing = Listing()
    before, after = (re.escape(part) for part in mask_pattern.split("{stem}", 1))
    below = masks.resolve() if masks.resolve().is_relative_to(images.resolve()) and masks != images else None
    image_files, listing.ignored = _by_name(images, "images", but=below)
    mask_files, ignored = _by_name(masks, "masks", re.compile(f"{before}(.+){after}"))
    # With one folder for both, the pattern tells a mask from an image.
    if images.resolve() == masks.resolve():
        taken = {path for paths in mask_files.values() for path in paths}
        image_files = {name: [p for p in paths if p not in taken] for name, paths in image_files.items()}
        image_files = {name: paths for name, paths in image_files.items() if paths}
    else:
        listing.ignored += ignored
    for files in (image_files, mask_files):
        listing.duplicates += [paths for _, paths in sorted(files.items()) if len(paths) > 1]
    for name, paths in sorted(image_files.items()):
        partners = mask_files.pop(name, [])
        if not partners:
            listing.images_without_mask += paths
        elif len(paths) == len(partners) == 1:
            listing.records.append(Record(name, paths[0], partners[0]))
    listing.masks_without_image = [path for _, paths in sorted(mask_files.items()) for path in paths]
    return listing


def list_pictures(folder: Path) -> tuple[list[Path], int]:
    """Pictures below a folder in sorted order, and the number of other files.

    A file is a picture if Pillow knows its extension or, failing that, its content. Hidden files are passed over.
    """
    known = Image.registered_extensions()
    pictures, ignored = [], 0
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if (path.suffix.lower() in known and path.suffix.lower() not in _NOT_PICTURES) or _is_picture(path):
            pictures.append(path)
        else:
            ignored += 1
    return pictures, ignored


_NOT_PICTURES = {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".hdf"}


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except Exception:  # anything Pillow cannot identify
        return False


def _by_name(
    folder: Path, option: str, pattern: re.Pattern[str] | None = None, *, but: Path | None = None
) -> tuple[dict[str, list[Path]], int]:
    if not folder.is_dir():
        raise ConfigError(f"{option}: '{folder}' is not a folder.")
    pictures, ignored = list_pictures(folder)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        if but is not None and path.resolve().is_relative_to(but):
            continue
        stem = path.stem
        if pattern is not None and (match := pattern.fullmatch(stem)):
            stem = match[1]
        elif pattern is not None and pattern.pattern != "(.+)":
            continue
        files[(path.relative_to(folder).parent / stem).as_posix()].append(path)
    if not files:
        named = "" if pattern is None or pattern.pattern == "(.+)" else " with names that fit the mask pattern"
        raise ConfigError(f"{option}: '{folder}' holds no pictures{named}.")
    return dict(files), ignored
