"""The data doctor: look at every file before work starts and report all faults together, each with its cure."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..options import DataOptions
from .reading import NotBinaryError, read_image, read_mask
from .sources import Record, list_pairs

CURES = {
    "image without mask": "add the mask, or move the image away; '--mask-pattern' tells how masks are named",
    "mask without image": "add the image, or move the mask away; '--mask-pattern' tells how masks are named",
    "duplicate stem": "keep one of the files; a mask is found by its image's stem",
    "size mismatch": "save the mask at its image's size",
    "unreadable image": "replace the file",
    "unreadable mask": "replace the file",
    "mask not binary": "save it with 0 and 255, or choose '--mask-rule nonzero' or '--mask-rule half'",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one file."""

    kind: str
    path: Path
    detail: str = ""


@dataclass
class Inspection:
    """What the doctor found.

    Attributes:
        records: Pairs without a fault, sorted by name.
        faults: All faults, by kind.
        empty: Names of the pairs whose mask has no foreground.
        rules: Mask rule to the number of files it was applied to.
        sizes: Number of pairs of each (H, W).
        foreground: Mean share of foreground.
        ignored: Files that are no pictures.
    """

    records: list[Record] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    foreground: float = 0.0
    ignored: int = 0

    def report(self) -> str:
        """All of it in words."""
        lines = [f"{len(self.records)} good pairs, {len(self.faults)} faults."]
        if self.records:
            (rows, columns), most = self.sizes.most_common(1)[0]
            kinds = f", {len(self.sizes)} different sizes" if len(self.sizes) > 1 else ""
            lines.append(f"Image size: {columns}x{rows} in {most} pairs{kinds}. Foreground: {self.foreground:.1%}.")
        for rule, count in self.rules.most_common():
            lines.append(f"Mask rule '{rule}': {count} files.")
        if len(indices := [rule for rule in self.rules if _looks_like_class_index(rule)]) > 1:
            lines.append(
                f"Note: the masks look like class indices ({', '.join(indices)}); every class counts as foreground."
            )
        if self.empty:
            lines.append(f"Empty masks: {len(self.empty)} ({_shorten(self.empty)}).")
        if self.ignored:
            lines.append(f"Other files, not read: {self.ignored}.")
        for kind, cure in CURES.items():
            faults = [fault for fault in self.faults if fault.kind == kind]
            if faults:
                lines.append(f"{kind} ({len(faults)}): {cure}.")
                lines += [f"  {fault.path}{': ' + fault.detail if fault.detail else ''}" for fault in faults]
        return "\n".join(lines)

    def usable(self, options: DataOptions) -> list[Record]:
        """The good pairs, if the user wants to work with what is there.

        Raises:
            DataError: With the full report, if there are faults and they are not to be skipped, or nothing is left.
        """
        hint = f"'sam-adapter check --images {options.images} --masks {options.masks}' shows this list."
        if self.faults and options.faulty == "stop":
            raise DataError(f"{self.report()}\n{hint} '--faulty skip' leaves these files out.")
        if not self.records:
            raise DataError(f"{self.report()}\nNo usable pair is left. {hint}")
        return self.records


@dataclass(frozen=True)
class _Pair:
    faults: list[Fault]
    rule: str = ""
    size: tuple[int, int] = (0, 0)
    foreground: float = 0.0


def inspect(options: DataOptions, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Read every image and mask of a data set.

    Args:
        options: The folders and how to read them.
        progress: Called with (pairs done, pairs in all).

    Returns:
        Good pairs and all faults; nothing is raised for a faulty file.

    Raises:
        ConfigError: If a folder is missing or empty.
    """
    listing = list_pairs(options.images, options.masks, options.mask_pattern)
    found = Inspection(ignored=listing.ignored)
    found.faults += [Fault("image without mask", path) for path in listing.images_without_mask]
    found.faults += [Fault("mask without image", path) for path in listing.masks_without_image]
    for paths in listing.duplicates:
        found.faults.append(Fault("duplicate stem", paths[0], "also " + ", ".join(str(p) for p in paths[1:])))
    with ThreadPoolExecutor() as pool:
        looks = pool.map(lambda record: _look(record, options), listing.records)
        for done, (record, pair) in enumerate(zip(listing.records, looks, strict=True), start=1):
            found.faults += pair.faults
            if not pair.faults:
                found.records.append(record)
                found.rules[pair.rule] += 1
                found.sizes[pair.size] += 1
                found.foreground += pair.foreground
                if pair.foreground == 0:
                    found.empty.append(record.name)
            if progress is not None:
                progress(done, len(listing.records))
    found.foreground /= max(len(found.records), 1)
    return found


def _look(record: Record, options: DataOptions) -> _Pair:
    faults: list[Fault] = []
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    rule = ""
    try:
        image = read_image(record.image)
    except DataError as error:
        faults.append(Fault("unreadable image", record.image, _reason(error, record.image)))
    try:
        mask, rule = read_mask(record.mask, options.mask_rule)
    except DataError as error:
        kind = "mask not binary" if isinstance(error, NotBinaryError) else "unreadable mask"
        faults.append(Fault(kind, record.mask, _reason(error, record.mask)))
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (mask, image)]
        faults.append(Fault("size mismatch", record.mask, f"mask is {sizes[0]} but its image is {sizes[1]}"))
    if faults or image is None or mask is None:
        return _Pair(faults)
    height, width = mask.shape
    return _Pair([], rule, (height, width), float(mask.mean()))


def _reason(error: DataError, path: Path) -> str:
    """The error's first sentence without the path, which the report already prints."""
    return str(error).removeprefix(f"{path}: ").split(". ")[0].rstrip(".")


def _looks_like_class_index(rule: str) -> bool:
    return rule.startswith("two values 0/") and 1 <= float(rule.split("/")[1]) < 32


def _shorten(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
