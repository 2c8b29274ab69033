"""Which pairs belong together, so that no split tears them apart: by a pattern of their names, or by a table."""

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import ConfigError, DataError
from ..options import GroupOptions
from .sources import Record

_MOST_PROBLEMS = 20


def group_names(records: Sequence[Record], options: GroupOptions) -> list[str] | None:
    """The group of each pair, if the user says anything about groups.

    Args:
        records: The pairs.
        options: The pattern, or the table.

    Raises:
        ConfigError: If the table cannot be read.
        DataError: With all pairs that get no group, or more than one.
    """
    if options.groups is not None:
        return _from_table(records, options.groups)
    if options.group_pattern is not None:
        return _from_pattern(records, options.group_pattern)
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
    names = []
    for record in records:
        known = {table[key] for key in _keys(record) if key in table}
        if len(known) != 1:
            problems.append(
                f"'{record.name}' has no row" if not known else f"'{record.name}' has groups {sorted(known)}"
            )
        names.append(min(known, default=""))
    if problems:
        raise DataError(f"groups: {path} must give every image one group: {_listed(problems)}.")
    return names


def _read_table(path: Path) -> tuple[dict[str, str], list[str]]:
    """Image to group, and what is wrong with the rows."""
    try:
        content = path.read_bytes()
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # a spreadsheet's "Unicode text"
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise ConfigError(f"groups: '{path}' cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"groups: '{path}' is no text in UTF-8. Save it as 'CSV UTF-8'.") from error
    lines = [line for line in text.splitlines() if line.strip()]
    separator = next((one for one in ("\t", ";", ",") if lines and one in lines[0]), None)
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
