"""The data doctor: look at every file before work starts and report all faults together, each with its cure."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...annotations.folders import Listing, Record, fitting_mask_pattern
from ...annotations.reading.brightness import Depth, depth_of, scale_of
from ...annotations.reading.cures import decide_with_cures
from ...annotations.reading.decoding import Header, decode, read_header, require_size
from ...annotations.reading.files import rgb, split_mask
from ...annotations.reading.mask_values import MaskValues, counted
from ...annotations.reading.pictures import page_name
from ...annotations.reading.rules import ReadingRules
from ...annotations.reading.troubles import Trouble
from ...annotations.reading.values import MaskTable
from ...annotations.sources import listing_of
from ...config.options import DataOptions
from ...errors import DataError, amount
from ...system.in_flight import PIXELS, InFlight
from .copies import fingerprint
from .findings import Fault, Inspection, PairLook
from .objects import objects_in
from .orientation import fit_of_raster
from .reading_remarks import Seen, remarks_of
from .remarks import object_remarks, orientation_remarks

_LARGE = PIXELS // 4


@dataclass
class _Pair:
    """What is found out about one pair, step by step."""

    record: Record
    headers: dict[Path, Header] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: MaskValues | None = None
    look: PairLook | None = None
    fingerprint: np.ndarray | None = None
    depth: Depth | None = None

    @property
    def pixels(self) -> int:
        """Of image and mask."""
        return sum(header.size[0] * header.size[1] for header in self.headers.values())


def inspect(options: DataOptions, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Read every image and mask of a data set.

    All masks are looked at first, as what their values mean follows from all of them together.

    Args:
        options: The folders and how to read them.
        progress: Called with (pairs done, pairs in all).

    Returns:
        Good pairs and all faults; nothing is raised for a faulty file.

    Raises:
        ConfigError: If a folder is missing or empty.
    """
    listing = listing_of(options)
    in_flight = InFlight()
    with ThreadPoolExecutor() as pool:
        opened = list(pool.map(lambda record: _with_headers(record, options), listing.records))
        pairs = [one for pair in opened for one in _pages(pair, options)]
        list(_done(pool, lambda pair: _count_mask(pair, in_flight), pairs))
        decision = decide_with_cures(
            [pair.values for pair in pairs if pair.values is not None],
            rule=options.mask_rule,
            ignore=options.void_values,
            invert=options.mask_invert,
        )
        _add_troubles(pairs, decision.troubles)
        looked = _done(pool, lambda pair: _look_at(pair, decision.table, in_flight), pairs)
        for done, _ in enumerate(looked, start=1):
            if progress is not None:
                progress(done, len(pairs))
    return _summary(listing, pairs, decision.table, options)


def _done(pool: ThreadPoolExecutor, work: Callable[[_Pair], None], pairs: list[_Pair]) -> Iterator[None]:
    """Work on all pairs, and yield once for each that is done.

    Threads keep some of the memory that they once used, so that large pairs are this thread's alone.
    """
    large = [pair for pair in pairs if pair.pixels > _LARGE]
    futures = [pool.submit(work, pair) for pair in pairs if pair.pixels <= _LARGE]
    for pair in large:
        yield work(pair)
    for future in futures:
        yield future.result()


def _summary(listing: Listing, pairs: list[_Pair], table: MaskTable, options: DataOptions) -> Inspection:
    good = [pair for pair in pairs if pair.look is not None]
    depths = [pair.depth for pair in good if pair.depth is not None]
    rules = ReadingRules(masks=table, brightness=scale_of(depths), pages=options.pages)
    found = Inspection(ignored=listing.ignored, rules=rules)
    pattern = fitting_mask_pattern(listing)
    quoted = f'"{pattern}"' if pattern and " " in pattern else pattern
    cure = f"'--mask-pattern {quoted}' finds masks that are named so" if pattern else ""
    found.faults += [Fault("image_without_mask", path, cure=cure) for path in listing.images_without_mask]
    found.faults += [Fault("mask_without_image", path, cure=cure) for path in listing.masks_without_image]
    for paths in listing.duplicates:
        found.faults.append(Fault("duplicate_stem", paths[0], "also " + ", ".join(str(p) for p in paths[1:])))
    found.faults += [fault for pair in pairs for fault in pair.faults]
    found.records = [pair.record for pair in good]
    found.looks = [pair.look for pair in good if pair.look is not None]
    found.fingerprints = [pair.fingerprint for pair in good if pair.fingerprint is not None]
    seen = [Seen(pair.record, pair.look, pair.headers, pair.values, pair.depth) for pair in good if pair.look]
    found.remarks = remarks_of(seen, rules, options, listing.loops)
    pairs_and_looks = [(one.record, one.look) for one in seen]
    found.remarks += [*object_remarks(pairs_and_looks), *orientation_remarks(pairs_and_looks)]
    return found


def _with_headers(record: Record, options: DataOptions) -> _Pair:
    pair = _Pair(record)
    for path, kind in ((record.image, "unreadable_image"), (record.mask, "unreadable_mask")):
        try:
            header = read_header(path)
            require_size(path, header.size, options.max_pixels)
            pair.headers[path] = header
        except DataError as error:
            pair.faults.append(_unreadable(kind, path, error))
    if len(pair.headers) == 2:
        image, mask = pair.headers[record.image], pair.headers[record.mask]
        if options.pages == "all" and image.pages != mask.pages:
            text = f"has {amount(mask.pages, 'page')} but its image has {image.pages}"
            pair.faults.append(Fault("page_mismatch", record.mask, text))
    return pair


def _mismatch(path: Path, image: Header, mask: Header) -> Fault:
    sizes = [f"{header.size[1]}x{header.size[0]}" for header in (mask, image)]
    text = f"mask is {sizes[0]} but its image is {sizes[1]}"
    cure = ""
    if image.size == mask.size[::-1]:
        cure = "turn the mask by a quarter, as its image is"
        if image.orientation in (5, 6, 7, 8) and mask.orientation == 1:
            text += (
                f" as it is shown; the mask has the size that it is stored in (EXIF orientation {image.orientation})"
            )
            cure = "turn the mask as its image is turned, or remove the orientation from the image"
    return Fault("size_mismatch", path, text, cure=cure)


def _pages(pair: _Pair, options: DataOptions) -> list[_Pair]:
    """One pair for each page that is read."""
    header = pair.headers.get(pair.record.image)
    if options.pages == "first" or header is None or header.pages == 1 or pair.faults:
        return [pair]
    return [replace(pair, record=_of_page(pair.record, page), faults=[]) for page in range(header.pages)]


def _of_page(record: Record, page: int) -> Record:
    return replace(record, name=page_name(record.name, page), page=page)


def _count_mask(pair: _Pair, in_flight: InFlight) -> None:
    header = pair.headers.get(pair.record.mask)
    if header is None:
        return
    path = pair.record.mask
    try:
        with in_flight.hold(header.size[0] * header.size[1]):
            pair.values = counted(path, decode(path, pair.record.page, max_pixels=None))
    except DataError as error:
        pair.faults.append(_unreadable("unreadable_mask", path, error))


def _add_troubles(pairs: list[_Pair], troubles: list[Trouble]) -> None:
    by_mask: dict[Path, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        by_mask[pair.record.mask].append(pair)
    for trouble in troubles:
        for path in trouble.files:
            fault = Fault(trouble.kind, path, trouble.details.get(path, ""), trouble.text, trouble.cure)
            for pair in by_mask[path]:
                pair.faults.append(fault)


def _look_at(pair: _Pair, table: MaskTable, in_flight: InFlight) -> None:
    """Read image and mask once and take the numbers that remarks and the brightness are made of."""
    image, mask = pair.headers.get(pair.record.image), pair.headers.get(pair.record.mask)
    if image is None:
        return
    turned = image.turned and mask is not None and not mask.turned
    if mask is not None and image.size != mask.size and not any(one.path == pair.record.mask for one in pair.faults):
        pair.faults.append(_mismatch(pair.record.mask, image, mask))
    # A function of its own, so that its arrays are gone before the next picture may be read.
    with in_flight.hold(pair.pixels):
        _take_numbers(pair, table, turned=image.orientation if turned else 1)


def _take_numbers(pair: _Pair, table: MaskTable, *, turned: int) -> None:
    try:
        raster = decode(pair.record.image, pair.record.page, max_pixels=None)
    except DataError as error:
        pair.faults.append(_unreadable("unreadable_image", pair.record.image, error))
        return
    if pair.faults or not table.tables:  # without a table the set's trouble says all
        return
    try:
        values = decode(pair.record.mask, pair.record.page, max_pixels=None)
        foreground, valid = split_mask(pair.record.mask, values, table)
    except DataError as error:
        pair.faults.append(_unreadable("unreadable_mask", pair.record.mask, error))
        return
    del values
    if raster.values.shape[:2] != foreground.shape:
        pair.faults.append(Fault("size_mismatch", pair.record.mask, f"page {pair.record.page + 1} has another size"))
        return
    pair.depth = depth_of(raster.values, raster.no_data)
    picture = rgb(raster.reduced())
    pair.fingerprint = fingerprint(picture)
    pair.look = _look(picture, foreground, valid, turned=turned)


def _look(image: np.ndarray, mask: np.ndarray, valid: np.ndarray | None, *, turned: int) -> PairLook:
    """Numbers of a good pair.

    Args:
        image: ``(h, w, 3)`` uint8, upright; large ones are reduced.
        mask: Foreground ``(H, W)`` bool.
        valid: ``(H, W)`` bool, False where the mask says nothing; None if it does everywhere.
        turned: EXIF orientation of the image that the mask lacks; 1 if there is none.
    """
    counts = mask.size if valid is None else int(np.count_nonzero(valid))
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    return PairLook(
        size=(mask.shape[0], mask.shape[1]),
        foreground=np.count_nonzero(mask) / max(counts, 1),
        void=1 - counts / mask.size,
        border=float(np.concatenate(edges).mean()),
        sides=sum(bool(edge.any()) for edge in edges),
        objects=objects_in(mask),
        raster_fit=fit_of_raster(image, mask, turned) if turned > 1 else None,
    )


def _unreadable(kind: str, path: Path, error: DataError) -> Fault:
    """The error's first sentence without the path, which the report already prints, and its cure."""
    reason, _, cure = str(error).removeprefix(f"{path}: ").partition(". ")
    return Fault(kind, path, reason.rstrip("."), cure="" if cure.startswith("Replace") else cure.rstrip("."))
