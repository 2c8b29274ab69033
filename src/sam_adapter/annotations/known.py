"""Known data sets as a source: the user's copy of a public set, found by the layouts in which its archives unpack."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..config.known_sets import KNOWN_SETS, Layout, SetPart
from ..errors import ConfigError, amount
from .folders import list_pairs
from .listing import Listing
from .problems import AnnotationProblem

KIND = "known_set"
"""Kind of the remark about a copy that differs from what was published."""
_SHOWN = 3


def list_known(name: str, root: Path) -> Listing:
    """The pairs of a public data set.

    Args:
        name: A key of `KNOWN_SETS`.
        root: Folder into which its archives were unpacked.

    Returns:
        The pairs of all parts that are there; those of several parts have the part's name before their own, so that
        equal stems stay apart. A part that is missing is a problem, another number of pictures than published a remark.

    Raises:
        ConfigError: If the root is no folder, or none of the parts is below it.
    """
    if not root.is_dir():
        raise ConfigError(f"root: '{root}' is not a folder.")
    parts = KNOWN_SETS[name].parts
    listing = Listing()
    for part in parts:
        found = _part(part, root)
        prefix = f"{part.name}/" if len(parts) > 1 else ""
        listing.records += [replace(record, name=f"{prefix}{record.name}") for record in found.records]
        listing.images_without_mask += found.images_without_mask
        listing.masks_without_image += found.masks_without_image
        listing.duplicates += found.duplicates
        listing.ignored += found.ignored
        listing.loops += found.loops
        listing.problems += found.problems
    if not listing.records and not listing.images_without_mask:
        raise ConfigError(*(f"known: {one.text}. What helps: {one.cure}." for one in listing.problems))
    return listing


def _part(part: SetPart, root: Path) -> Listing:
    """The pairs of one part, and what is missing of it."""
    place = next((found for layout in part.layouts if (found := _located(layout, root))), None)
    published = f"its authors publish it at {part.page}; unpack it below '{root}'"
    if place is None:
        return _missing(part, root, f"expected below '{root}' {_expected(part)}", published)
    layout, folder, images, masks = place
    listed: Collection[str] | None = None
    if part.list_files:
        list_file = next((path for base in (folder, root) for path in _below(base, part.list_files)), None)
        if list_file is None or not list_file.is_file():
            text = f"expected the list of its pictures, {part.list_files[0]}, in '{folder}'"
            return _missing(part, root, text, f"the list is published at {part.list_page}; put it there")
        listed = _names_in(list_file)
    try:
        found = list_pairs(images, masks)
    except ConfigError as error:
        return _missing(part, root, str(error).rstrip("."), published)
    begins = layout.begins.lower()
    found = _only(found, lambda name: name.lower().startswith(begins) and (listed is None or _key(name) in listed))
    if layout.masks_of_all:
        found.masks_without_image = []
    if (count := len(found.records)) != part.count:
        text = (
            f"{part.name} has {amount(count, 'complete pair')} in '{images}' and '{masks}', of {part.count} published"
        )
        if missing := sorted((listed or set()) - {_key(record.image.stem) for record in found.records}):
            text += f"; without a pair are {', '.join(missing[:_SHOWN])}{' and others' if missing[_SHOWN:] else ''}"
        cure = f"complete it from {part.page}, or take its scores for those of another set"
        found.problems.append(AnnotationProblem(images, text, cure, remark=True, kind=KIND))
    return found


def _located(layout: Layout, root: Path) -> tuple[Layout, Path, Path, Path] | None:
    """The layout with its folder, images and masks, if they are there."""
    for folder in _below(root, layout.folders):
        for base in (folder, *_below(folder, (folder.name,))):  # archives unpacked into a folder of their own name
            images = next((path for path in _below(base, layout.images) if path.is_dir()), None)
            masks = next((path for path in _below(base, layout.masks) if path.is_dir()), None)
            if images is not None and masks is not None:
                return layout, base, images, masks
    return None


def _below(folder: Path, paths: Iterable[str]) -> list[Path]:
    """Those of some paths below a folder that are there, whatever the case of their letters."""
    found = []
    for path in paths:
        place: Path | None = folder
        for name in PurePosixPath(path).parts:
            place = _child(place, name) if place is not None else None
        found += [place] if place is not None else []
    return found


def _child(folder: Path, name: str) -> Path | None:
    if (folder / name).exists():
        return folder / name
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name.lower()), None)


def _names_in(path: Path) -> set[str]:
    """Names of pictures that a list has, one a line: stems, file names or paths; what follows on a line is its mask."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"known: the list '{path}' cannot be read as text ({error}).") from error
    first = [re.split(r"[\s,;]+", line.strip())[0] for line in lines if line.strip()]
    return {_key(re.sub(r"\.\w{1,4}$", "", PurePosixPath(name.replace("\\", "/")).name)) for name in first}


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _only(listing: Listing, keep: Callable[[str], bool]) -> Listing:
    """What of a listing has a stem that is kept."""
    return Listing(
        records=[record for record in listing.records if keep(record.image.stem)],
        images_without_mask=[path for path in listing.images_without_mask if keep(path.stem)],
        masks_without_image=[path for path in listing.masks_without_image if keep(path.stem)],
        duplicates=[paths for paths in listing.duplicates if keep(paths[0].stem)],
        ignored=listing.ignored,
        loops=listing.loops,
    )


def _missing(part: SetPart, root: Path, expected: str, cure: str) -> Listing:
    return Listing(problems=[AnnotationProblem(root, f"{part.name} ({part.count} pictures): {expected}", cure)])


def _expected(part: SetPart) -> str:
    """All folders that a part may lie in, with what is in them."""

    def any_of(names: Sequence[str]) -> str:
        return names[0] + (f" (or {', '.join(names[1:])})" if names[1:] else "")

    layouts = []
    for layout in part.layouts:
        *others, last = ["the folder itself" if folder == "." else folder for folder in layout.folders]
        folders = f"{', '.join(others)} or {last}" if others else last
        layouts.append(f"{any_of(layout.images)} and {any_of(layout.masks)} in {folders}")
    return "; or ".join(layouts)
