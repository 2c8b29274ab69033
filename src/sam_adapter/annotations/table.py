"""Tables (.csv) as a source: a row an image, with its mask, and its split and group if there are such columns."""

import csv
import io
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..errors import ConfigError
from .listing import Listing, Record, printable
from .problems import EntryError
from .spreadsheet import read_spreadsheet, separator_of

SPLIT, GROUP = "split", "group"
_ROW = "fill it in, or delete the row"


@dataclass(frozen=True)
class _Columns:
    """Where in a row its values are; None for a column that the table does not have."""

    image: int
    mask: int
    split: int | None
    group: int | None


def list_table(
    path: Path, *, split: str | None = None, image_column: str = "image", mask_column: str = "mask"
) -> Listing:
    """Images and masks that a table names.

    Args:
        path: The table; its first row has the names of the columns. Paths in it are absolute, or relative to its
            folder.
        split: Rows whose column split has this value, or one of several joined by ``+``; without it the table must
            not have several.
        image_column: Column of images.
        mask_column: Column of masks.

    Returns:
        A record for each row without a fault, named by the image's path below the folder that all images are in; and
        the groups of the rows, if there is a column group.

    Raises:
        ConfigError: If the table cannot be read, lacks a column, or has no row of the split.
    """
    header, rows = _read(path)
    columns = _columns(path, header, image_column, mask_column)
    places = {number: _located(row, columns.image, path.parent) for number, row in rows}
    base = _common_folder([place for place in places.values() if place is not None])
    chosen = _chosen(path, rows, columns, split)
    listing = Listing()
    groups: dict[str, str] = {}
    listed: dict[Path, int] = {}
    records: dict[str, list[Record]] = defaultdict(list)
    for number, row in chosen:
        image = places[number]
        try:
            image, mask = _pair(row, columns, image, path.parent)
            if listed.setdefault(image, number) != number:
                raise EntryError(f"names the image '{image}' of row {listed[image]} too", "keep one of the rows")
            name = printable(PurePath(os.path.relpath(image, base)).with_suffix("").as_posix())
            if columns.group is not None:
                groups[name] = _cell(row, columns.group, GROUP)
            records[name].append(Record(name, image, mask))
        except EntryError as error:
            listing.note(path, f"row {number}", error, image)
    twice = {problem.image for problem in listing.problems}  # which of its rows is right nobody knows
    for _, alike in sorted(records.items()):
        if len(alike) > 1:
            listing.duplicates.append([record.image for record in alike])
        elif alike[0].image not in twice:
            listing.records += alike
    listing.groups = {record.name: groups[record.name] for record in listing.records if groups}
    return listing


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and the rows that are not empty with their numbers in a spreadsheet."""
    text = read_spreadsheet(path, "table")
    first, _, rest = text.partition("\n")
    if said := re.fullmatch('"?sep=(.)"?', first.strip(), re.IGNORECASE):  # some spreadsheets say their separator first
        separator, text = said[1], f"\n{rest}"
    else:
        separator = separator_of(first) or ","
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        ]
    except csv.Error as error:
        raise ConfigError(f"table: '{path}' cannot be read as a table ({error}).") from error
    filled = [(number, row) for number, row in enumerate(rows, start=1) if any(row)]
    if len(filled) < 2:
        raise ConfigError(f"table: '{path}' has no rows below the names of its columns; expected image,mask and more.")
    return filled[0][1], filled[1:]


def _columns(path: Path, header: list[str], image: str, mask: str) -> _Columns:
    lower = [name.lower() for name in header]

    def index(name: str) -> int | None:
        return lower.index(name.lower()) if name.lower() in lower else None

    at = {name: index(name) for name in (image, mask)}
    if missing := [name for name, place in at.items() if place is None]:
        raise ConfigError(
            f"table: '{path}' has the columns {', '.join(header)} and no column {' and no column '.join(missing)}. "
            "'--image-column' and '--mask-column' name others."
        )
    if twice := [name for name, count in Counter(lower).items() if name and count > 1]:
        raise ConfigError(f"table: '{path}' has the column {twice[0]} twice.")
    return _Columns(at[image] or 0, at[mask] or 0, index(SPLIT), index(GROUP))


def _chosen(
    path: Path, rows: list[tuple[int, list[str]]], columns: _Columns, split: str | None
) -> list[tuple[int, list[str]]]:
    """Rows of the split."""
    if columns.split is None:
        if split is not None:
            raise ConfigError(f"split: '{path}' has no column {SPLIT}; leave it out, or add the column.")
        return rows
    at = columns.split
    known = Counter(row[at] if at < len(row) else "" for _, row in rows)
    shown = ", ".join(f"{name or 'none'} ({count})" for name, count in known.items())
    if split is None:
        if len(known) > 1:
            raise ConfigError(
                f"split: '{path}' has rows of the splits {shown}; choose one, or several as in "
                f"'{'+'.join(sorted(known)[:2])}'."
            )
        return rows
    wanted = set(split.split("+"))
    if unknown := sorted(wanted - known.keys()):
        raise ConfigError(f"split: '{path}' has no rows of the split '{unknown[0]}'; it has {shown}.")
    return [(number, row) for number, row in rows if at < len(row) and row[at] in wanted]


def _cell(row: list[str], column: int, name: str) -> str:
    if column >= len(row) or not row[column]:
        raise EntryError(f"has no {name}", _ROW)
    return row[column]


def _located(row: list[str], column: int, folder: Path) -> Path | None:
    """The file that a cell names; None for an empty cell."""
    if column >= len(row) or not row[column]:
        return None
    text = os.path.expanduser(row[column].replace("\\", "/"))
    return Path(os.path.abspath(folder / text))


def _pair(row: list[str], columns: _Columns, image: Path | None, folder: Path) -> tuple[Path, Path]:
    """Image and mask of a row."""
    if image is None:
        raise EntryError("has no image", _ROW)
    mask = _located(row, columns.mask, folder)
    if mask is None:
        raise EntryError("has no mask", _ROW)
    for kind, path in (("image", image), ("mask", mask)):
        if not os.path.isfile(path):  # whatever the cell holds: a name may be too long for the system
            what = "is a folder" if os.path.isdir(path) else "is not there"
            raise EntryError(f"names the {kind} '{path}', which {what}", "correct the path, or delete the row")
    if image == mask:
        raise EntryError(f"names '{image}' as image and as mask", "name the mask")
    return image, mask


def _common_folder(images: list[Path]) -> Path:
    """The innermost folder that all images are in."""
    if not images:
        return Path()
    try:
        return Path(os.path.commonpath([image.parent for image in images]))
    except ValueError:  # on several drives
        return images[0].parent
