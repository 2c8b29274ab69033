"""The data doctor: look at every file before work starts and report all faults together, each with its cure."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...annotations.folders import fitting_mask_pattern
from ...annotations.listing import Listing, Record
from ...annotations.reading.brightness import Depth, depth_of, scale_of
from ...annotations.reading.classes import Classes
from ...annotations.reading.decoding import Header, decode, read_header, require_size
from ...annotations.reading.files import rgb
from ...annotations.reading.instances import instances_of_objects, instances_of_raster
from ...annotations.reading.labels import UnknownClassError, labels_of_objects, labels_of_raster
from ...annotations.reading.mask_values import MaskValues, counted
from ...annotations.reading.pictures import page_name
from ...annotations.reading.rules import ReadingRules
from ...annotations.reading.troubles import Trouble
from ...annotations.sources import listing_of
from ...config.options import DataOptions
from ...config.registry import DEFAULT_TASK
from ...errors import DataError, amount
from ...system.in_flight import PIXELS, InFlight
from .class_remarks import class_remarks, listing_remarks
from .copies import fingerprint
from .deciding import decide_rules
from .findings import Fault, Inspection, PairLook
from .looking import look_at
from .objects import Objects, objects_of_instances
from .reading_remarks import Seen, remarks_of
from .remarks import object_remarks, orientation_remarks

_LARGE = PIXELS // 4


@dataclass
class _Pair:
    """What is found out about one pair, step by step."""

    record: Record
    headers: dict[Path, Header] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: list[MaskValues] = field(default_factory=list)
    look: PairLook | None = None
    fingerprint: np.ndarray | None = None
    depth: Depth | None = None

    @property
    def pixels(self) -> int:
        """Of image and mask."""
        return sum(header.size[0] * header.size[1] for header in self.headers.values())


def inspect(
    options: DataOptions,
    progress: Callable[[int, int], None] | None = None,
    *,
    listing: Listing | None = None,
    task: str | None = None,
    classes: Classes | None = None,
) -> Inspection:
    """Read every image and mask of a data set.

    All masks are looked at first, as what their values mean follows from all of them together.

    Args:
        options: The folders and how to read them.
        progress: Called with (pairs done, pairs in all).
        listing: What the source of the options holds; None lists it.
        task: What will be asked; None takes that of the options.
        classes: Those that the set must have, such as an adapter's; None finds them in the set.

    Returns:
        Good pairs and all faults; nothing is raised for a faulty file.

    Raises:
        ConfigError: If a folder is missing or empty.
    """
    listing = listing_of(options) if listing is None else listing
    in_flight = InFlight()
    with ThreadPoolExecutor() as pool:
        opened = list(pool.map(lambda record: _with_headers(record, options), listing.records))
        pairs = [one for pair in opened for one in _pages(pair, options)]
        list(_done(pool, lambda pair: _count_masks(pair, in_flight), pairs))
        values = [one for pair in pairs for one in pair.values]
        asked = task or options.task or DEFAULT_TASK
        rules, troubles = decide_rules(listing, values, options, asked, classes)
        _add_troubles(pairs, troubles)
        looked = _done(pool, lambda pair: _look_at(pair, rules, in_flight), pairs)
        for done, _ in enumerate(looked, start=1):
            if progress is not None:
                progress(done, len(pairs))
    return _summary(listing, pairs, rules, options)


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


def _summary(listing: Listing, pairs: list[_Pair], rules: ReadingRules, options: DataOptions) -> Inspection:
    good = [pair for pair in pairs if pair.look is not None]
    depths = [pair.depth for pair in good if pair.depth is not None]
    rules = replace(rules, brightness=scale_of(depths))
    found = Inspection(ignored=listing.ignored, rules=rules, groups=listing.groups)
    pattern = fitting_mask_pattern(listing)
    quoted = f'"{pattern}"' if pattern and " " in pattern else pattern
    cure = f"'--mask-pattern {quoted}' finds masks that are named so" if pattern else ""
    found.faults += [Fault("image_without_mask", path, cure=cure) for path in listing.images_without_mask]
    found.faults += [Fault("mask_without_image", path, cure=cure) for path in listing.masks_without_image]
    for paths in listing.duplicates:
        found.faults.append(Fault("duplicate_stem", paths[0], "also " + ", ".join(str(p) for p in paths[1:])))
    wrong = [one for one in listing.problems if not one.remark]
    found.faults += [Fault("annotation", one.path, one.text, cure=one.cure) for one in wrong]
    found.faults += [fault for pair in pairs for fault in pair.faults]
    found.records = [pair.record for pair in good]
    found.looks = [pair.look for pair in good if pair.look is not None]
    found.fingerprints = [pair.fingerprint for pair in good if pair.fingerprint is not None]
    seen = [Seen(pair.record, pair.look, pair.headers, pair.values, pair.depth) for pair in good if pair.look]
    found.remarks = remarks_of(seen, rules, options, listing.loops)
    pairs_and_looks = [(one.record, one.look) for one in seen]
    # A box is around the objects of one class, and a picture may be labelled everywhere.
    if rules.classes is None and rules.objects is None:
        found.remarks += object_remarks(pairs_and_looks)
    found.remarks += orientation_remarks(pairs_and_looks)
    found.remarks += [*class_remarks(pairs_and_looks, rules.classes), *listing_remarks(listing)]
    return found


def _with_headers(record: Record, options: DataOptions) -> _Pair:
    pair = _Pair(record)
    masks = [(path, "unreadable_mask") for path in record.mask_files]
    for path, kind in ((record.image, "unreadable_image"), *masks):
        try:
            header = read_header(path)
            require_size(path, header.size, options.max_pixels)
            pair.headers[path] = header
        except DataError as error:
            pair.faults.append(_unreadable(kind, path, error))
    if record.objects is None and len(pair.headers) == 2:
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


def _count_masks(pair: _Pair, in_flight: InFlight) -> None:
    for path in pair.record.mask_files:
        header = pair.headers.get(path)
        if header is None:
            continue
        try:
            with in_flight.hold(header.size[0] * header.size[1]):
                pair.values.append(counted(path, decode(path, pair.record.page, max_pixels=None)))
        except DataError as error:
            pair.faults.append(_unreadable("unreadable_mask", path, error))


def _add_troubles(pairs: list[_Pair], troubles: list[Trouble]) -> None:
    by_mask: dict[Path, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        for path in pair.record.mask_files:
            by_mask[path].append(pair)
    for trouble in troubles:
        for path in trouble.files:
            fault = Fault(trouble.kind, path, trouble.details.get(path, ""), trouble.text, trouble.cure)
            for pair in by_mask[path]:
                pair.faults.append(fault)


def _look_at(pair: _Pair, rules: ReadingRules, in_flight: InFlight) -> None:
    """Read image and mask once and take the numbers that remarks and the brightness are made of."""
    image, mask = pair.headers.get(pair.record.image), pair.headers.get(pair.record.mask)
    if image is None:
        return
    turned = image.turned and mask is not None and not mask.turned
    for path in pair.record.mask_files:
        own = pair.headers.get(path)
        if own is not None and image.size != own.size and not any(one.path == path for one in pair.faults):
            pair.faults.append(_mismatch(path, image, own))
    # A function of its own, so that its arrays are gone before the next picture may be read.
    with in_flight.hold(pair.pixels):
        _take_numbers(pair, rules, turned=image.orientation if turned else 1)


def _take_numbers(pair: _Pair, rules: ReadingRules, *, turned: int) -> None:
    record = pair.record
    try:
        raster = decode(record.image, record.page, max_pixels=None)
    except DataError as error:
        pair.faults.append(_unreadable("unreadable_image", record.image, error))
        return
    if pair.faults or not rules.known_for(record):  # without rules the set's trouble says all
        return
    try:
        labels, objects = _labels_of(record, raster.values.shape[:2], rules)
    except UnknownClassError as error:
        text = "the annotations have a class that is not among those that are known"
        cure = "name the class in the file of --classes, or leave its objects out of the annotations"
        pair.faults.append(Fault("unknown_class", record.mask, f"{record.image.name}: {error}", text, cure))
        return
    except DataError as error:
        pair.faults.append(_unreadable("unreadable_mask", record.mask, error))
        return
    if raster.values.shape[:2] != labels.shape:
        pair.faults.append(Fault("size_mismatch", record.mask, f"page {record.page + 1} has another size"))
        return
    pair.depth = depth_of(raster.values, raster.no_data)
    picture = rgb(raster.reduced())
    pair.fingerprint = fingerprint(picture)
    pair.look = look_at(record, picture, labels, rules.classes, turned=turned, objects=objects)


def _labels_of(record: Record, size: tuple[int, int], rules: ReadingRules) -> tuple[np.ndarray, Objects | None]:
    """The label map of foreground or classes ``(H, W)`` uint8, and the objects where they are told apart."""
    mask = None if record.objects is not None else decode(record.mask, record.page, max_pixels=None)
    if rules.objects is None:
        if mask is None:
            return labels_of_objects(record, size, rules), None
        return labels_of_raster(record, mask, rules), None
    found = instances_of_objects(record, size, rules) if mask is None else instances_of_raster(record, mask, rules)
    return found.class_labels(), objects_of_instances(found.labels)


def _unreadable(kind: str, path: Path, error: DataError) -> Fault:
    """The error's first sentence without the path, which the report already prints, and its cure."""
    reason, _, cure = str(error).removeprefix(f"{path}: ").partition(". ")
    return Fault(kind, path, reason.rstrip("."), cure="" if cure.startswith("Replace") else cure.rstrip("."))
