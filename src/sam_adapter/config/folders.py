"""What may be wrong with the folders that a command is given, told before any of them is opened."""

import os
from collections.abc import Sequence
from pathlib import Path


def among_data(output: Path, **folders: Path | None) -> list[str | None]:
    """A problem if an output folder is, or lies in, a folder whose pictures are read.

    Args:
        output: Where a command writes.
        folders: What it reads, by option.
    """
    place = Path(os.path.realpath(output))
    read = {name: Path(os.path.realpath(folder)) for name, folder in folders.items() if folder is not None}
    return [
        f"output: '{output}' lies in the folder of {name}, and what is written there would be taken for data. Choose "
        "another folder."
        for name, folder in read.items()
        if place.is_relative_to(folder)
    ]


def given_twice(option: str, folders: Sequence[Path]) -> list[str]:
    """A problem for each folder that was given before, under the same or another path.

    Args:
        option: That takes them.
        folders: In the order in which they were given.
    """
    seen: dict[str, Path] = {}
    problems = []
    for folder in folders:
        place = os.path.realpath(folder)
        if place in seen:
            same = "" if seen[place] == folder else f", the first time as '{seen[place]}'"
            problems.append(f"{option}: expected every folder once, got '{folder}' again{same}. Leave one of them out.")
        seen.setdefault(place, folder)
    return problems
