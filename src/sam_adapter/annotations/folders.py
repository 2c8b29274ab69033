"""Folders of images and masks → records, paired by relative path and stem."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import ConfigError
from .objects import AnnotatedObject


@dataclass(frozen=True)
class Record:
    """One image and its mask."""

    name: str
    """Path below the folder without extension, ``/`` between folders: ``day1/img_07``; with ``--pages all`` a page
    after the first has its number behind it: ``day1/stack_page2``."""
    image: Path
    mask: Path
    """File, or folder of files, that holds its annotation."""
    page: int = 0
    """Page of both files, counted from 0."""
    objects: tuple[AnnotatedObject, ...] | None = field(default=None, compare=False, repr=False)
    """What the annotation outlines, in the order in which it is painted; None if ``mask`` is a picture of values."""

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The pictures of values that hold its annotation, if any do."""
        if self.objects is None:
            return (self.mask,)
        return tuple(one.file for one in self.objects if one.file is not None)

    @property
    def picture(self) -> tuple[Path, int]:
        """The image's file and page."""
        return self.image, self.page


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


@dataclass
class Listing:
    """What a pair of folders holds.

    Attributes:
        records: Complete pairs, sorted by name.
        images_without_mask: Images that no mask belongs to.
        masks_without_image: Masks that no image belongs to.
        duplicates: Files that share one name.
        ignored: Number of files that are no pictures.
        loops: Symbolic links that lead back to a folder above them.
        class_names: Classes of the annotated objects in the order of the source, without a background; empty where
            masks are pictures of values.
        problems: What is wrong with annotation files, each with the file.
    """

    records: list[Record] = field(default_factory=list)
    images_without_mask: list[Path] = field(default_factory=list)
    masks_without_image: list[Path] = field(default_factory=list)
    duplicates: list[list[Path]] = field(default_factory=list)
    ignored: int = 0
    loops: list[Path] = field(default_factory=list)
    class_names: tuple[str, ...] = ()
    problems: list["AnnotationProblem"] = field(default_factory=list)


@dataclass(frozen=True)
class AnnotationProblem:
    """Something that is wrong with one entry of an annotation file.

    Attributes:
        path: The file.
        text: The entry and what is wrong with it, a sentence without its full stop.
        cure: What helps, the same.
        image: The image that the entry is about, if it is known; its record is left out.
    """

    path: Path
    text: str
    cure: str
    image: Path | None = None


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
    image_files, found_images = _by_name(images, "images", but=below)
    mask_files, found_masks = _by_name(masks, "masks", re.compile(f"{before}(.+){after}"))
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


def list_pictures(folder: Path) -> Pictures:
    """Pictures below a folder.

    A file is a picture if Pillow knows its extension or, failing that, its content. Hidden files are passed over.
    Linked folders are searched too.
    """
    known = Image.registered_extensions()
    found = Pictures()
    for path in sorted(_walk(folder, found.loops)):
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


def _walk(folder: Path, loops: list[Path]) -> Iterator[Path]:
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


def printable(text: str) -> str:
    """Text that can be printed and written as UTF-8, whatever bytes a file's name has."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except Exception:  # anything Pillow cannot identify
        return False


def _by_name(
    folder: Path, option: str, pattern: re.Pattern[str] | None = None, *, but: Path | None = None
) -> tuple[dict[str, list[Path]], Pictures]:
    """Pictures by path without extension, in one form of Unicode: systems differ in how they write an umlaut."""
    if not folder.is_dir():
        raise ConfigError(f"{option}: '{folder}' is not a folder.")
    pictures = list_pictures(folder)
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
