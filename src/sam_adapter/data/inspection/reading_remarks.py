"""Remarks about the values, brightness and pages of a set: what its owner should know although nothing is faulty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...annotations.listing import Record
from ...annotations.reading.brightness import Depth
from ...annotations.reading.decoding import Header
from ...annotations.reading.mask_values import MaskValues
from ...annotations.reading.rules import ReadingRules
from ...annotations.reading.values import equal, shown
from ...config.options import DataOptions
from ...errors import agreed, amount
from .findings import PairLook, Remark

INVERTED_SHARE = 0.9
"""Share of the pictures whose border must be mostly foreground before a set is called inverted."""
_HOT = 2.0
"""A pixel is hot if it lies this many times the scale's range above its low end."""


@dataclass(frozen=True)
class Seen:
    """All that was seen of one good pair."""

    record: Record
    look: PairLook
    headers: dict[Path, Header]
    values: Sequence[MaskValues]
    depth: Depth | None


def remarks_of(seen: Sequence[Seen], rules: ReadingRules, options: DataOptions, loops: Sequence[Path]) -> list[Remark]:
    """What all looks together say, the gravest first."""
    found = [
        _inverted(seen, options),
        _alpha(seen, rules),
        *_void(seen, options),
        _hot_pixels(seen, rules),
        _no_data(seen),
        _dropped_bands(seen, rules),
        _dropped_pages(seen, options),
        _masks(
            seen,
            "full_masks",
            lambda look: look.foreground == 1,
            "are",
            "foreground everywhere",
            "look at them; a mask of one value says nothing about an outline",
        ),
        _empty(seen),
    ]
    if loops:
        text = (
            f"{amount(len(loops), 'link', 'lead')} back to a folder above and {agreed(len(loops), 'were')} not followed"
        )
        found.append(Remark("symlink_loop", tuple(loops), text, "remove the links"))
    return [remark for remark in found if remark is not None]


def _empty(seen: Sequence[Seen]) -> Remark | None:
    cure = "nothing, if the pictures show no object; training with '--empty-masks skip' leaves them out"
    what = "no foreground"
    if all(one.look.foreground == 0 for one in seen):
        what = "no foreground, and no other mask has any: there is nothing to learn from them alone"
        void = any(one.look.void for one in seen)
        cure = (
            "leave '--ignore-value' out or give another value" if void else "add pictures with objects and their masks"
        )
    return _masks(seen, "empty_masks", lambda look: look.foreground == 0 and not look.says_nothing, "have", what, cure)


def _inverted(seen: Sequence[Seen], options: DataOptions) -> Remark | None:
    clear = [one for one in seen if 0 < one.look.foreground < 1]
    around = [one for one in clear if one.look.sides == 4 and one.look.border > 0.5]
    if not around or len(around) < INVERTED_SHARE * len(clear):
        return None
    share = sum(one.look.foreground for one in clear) / len(clear)
    option = "leave '--mask-invert' out" if options.mask_invert else "'--mask-invert' exchanges them"
    return Remark(
        "inverted",
        tuple(one.record.shown for one in around),
        f"foreground touches every border of {len(around)} of {amount(len(clear), 'picture')} and fills {share:.0%}; "
        "foreground "
        "and background are probably exchanged",
        f"{option} (then {1 - share:.1%} foreground), if the objects are the other part",
    )


def _alpha(seen: Sequence[Seen], rules: ReadingRules) -> Remark | None:
    if rules.masks is None or rules.masks.for_storage("alpha") is None:
        return None
    every = [values for one in seen for values in one.values]
    files = tuple(values.path for values in every if values.alpha is not None)
    cut_out = sum(values.in_alpha and not values.one_colour for values in every)
    text = f"{amount(len(files), 'mask', 'have')} one colour but an alpha that varies; it is read as the mask"
    if cut_out:
        text = (
            f"in {amount(len(files), 'mask')} the alpha cuts the object out of a picture; the alpha is read as the mask"
        )
    return Remark("mask_in_alpha", files, text, "nothing, if that is meant")


def _void(seen: Sequence[Seen], options: DataOptions) -> list[Remark]:
    found = []
    unused = [
        value
        for value in options.void_values
        if not any(
            equal(values.values, value).any() or equal(values.visible, value).any()
            for one in seen
            for values in one.values
        )
    ]
    if unused and seen:
        values = ", ".join(shown(value) for value in unused)
        text = f"no mask has the value {values} that '--ignore-value' names"
        found.append(Remark("unused_ignore_value", (), text, "compare it with the mask values above"))
    if void := [one for one in seen if one.look.void and not one.look.says_nothing]:
        share = sum(one.look.void for one in void) / len(void)
        text = f"{amount(len(void), 'mask', 'have')} void, {share:.1%} of the pixels on average; it counts nowhere"
        found.append(Remark("void", tuple(one.record.shown for one in void), text))
    if blank := tuple(one.record.shown for one in seen if one.look.says_nothing):
        masks = amount(len(blank), "mask", "are")
        text = f"{masks} void everywhere; training, validation and scores leave these pairs out"
        found.append(Remark("void_everywhere", blank, text, "nothing, if that is meant; else look at '--ignore-value'"))
    return found


def _hot_pixels(seen: Sequence[Seen], rules: ReadingRules) -> Remark | None:
    files = []
    for one in seen:
        if one.depth is None or rules.brightness is None:
            continue
        span = rules.brightness.floating if one.depth.floating else rules.brightness.integer
        if span is not None and one.depth.highest > span[0] + _HOT * (span[1] - span[0]):
            files.append(one.record.image)
    if not files:
        return None
    text = (
        f"{amount(len(files), 'image', 'have')} a few pixels far brighter than all others of the set; "
        "the scale leaves them out"
    )
    return Remark("hot_pixels", tuple(files), text, "nothing, if these pixels are defects of the camera")


def _no_data(seen: Sequence[Seen]) -> Remark | None:
    missing = [one for one in seen if one.depth is not None and one.depth.missing > 0]
    if not missing:
        return None
    values = sorted({value for one in missing if one.depth is not None for value in one.depth.no_data})
    named = ", ".join([f"{value:g}" for value in values] or ["NaN or infinite"])
    share = sum(one.depth.missing for one in missing if one.depth is not None) / len(missing)
    text = (
        f"{amount(len(missing), 'image', 'have')} missing data ({named}), {share:.1%} of the pixels; it becomes black"
    )
    return Remark("no_data", tuple(one.record.image for one in missing), text)


def _dropped_bands(seen: Sequence[Seen], rules: ReadingRules) -> Remark | None:
    """Files whose second or fourth band may be near infrared or another polarisation as well as alpha."""
    masks = rules.masks is None or rules.masks.for_storage("alpha") is None  # else it is read as the mask, and said
    files = [
        path
        for one in seen
        for path, header in one.headers.items()
        if header.unnamed_band and (masks or path != one.record.mask)
    ]
    if not files:
        return None
    text = (
        f"{amount(len(files), 'file', 'have')} a last band, beside grey or colours, that is not declared as alpha; "
        f"it may be near infrared or another channel. {amount(len(files), 'band', 'are')} left out, one of each file, "
        "and the bands before it are read as grey or as red, green and blue"
    )
    cure = "nothing, if that is meant; else write the one or three bands to use, in their order, into a file"
    return Remark("dropped_bands", tuple(files), text, cure)


def _dropped_pages(seen: Sequence[Seen], options: DataOptions) -> Remark | None:
    if options.pages == "all":
        return None
    files = [path for one in seen for path, header in one.headers.items() if header.pages > 1]
    if not files:
        return None
    dropped = sum(header.pages - 1 for one in seen for header in one.headers.values())
    text = (
        f"{amount(len(files), 'file', 'have')} several pages; only the first of each is read, "
        f"{dropped} {agreed(dropped, 'are')} not"
    )
    cure = "'--pages all' makes a pair of each page"
    if any(len({header.pages for header in one.headers.values()}) > 1 for one in seen):
        cure = "nothing, if the masks belong to the first pages; else save image and mask with equally many pages"
    return Remark("dropped_pages", tuple(files), text, cure)


def _masks(
    seen: Sequence[Seen], kind: str, which: Callable[[PairLook], bool], verb: str, what: str, cure: str
) -> Remark | None:
    files = tuple(one.record.shown for one in seen if which(one.look))
    return Remark(kind, files, f"{amount(len(files), 'mask', verb)} {what}", cure) if files else None
