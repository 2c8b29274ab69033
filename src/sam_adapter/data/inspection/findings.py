"""What looking at a data set found: good pairs, faults and remarks, each with its cure, and the report in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...annotations.listing import Record, printable
from ...annotations.reading.classes import Classes
from ...annotations.reading.rules import ReadingRules
from ...annotations.reading.values import shown
from ...config.options import DataOptions
from ...errors import DataError, amount
from .objects import ClassLook, Objects

_BY_PATTERN = (
    "a mask has its image's folders and stem, or is named as '--mask-pattern' says, for example with '{stem}_mask'"
)

CURES = {
    "image_without_mask": f"add the mask, or move the image away; {_BY_PATTERN}",
    "mask_without_image": f"add the image, or move the mask away; {_BY_PATTERN}",
    "duplicate_stem": "keep one of the files; a mask is found by its image's stem",
    "annotation": "",
    "no_classes": "",
    "class_colours": "",
    "unknown_class": "",
    "size_mismatch": "save the mask at its image's size",
    "page_mismatch": "save image and mask with equally many pages, or leave '--pages all' out",
    "unreadable_image": "replace the file",
    "unreadable_mask": "replace the file",
    "void_value": "",
    "class_indices": "",
    "label_map": "",
    "contradicts_rule": "",
    "mask_not_binary": "",
    "rule_empties_masks": "",
    "rule_fills_masks": "",
    "groups": "give a table or a pattern by which every image has one group, and there are two groups or more",
}
"""Kind of fault to what helps, in the order of the report; empty where each fault says what was tried on it."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one file.

    Attributes:
        kind: A key of `CURES`.
        path: The file.
        detail: What was found in it.
        text: What was found in all files of this kind, a sentence without its full stop.
        cure: What helps, the same; that of `CURES` if it is empty.
    """

    kind: str
    path: Path
    detail: str = ""
    text: str = ""
    cure: str = ""

    @property
    def advice(self) -> str:
        """What was found and what helps."""
        cure = self.cure or CURES[self.kind]
        return f"{self.text[0].upper()}{self.text[1:]}. What helps: {cure}" if self.text else cure


@dataclass(frozen=True)
class Remark:
    """Something about the set that its owner should know; no file is left out for it.

    Attributes:
        kind: In snake case: ``empty_masks``.
        files: The files it is about.
        text: What was found, a sentence without its full stop.
        cure: What to do if it is not meant, the same; empty if there is nothing to do.
    """

    kind: str
    files: tuple[Path, ...]
    text: str
    cure: str = ""

    def in_words(self) -> str:
        """The remark as lines of a report."""
        cure = f" What to do: {self.cure}." if self.cure else ""
        files = f"\n  {_shorten([str(path) for path in self.files])}" if self.files else ""
        return f"Remark {self.head}: {self.text}.{cure}{files}"

    @property
    def head(self) -> str:
        """Its kind, and how many files it is about if it is about files."""
        return f"{self.kind} ({len(self.files)})" if self.files else self.kind


@dataclass(frozen=True, kw_only=True)
class PairLook:
    """Numbers of one good pair, taken while its image and mask are in memory.

    Attributes:
        size: ``(H, W)``.
        foreground: Share of foreground in what is not void.
        void: Share of void.
        objects: The connected parts of the foreground.
        raster_fit: For an image with an EXIF orientation that its mask lacks, how much better the mask fits the image
            as it is stored than as it is shown.
        border: Share of foreground in the outermost pixels.
        sides: Sides of the picture, of four, that foreground touches.
        classes: What it has of each class that it has; empty where there are none.
        annotated: Objects that the annotation outlines; None for masks.
        overlap: Share of the annotated area that lies in several objects.
    """

    size: tuple[int, int]
    foreground: float
    void: float = 0.0
    objects: Objects = field(default_factory=Objects)
    raster_fit: float | None = None
    border: float = 0.0
    sides: int = 0
    classes: tuple[ClassLook, ...] = ()
    annotated: int | None = None
    overlap: float = 0.0

    @property
    def says_nothing(self) -> bool:
        """Whether the mask is void everywhere."""
        return self.void == 1


@dataclass
class Inspection:
    """What the doctor found.

    Attributes:
        records: Pairs without a fault, sorted by name.
        looks: Numbers of each of them, in the same order.
        faults: All faults.
        remarks: What else should be known.
        rules: How the files are read.
        ignored: Files that are no pictures.
        groups: Name of a record to its group, where the source has groups.
        fingerprints: Of each image, see `copies.fingerprint`; in the order of the records.
    """

    records: list[Record] = field(default_factory=list)
    looks: list[PairLook] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    rules: ReadingRules = field(default_factory=ReadingRules)
    ignored: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)
    fingerprints: list[np.ndarray] = field(default_factory=list, compare=False)

    @property
    def empty(self) -> list[str]:
        """Names of the pairs whose mask has no foreground but background."""
        pairs = zip(self.records, self.looks, strict=True)
        return [record.name for record, look in pairs if look.foreground == 0 and not look.says_nothing]

    @property
    def asked(self) -> list[tuple[Record, PairLook]]:
        """The good pairs with their numbers, without those that are void everywhere: nothing can be asked of them."""
        return [pair for pair in zip(self.records, self.looks, strict=True) if not pair[1].says_nothing]

    @property
    def foreground(self) -> float:
        """Mean share of foreground."""
        return sum(look.foreground for look in self.looks) / max(len(self.looks), 1)

    def report(self) -> str:
        """All of it in words."""
        lines = [f"{amount(len(self.records), 'good pair')}, {amount(len(self.faults), 'fault')}."]
        if self.looks:
            sizes = Counter(look.size for look in self.looks)
            (rows, columns), most = sizes.most_common(1)[0]
            kinds = f", {len(sizes)} different sizes" if len(sizes) > 1 else ""
            lines.append(
                f"Image size: {columns}x{rows} in {amount(most, 'pair')}{kinds}. Foreground: {self.foreground:.1%}."
            )
        if self.rules.masks is not None and self.rules.masks.tables:
            rule = ", ".join(f"{value} {meaning}" for value, meaning in self.rules.masks.described().items())
            lines.append(f"Mask values: {rule}.")
        lines += class_lines(self.rules.classes, self.looks)
        if self.rules.brightness is not None:
            lines.append(self.rules.brightness.described())
        if self.ignored:
            lines.append(f"Other files, not read: {self.ignored}.")
        lines += [remark.in_words() for remark in self.remarks]
        for kind in CURES:
            faults = [fault for fault in self.faults if fault.kind == kind]
            for advice in dict.fromkeys(fault.advice for fault in faults):
                named = [fault for fault in faults if fault.advice == advice]
                lines.append(f"{kind.replace('_', ' ')} ({len(named)}): {advice}.")
                lines += [f"  {fault.path}{': ' + fault.detail if fault.detail else ''}" for fault in named]
        return printable("\n".join(lines))

    def usable(self, options: DataOptions) -> list[Record]:
        """The good pairs, if the user wants to work with what is there; without those that are void everywhere.

        Raises:
            DataError: With the full report, if there are faults and they are not to be skipped, or nothing is left.
        """
        hint = f"'sam-adapter check {options.source_words}' shows this list."
        if self.faults and options.faulty == "stop":
            raise DataError(f"{self.report()}\n{hint} '--faulty skip' leaves these files out.")
        usable = [record for record, _ in self.asked]
        if not usable:
            raise DataError(f"{self.report()}\nNo usable pair is left. {hint}")
        return usable


def class_lines(classes: Classes | None, looks: Sequence[PairLook]) -> list[str]:
    """A line for each class: its value, and its share of pictures, objects and pixels."""
    if classes is None:
        return []
    pixels = sum(look.size[0] * look.size[1] * (1 - look.void) for look in looks)
    lines = [f"{amount(len(classes.names), 'class')}:"]
    for label, name in enumerate(classes.names, start=1):
        own = [one for look in looks for one in look.classes if one.label == label]
        value = f" (value {shown(classes.values[label - 1])})" if classes.values else ""
        share = sum(one.pixels for one in own) / max(pixels, 1)
        objects = sum(one.objects for one in own)
        lines.append(
            f"  {name}{value}: {amount(len(own), 'picture')}, {amount(objects, 'object')}, {share:.2%} of pixels"
        )
    others = [f"{text} {meaning}" for text, meaning in classes.described().items() if meaning in ("background", "void")]
    return [*lines, *([f"  other values: {', '.join(others)}."] if others else [])]


def _shorten(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
