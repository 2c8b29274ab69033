"""A contact sheet: pairs as they will be trained on, those with remarks first, for a person to look at."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..annotations.listing import Record
from ..annotations.reading.files import read_image
from ..annotations.reading.labels import read_labels
from ..annotations.reading.rules import ReadingRules
from ..batch import VOID, Prompt
from ..data.inspection.findings import Inspection
from ..errors import DataError, amount
from ..report.drawing import COLOURS, contrasting_colour, with_prompt
from ..system.writing import written_beside
from ..tasks.prompts import box_from_mask

COLUMNS, MOST_PAIRS = 6, 36
_TILE, _GAP, _LINE = 256, 12, 17
_GROUND, _TEXT, _NOTE = (24, 24, 24), (235, 235, 235), (255, 190, 90)
_WORST_FIRST = ("orientation", "inverted", "near_copies", "tiny_objects", "several_objects", "specks", "full_masks")


def write_sheet(path: Path, found: Inspection) -> None:
    """Draw up to 36 pairs with their outlines, boxes and remarks.

    Args:
        path: PNG file.
        found: What is known of the set.
    """
    chosen = _chosen(found)
    head = _head(found, len(chosen))
    rows = -(-len(chosen) // COLUMNS)
    step = _TILE + 3 * _LINE + _GAP
    classes = found.rules.classes
    top = _GAP + _LINE * (len(head) + (classes is not None)) + _GAP
    sheet = Image.new("RGB", (COLUMNS * (_TILE + _GAP) + _GAP, top + rows * step), _GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for line, text in enumerate(head):
        draw.text((_GAP, _GAP + line * _LINE), _cut(text, sheet.width - 2 * _GAP, font), _TEXT, font)
    place = _GAP
    for name, colour in [] if classes is None else zip(classes.names, classes.colours, strict=True):
        draw.text((place, _GAP + _LINE * len(head)), name, colour, font)
        place += round(font.getlength(f"{name}   "))
    for index, (record, kinds) in enumerate(chosen):
        left, above = _GAP + index % COLUMNS * (_TILE + _GAP), top + index // COLUMNS * step
        tile = Image.fromarray(_drawn(record, found.rules))
        sheet.paste(tile, (left + (_TILE - tile.width) // 2, above + (_TILE - tile.height) // 2))
        draw.text((left, above + _TILE + 2), _cut(record.name, _TILE, font, end=True), _TEXT, font)
        for line, text in enumerate(_wrapped(", ".join(kind.replace("_", " ") for kind in kinds), font)[:2], start=1):
            draw.text((left, above + _TILE + 2 + line * _LINE), text, _NOTE, font)
    with written_beside(path) as partial:
        sheet.save(partial, "PNG")


def _chosen(found: Inspection) -> list[tuple[Record, list[str]]]:
    """Pairs to draw and the kinds of their remarks: kinds take turns, and pairs without a remark come last."""
    shared = Counter(record.mask for record in found.records)  # a file may hold the annotations of all images
    files = [(path, record) for record in found.records for path in (record.image, record.mask)]
    of_file = {path: record for path, record in files if shared[path] < 2}
    kinds: dict[Record, list[str]] = {record: [] for record in found.records}
    ranks = {kind: rank for rank, kind in enumerate(_WORST_FIRST)}
    remarks = sorted(found.remarks, key=lambda remark: ranks.get(remark.kind, len(ranks)))
    columns = []
    for remark in remarks:
        records = list(dict.fromkeys(of_file[path] for path in remark.files if path in of_file))
        columns.append(records)
        for record in records:
            kinds[record].append(remark.kind)
    share = -(-MOST_PAIRS // max(len(columns), 1))
    turns = [record for column in columns for record in column[:share]]
    turns += [record for row in zip_longest(*(column[share:] for column in columns)) for record in row if record]
    plain = [record for record, said in kinds.items() if not said]
    order = list(dict.fromkeys(turns))[: MOST_PAIRS - min(len(plain), COLUMNS)]
    return [(record, kinds[record]) for record in [*order, *plain][:MOST_PAIRS]]


def _head(found: Inspection, shown: int) -> list[str]:
    drawn = "Thin outline: foreground; yellow: box prompt"
    if found.rules.classes is not None:
        drawn = "Thin outlines: classes, each in the colour of its name"
    lines = [
        f"{amount(len(found.records), 'good pair')}, {amount(len(found.faults), 'fault')}; {amount(shown, 'pair')} "
        f"shown. {drawn}; striped: void."
    ]
    for kind in dict.fromkeys(fault.kind for fault in found.faults):
        alike = [fault for fault in found.faults if fault.kind == kind]
        lines.append(f"Fault {kind.replace('_', ' ')} ({len(alike)}): {', '.join(fault.path.name for fault in alike)}")
    lines += [f"{remark.head.replace('_', ' ')}: {remark.text}" for remark in found.remarks]
    return lines


def _drawn(record: Record, rules: ReadingRules) -> np.ndarray:
    """One pair, its longest side that of a tile, ``(h, w, 3)`` uint8."""
    try:
        image = read_image(record.image, rules.brightness, page=record.page, max_pixels=None)
        labels = read_labels(record, rules, max_pixels=None)
    except DataError:  # it was readable a moment ago
        return np.zeros((_TILE, _TILE, 3), np.uint8)
    mask, void = (labels != 0) & (labels != VOID), labels == VOID
    scale = _TILE / max(mask.shape)
    size = max(round(mask.shape[1] * scale), 1), max(round(mask.shape[0] * scale), 1)
    drawn = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if void.any():
        _stripe(drawn, cv2.resize(void.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 1)
    if rules.classes is not None:
        for label, colour in enumerate(rules.classes.colours, start=1):
            if (labels == label).any():
                _outline(drawn, labels == label, colour)
        return drawn
    colour = contrasting_colour(image)
    _outline(drawn, mask, colour if colour != COLOURS[3] else COLOURS[1])  # yellow is the box
    if not mask.any():
        return drawn
    box = Prompt(box=torch.from_numpy(box_from_mask(mask)))
    return with_prompt(drawn, box.scaled(size[0] / mask.shape[1], size[1] / mask.shape[0]))


def _stripe(drawn: np.ndarray, void: np.ndarray) -> None:
    """Draw dark and light stripes where the mask says nothing."""
    rows, columns = np.mgrid[: void.shape[0], : void.shape[1]]
    stripes = (rows + columns) // 4 % 2
    drawn[void & (stripes == 0)] = 40
    drawn[void & (stripes == 1)] = 200


def _outline(drawn: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw the edge of the foreground, a light line within a dark one; what is smaller than a pixel stays visible."""
    size = drawn.shape[1], drawn.shape[0]
    shape = mask.astype(np.uint8) * 255
    small = cv2.resize(shape, size, interpolation=cv2.INTER_AREA if mask.size > drawn[..., 0].size else 0)
    solid = (small >= 128) | ((small > 0) & (cv2.dilate(small, np.ones((3, 3), np.uint8)) < 128))
    contours, _ = cv2.findContours(solid.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), 3)
    cv2.drawContours(drawn, contours, -1, colour, 1)


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, end: bool = False) -> str:
    """The text, shortened to a width in pixels; with ``end`` its end is what stays."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[1:] if end else text[:-1]
    return f"...{text}" if end else f"{text}..."


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Sequence[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > _TILE and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
