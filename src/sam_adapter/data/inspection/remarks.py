"""What the numbers of all pairs together say about a set: objects, orientation, near copies."""

from collections.abc import Sequence
from math import pi
from operator import itemgetter
from pathlib import Path
from statistics import median

import numpy as np

from ...annotations.listing import Record
from ...errors import agreed, amount
from .copies import near_copies, same_pictures
from .findings import PairLook, Remark
from .grouping import fitting_pattern
from .objects import CELL, TINY_CELLS, tiny_area
from .orientation import CLEARLY

Pairs = Sequence[tuple[Record, PairLook]]
Copies = Sequence[Sequence[int]]
"""Indices into records, for each group of near copies."""

_SHOWN = 3
"""Groups of near copies that a remark spells out."""


def object_remarks(pairs: Pairs) -> list[Remark]:
    """Pictures with several objects, for which one box does not mean one of them."""
    several = sorted(
        [(look.objects.box_fill, record) for record, look in pairs if look.objects.count > 1], key=itemgetter(0)
    )
    if not several:
        return []
    fill = median(fill for fill, _ in several)
    asked = sum(look.objects.count > 0 for _, look in pairs)
    text = (
        f"{len(several)} of {amount(asked, 'mask')} with foreground {agreed(len(several), 'have')} several objects; "
        f"the box around all of them holds "
        f"{fill:.1%} foreground (median). An adapter that learns such boxes no longer takes a box for one object"
    )
    cure = (
        "for one answer a picture train with '--prompt none'; to ask for one object at a time, cut the pictures so "
        "that each holds one, with a mask of that object alone"
    )
    return [Remark("several_objects", tuple(record.shown for _, record in several), text, cure)]


def object_count_remarks(pairs: Pairs, *, image_size: int, tile: int | None = None) -> list[Remark]:
    """How many objects there are where they are told apart, how large they are, and how many touch.

    Args:
        pairs: Pairs and their numbers.
        image_size: Side of the square that the encoder sees.
        tile: Side of the tiles in which pictures are seen; None for whole pictures.
    """
    counts = [look.objects.parts for _, look in pairs]
    areas = sorted(area for _, look in pairs for area in look.objects.areas)
    if not areas:
        return []
    small = 0
    for _, look in pairs:
        longest = min(max(look.size), tile or max(look.size))
        small += look.objects.tiny(longest_side=longest, image_size=image_size, cells=1)
    middle = median(areas)
    seen = f"{tile}-pixel tiles" if tile else "whole pictures"
    where = f"{amount(len(pairs), 'picture')}, {min(counts)} to {max(counts)} a picture (median {median(counts):g})"
    text = (
        f"{amount(sum(counts), 'object')} in {where if len(pairs) > 1 else 'the picture'}; their area is {middle:g} "
        f"pixels (median; a disc {2 * (middle / pi) ** 0.5:.1f} across), {areas[0]} the smallest; "
        f"{small / sum(counts):.1%} are smaller than a cell of SAM's mask "
        f"({CELL}x{CELL} pixels of the {image_size}x{image_size} input, {seen}); "
        f"{amount(sum(look.objects.touching for _, look in pairs), 'touching pair')}"
    )
    return [Remark("objects", (), text)]


def tiny_object_remarks(pairs: Pairs, *, image_size: int, tile: int | None = None, apart: bool = False) -> list[Remark]:
    """Objects that SAM's mask cannot show at an input size, and specks beside larger ones.

    Args:
        pairs: Pairs and their numbers.
        image_size: Side of the square that the encoder sees.
        tile: Side of the tiles in which pictures are seen; None for whole pictures.
        apart: Whether objects are told apart; then none is a speck beside another.
    """
    tiny: list[tuple[float, Record]] = []
    specks: list[Record] = []
    for record, look in pairs:
        longest, objects = min(max(look.size), tile or max(look.size)), look.objects
        lost = apart and objects.tiny(longest_side=longest, image_size=image_size) > 0
        if lost or objects.has_tiny_objects(longest_side=longest, image_size=image_size):
            limit = tiny_area(longest_side=longest, image_size=image_size)
            middle = median(area for area in objects.areas if area < limit)
            tiny.append((middle**0.5 * image_size / (CELL * longest), record))
        elif objects.tiny(longest_side=longest, image_size=image_size):
            specks.append(record)
    remarks = []
    if tiny:
        tiny.sort(key=itemgetter(0))
        side = median(side for side, _ in tiny)
        text = (
            f"{len(tiny)} of {amount(len(pairs), 'mask')} {agreed(len(tiny), 'have')} objects of less than "
            f"{TINY_CELLS} cells of SAM's mask (a cell is "
            f"{CELL}x{CELL} pixels of the {image_size}x{image_size} input; the median of those objects is {side:.1f} "
            "cells wide). They are lost"
        )
        cure = "train with '--tile auto', which shows the objects larger" if tile is None else "choose smaller tiles"
        if tile is None and (larger := _size_that_shows(pairs, image_size)) is not None:
            cure += f", or train with '--image-size {larger}'"
        remarks.append(Remark("tiny_objects", tuple(record.shown for _, record in tiny), text, cure))
    if specks:
        text = (
            f"{len(specks)} of {amount(len(pairs), 'mask')} {agreed(len(specks), 'have')} specks of less than "
            f"{TINY_CELLS} cells of SAM's mask beside "
            "larger objects; a box is drawn around the specks too"
        )
        remarks.append(
            Remark("specks", tuple(record.shown for record in specks), text, "clean them if they are not meant")
        )
    return remarks


def _size_that_shows(pairs: Pairs, image_size: int) -> int | None:
    """An input size at which hardly a picture has tiny objects, if one of up to twice the side does it."""
    for side in (image_size * 3 // 128 * 64, image_size * 2):
        if side <= image_size:  # half as much again, in whole 64s, is no more than a small input, or nothing
            continue
        tiny = [look.objects.has_tiny_objects(longest_side=max(look.size), image_size=side) for _, look in pairs]
        if sum(tiny) <= 0.05 * len(tiny):
            return side
    return None


def orientation_remarks(pairs: Pairs) -> list[Remark]:
    """Masks that were drawn on the stored raster of an image that is shown turned."""
    turned = [(record, look.raster_fit) for record, look in pairs if look.raster_fit is not None]
    wrong = [record for record, fit in turned if fit >= CLEARLY]
    unsure = [record for record, fit in turned if 1 / CLEARLY < fit < CLEARLY]
    if not wrong and (not unsure or len(unsure) < len(turned)):
        return []  # where it can be told, masks follow the view, as they should
    text = (
        f"{amount(len(turned), 'image', 'carry')} an EXIF orientation that the mask lacks. Images are read as "
        "they are shown"
    )
    if wrong:
        text += f"; {amount(len(wrong), 'mask', 'fit')} the edges of the image clearly better the way it is stored"
    if unsure:
        text += f"; of {amount(len(unsure), 'mask')} the edges do not tell which way they were drawn"
    cure = "turn those masks as their images are turned, or remove the orientation from those images"
    return [Remark("orientation", tuple(record.shown for record in [*wrong, *unsure]), text, cure)]


def copies_remark(records: Sequence[Record], copies: Copies, held_out: set[Record], *, torn_only: bool) -> list[Remark]:
    """Near copies that a split of one set puts on both sides, or another split would.

    Args:
        records: All pairs.
        copies: Those near copies that no groups keep together.
        held_out: Pairs that validation uses.
        torn_only: Leave out copies that this very split happens to put on one side.
    """
    torn = _torn(records, copies, held_out)
    shown = torn if torn_only else [*torn, *(group for group in copies if group not in torn)]
    if not shown:
        return []
    files, text = _copies_in_words(records, shown)
    if torn_only:
        text += ", which lie in training and in validation: the scores are too good"
    else:
        text += (
            f"; a random split puts {len(torn)} of these groups in training and in validation (with the default seed)"
        )
    pattern = fitting_pattern([record.name for record in records], copies)
    fits = f"--group-pattern '{pattern}', which fits these names, or " if pattern else ""
    cure = f"keep them together with {fits}--groups FILE.csv (image, group) or --group-copies"
    return [Remark("near_copies", files, text, cure)]


def folder_copies_remarks(
    training: Sequence[Record], validation: Sequence[Record], prints: Sequence[np.ndarray]
) -> list[Remark]:
    """Validation images that are training images, and near copies of training images; see `copies_remark`.

    Args:
        training: Pairs to train on.
        validation: Those of a validation set of its own; only their images matter.
        prints: `fingerprint` of each image, those to train on first.
    """
    found: list[Remark] = []
    records, count = [*training, *validation], len(training)
    cure = "take them out of one of the two sets"
    same = same_pictures([record.picture for record in training], [record.picture for record in validation])
    if same:
        files = [(str(validation[at].image), str(training[other].image)) for at, other in list(same.items())[:_SHOWN]]
        pairs = [" = ".join(dict.fromkeys(pair)) for pair in files]
        more = "; ..." if len(same) > _SHOWN else ""
        text = (
            f"{amount(len(same), 'validation image')} of {len(validation)} {agreed(len(same), 'are')} among the "
            f"training images, byte for byte ({'; '.join(pairs)}{more}): the scores are too good"
        )
        found.append(Remark("same_images", tuple(validation[at].image for at in same), text, cure))
    told = {*same.values(), *(count + at for at in same)}
    torn = [group for group in near_copies(prints) if len({at < count for at in group}) > 1 and set(group) - told]
    if torn:
        files, text = _copies_in_words(records, torn)
        text += ", which lie in the training and in the validation set: the scores are too good"
        found.append(Remark("near_copies", files, text, cure))
    return found


def _torn(records: Sequence[Record], copies: Copies, held_out: set[Record]) -> list[Sequence[int]]:
    return [group for group in copies if len({records[index] in held_out for index in group}) > 1]


def _copies_in_words(records: Sequence[Record], copies: Copies) -> tuple[tuple[Path, ...], str]:
    files = tuple(records[index].image for group in copies for index in group)
    examples = "; ".join(_names(records, group) for group in copies[:_SHOWN]) + (
        "; ..." if len(copies) > _SHOWN else ""
    )
    return files, f"{len(files)} images are near copies of one another, in {amount(len(copies), 'group')} ({examples})"


def _names(records: Sequence[Record], group: Sequence[int]) -> str:
    names = [records[index].name for index in group]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
