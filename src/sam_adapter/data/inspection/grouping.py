"""Which pairs belong together, so that no split tears them apart: by a pattern of their names, or by a table."""

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from ...annotations.listing import Record
from ...annotations.spreadsheet import read_spreadsheet, separator_of
from ...config.options import GroupOptions
from ...errors import ConfigError, DataError, amount

_MOST_PROBLEMS = 20


def group_names(
    records: Sequence[Record], options: GroupOptions, known: Mapping[str, str] | None = None
) -> list[str] | None:
    """The group of each pair, if the user or the source says anything about groups.

    Args:
        records: The pairs.
        options: The pattern, or the table.
        known: Name of a record to its group, where the source has groups; options come first.

    Raises:
        ConfigError: If the table cannot be read.
        DataError: With all pairs that get no group, or more than one.
    """
    if options.groups is not None:
        return _from_table(records, options.groups)
    if options.group_pattern is not None:
        return _from_pattern(records, options.group_pattern)
    if known:
        return [known.get(record.name, record.name) for record in records]
    return None


def fitting_pattern(names: Sequence[str], together: Sequence[Sequence[int]]) -> str | None:
    """A pattern that keeps pairs together which belong together, and still leaves something to split.

    Args:
        names: Names of all pairs.
        together: Indices of the pairs of each group that was found.
    """
    for pattern in (
        r"^(.+?)(?:_page\d+)?$",
        r"^(.+?)[_\-. ]*\d+$",
        r"^(.+)[_\-. ][^_\-. ]+$",
        r"^(.+)/",
        r"^([^_\-. ]+)[_\-. ]",
    ):
        matches = [re.search(pattern, name) for name in names]
        groups = [match and match[1] for match in matches]
        kept = all(len({groups[index] for index in group}) == 1 for group in together)
        if kept and None not in groups and len(set(groups)) >= max(len(together), 2):
            return pattern
    return None


def _from_pattern(records: Sequence[Record], pattern: str) -> list[str]:
    names, problems = [], []
    for record in records:
        match = re.search(pattern, record.name)
        name = match and (match[1] if match.re.groups else match[0])
        if not name:
            problems.append(f"'{record.name}' does not match")
        names.append(name or "")
    if problems:
        raise DataError(f"group_pattern: '{pattern}' must give every name a group: {_listed(problems)}.")
    return names


def _from_table(records: Sequence[Record], path: Path) -> list[str]:
    table, problems = _read_table(path)
    exact = [{key for key in _keys(record) if key in table} for record in records]
    left = [record for record, keys in zip(records, exact, strict=True) if not keys]
    unused = set(table) - {key for keys in exact for key in keys}
    loose = _loosely(records, unused) if left else {}
    names = []
    for record, keys in zip(records, exact, strict=True):
        rows = sorted(keys or loose.get(record, ()))
        known = sorted({table[row] for row in rows})
        if not known:
            problems.append(f"'{record.name}' has no row")
        elif len(known) > 1:
            problems.append(f"'{record.name}' has groups {known}" + ("" if keys else f" by {str(rows)[1:-1]}"))
        names.append(min(known, default=""))
    if problems:
        unused -= {row for rows in loose.values() for row in rows}
        others = [f"'{row}'" for row in sorted(unused)]
        also = (
            f". {amount(len(others), 'row')} of it fit no image, or more than one: {_listed(others)}"
            if others and left
            else ""
        )
        raise DataError(f"groups: {path} must give every image one group: {_listed(problems)}{also}.")
    return names


def _loosely(records: Sequence[Record], rows: Iterable[str]) -> dict[Record, set[str]]:
    """Rows that name an image in another way: with more or fewer folders, in other letter case, by another extension.

    A row counts if it can mean one of the images alone. Of several rows for an image those that agree with most of the
    folders it lies in are given, as tables of whole paths have rows for other sets too.
    """
    whole: dict[str, set[Record]] = defaultdict(set)
    ends: dict[str, set[Record]] = defaultdict(set)
    for record in records:
        for key in _keys(record):
            whole[key.casefold()].add(record)
            for end in _ends(key.casefold()):
                ends[end].add(record)
    found: dict[Record, dict[str, int]] = defaultdict(dict)
    for row in rows:
        names = (row.casefold(), _without_extension(row.casefold()))
        meant = next((ends[name] for name in names if name in ends), None)
        meant = meant or next((whole[end] for name in names for end in _ends(name) if end in whole), set())
        if len({record.image for record in meant}) == 1:  # several records are pages of one file
            for record in meant:
                place = _normal(str(record.image.absolute().with_suffix(""))).casefold()
                found[record][row] = len(set(_ends(place)) & set(_ends(names[1])))
    return {record: {row for row in of if of[row] == max(of.values())} for record, of in found.items()}


def _ends(name: str) -> list[str]:
    """The path itself, and what is left of it without its first folders."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _without_extension(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending}" in Image.registered_extensions() else name


def _read_table(path: Path) -> tuple[dict[str, str], list[str]]:
    """Image to group, and what is wrong with the rows."""
    lines = [line for line in read_spreadsheet(path, "groups").splitlines() if line.strip()]
    if lines and re.fullmatch('"?sep=."?', lines[0].strip(), re.IGNORECASE):
        del lines[0]  # some spreadsheets say their separator first
    separator = separator_of(lines[0]) if lines else None
    if separator is None:  # words between blanks; the last is the group, as a name may hold blanks
        rows = [[part.strip() for part in line.strip().rsplit(None, 1)] for line in lines]
    else:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if "image" in header and "group" in header:
        image, group = header.index("image"), header.index("group")
        rows, first = rows[1:], 2
    elif rows and len(header) == 2:
        image, group, first = 0, 1, 1
    else:
        raise ConfigError(f"groups: {path} has the columns {header or 'none'}; expected 'image' and 'group'.")
    table: dict[str, str] = {}
    problems = []
    for number, row in enumerate(rows, start=first):
        if max(image, group) >= len(row) or not row[image] or not row[group]:
            problems.append(f"row {number} has no image or no group")
        elif table.setdefault(key := _normal(row[image]), row[group]) != row[group]:
            problems.append(f"row {number} gives '{row[image]}' the group '{row[group]}' after '{table[key]}'")
    return table, problems


def _keys(record: Record) -> set[str]:
    """What a table may call a pair: by its name or its image's file, with extension or without."""
    folder = PurePosixPath(record.name).parent
    names = (folder / record.image.name, folder / record.image.stem)
    return {_normal(one) for one in (record.name, f"{record.name}{record.image.suffix}", *map(str, names))}


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def _listed(problems: list[str]) -> str:
    more = len(problems) - _MOST_PROBLEMS
    return "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def joined(names: Sequence[str] | None, together: Sequence[Sequence[int]], count: int) -> list[str]:
    """Groups in which pairs that belong together for another reason have one name too.

    Args:
        names: The group of each pair; None makes each pair its own.
        together: Indices of pairs that belong together.
        count: Number of pairs.
    """
    groups = list(names) if names is not None else [str(index) for index in range(count)]
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(groups):
        members[name].append(index)
    for group in together:
        first = groups[group[0]]
        for name in {groups[index] for index in group} - {first}:
            for index in members.pop(name):
                groups[index] = first
                members[first].append(index)
    return groups
