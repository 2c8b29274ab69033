"""Folders of pictures: what lies in them, and images paired with masks by relative path and stem."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import ConfigError
from .listing import Listing, Record, printable


@dataclass
class Pictures:
    """What one folder holds.

    Attributes:
        files: Pictures in sorted order.
        ignored: Number of files that are no pictures.
        loops: Symbolic links that lead back to a folder above them; they were not followed.
        endings: How often each extension occurs among the ignored files.
    """

    files: list[Path] = field(default_factory=list)
    ignored: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    loops: list[Path] = field(default_factory=list)


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
    before, after = (re.escape(unicodedata.normalize("NFC", part)) for part in mask_pattern.split("{stem}", 1))
    below = masks.resolve() if masks.resolve().is_relative_to(images.resolve()) and masks != images else None
    image_files, found_images = by_name(images, "images", but=below)
    mask_files, found_masks = by_name(masks, "masks", re.compile(f"{before}(.+){after}"), arrays=True)
    listing = Listing(ignored=found_images.ignored, loops=sorted({*found_images.loops, *found_masks.loops}))
    # With one folder for both, the pattern tells a mask from an image.
    if images.resolve() == masks.resolve():
        taken = {path for paths in mask_files.values() for path in paths}
        image_files = {name: [p for p in paths if p not in taken] for name, paths in image_files.items()}
        image_files = {name: paths for name, paths in image_files.items() if paths}
    else:
        listing.ignored += found_masks.ignored
    for files in (image_files, mask_files):
        listing.duplicates += [paths for _, paths in sorted(files.items()) if len(paths) > 1]
    _follow_case(image_files, mask_files)
    for name, paths in sorted(image_files.items()):
        partners = mask_files.pop(name, [])
        if not partners:
            listing.images_without_mask += paths
        elif len(paths) == len(partners) == 1:
            listing.records.append(Record(name, paths[0], partners[0]))
    listing.masks_without_image = [path for _, paths in sorted(mask_files.items()) for path in paths]
    return listing


def named_images(folder: Path, *, read: Collection[str] = ()) -> tuple[dict[str, Path], Listing]:
    """Images of a folder whose annotations are files of another kind.

    Args:
        folder: Searched with the folders inside it.
        read: Extensions of annotation files, which may lie among the images and are not counted as ignored.

    Returns:
        Name to image, without names that several files share; and a listing without records.

    Raises:
        ConfigError: If it is no folder, or has no picture.
    """
    files, found = by_name(folder, "images")
    ignored = found.ignored - sum(found.endings[ending] for ending in read)
    shared = [paths for _, paths in sorted(files.items()) if len(paths) > 1]
    images = {name: paths[0] for name, paths in sorted(files.items()) if len(paths) == 1}
    return images, Listing(ignored=ignored, loops=found.loops, duplicates=shared)


def _follow_case(images: dict[str, list[Path]], masks: dict[str, list[Path]]) -> None:
    """Give masks without an image the name of the one image that differs in upper and lower case alone."""
    left: dict[str, list[str]] = defaultdict(list)
    for name in images.keys() - masks.keys():
        left[name.casefold()].append(name)
    alone: dict[str, list[str]] = defaultdict(list)
    for name in masks.keys() - images.keys():
        alone[name.casefold()].append(name)
    for folded, names in alone.items():
        if len(names) == len(left.get(folded, [])) == 1:
            masks[left[folded][0]] = masks.pop(names[0])


def fitting_mask_pattern(listing: Listing) -> str | None:
    """A ``--mask-pattern`` by which most masks without an image, and two or more, would find one, if there is any."""
    images = {unicodedata.normalize("NFC", path.stem).lower() for path in listing.images_without_mask}
    patterns: Counter[str] = Counter()
    masks = listing.masks_without_image[:_TRIED]
    for path in masks:
        stem = unicodedata.normalize("NFC", path.stem)
        parts = [(start, end) for start in range(len(stem)) for end in range(start + 1, len(stem) + 1)]
        inside = [(start, end) for start, end in parts if stem[start:end].lower() in images]
        if inside:
            start, end = max(inside, key=lambda part: part[1] - part[0])
            patterns[f"{stem[:start]}{{stem}}{stem[end:]}"] += 1
    ((pattern, count),) = patterns.most_common(1) or [("", 0)]
    fits = count >= max(2, len(masks) / 2) and pattern != "{stem}" and not set(pattern) & set("'\"$`\\")
    return pattern if fits else None


def by_name(
    folder: Path,
    option: str,
    pattern: re.Pattern[str] | None = None,
    *,
    but: Path | None = None,
    arrays: bool = False,
) -> tuple[dict[str, list[Path]], Pictures]:
    """Pictures by path without extension, in one form of Unicode: systems differ in how they write an umlaut.

    Args:
        folder: Searched with the folders inside it.
        option: That named it, for errors.
        pattern: Of stems; its group is the stem that counts. Pictures with other names are left out.
        but: A folder inside it that is left out.
        arrays: Whether arrays (.npy) are taken too.

    Raises:
        ConfigError: If it is no folder, or has no such picture.
    """
    if not folder.is_dir():
        raise ConfigError(f"{option}: '{folder}' is not a folder.")
    pictures = list_pictures(folder, arrays=arrays)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in pictures.files:
        if but is not None and path.resolve().is_relative_to(but):
            continue
        stem = unicodedata.normalize("NFC", path.stem)
        if pattern is not None and (match := pattern.fullmatch(stem)):
            stem = match[1]
        elif pattern is not None and pattern.pattern != "(.+)":
            continue
        parent = unicodedata.normalize("NFC", path.relative_to(folder).parent.as_posix())
        files[printable((Path(parent) / stem).as_posix())].append(path)
    if not files:
        named = "" if pattern is None or pattern.pattern == "(.+)" else " with names that fit the mask pattern"
        others = ", ".join(
            f"{count} {ending or 'without extension'}" for ending, count in pictures.endings.most_common(5)
        )
        instead = f", but other files ({others}). Save them as PNG or TIFF" if others and not pictures.files else ""
        raise ConfigError(f"{option}: '{folder}' holds no pictures{named}{instead}.")
    return dict(files), pictures


def list_pictures(folder: Path, *, arrays: bool = False) -> Pictures:
    """Pictures below a folder.

    A file is a picture if Pillow knows its extension or, failing that, its content. Hidden files are passed over.
    Linked folders are searched too.

    Args:
        folder: Where they lie.
        arrays: Whether arrays of NumPy (.npy) are taken for pictures.
    """
    known = {*Image.registered_extensions(), *([".npy"] if arrays else [])}
    found = Pictures()
    for path in sorted(walk(folder, found.loops)):
        suffix = path.suffix.lower()
        if (suffix in known and suffix not in _NOT_PICTURES) or _is_picture(path):
            found.files.append(path)
        else:
            found.ignored += 1
            found.endings[suffix] += 1
    return found


_TRIED = 200
"""Masks whose names are looked at to find a pattern."""
_NOT_PICTURES = {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".hdf"}


def walk(folder: Path, loops: list[Path]) -> Iterator[Path]:
    """All files below a folder that are not hidden; links that lead to a folder above themselves go to ``loops``."""
    above: dict[str, frozenset[str]] = {str(folder): frozenset({os.path.realpath(folder)})}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = above.pop(place)
        kept = []
        for name in sorted(folders):
            path = os.path.join(place, name)
            target = os.path.realpath(path)
            if name.startswith("."):
                continue
            if target in real:
                loops.append(Path(path))
                continue
            above[path] = real | {target}
            kept.append(name)
        folders[:] = kept
        for name in files:
            path = Path(place, name)
            # A link that leads nowhere is a picture that is missing.
            if not name.startswith(".") and (path.is_file() or (path.is_symlink() and not os.path.exists(path))):
                yield path


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except Exception:  # anything Pillow cannot identify
        return False
