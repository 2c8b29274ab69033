"""The data doctor: look at every file before work starts and report all faults together, each with its cure."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..options import DataOptions
from .copies import fingerprint
from .findings import Fault, Inspection, PairLook, Remark
from .objects import objects_in
from .orientation import fit_of_raster, orientation_beside
from .reading import NotBinaryError, read_image, read_mask
from .remarks import object_remarks, orientation_remarks
from .sources import Record, list_pairs


@dataclass(frozen=True)
class _Pair:
    faults: list[Fault]
    rule: str = ""
    look: PairLook | None = None
    fingerprint: np.ndarray | None = None


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
    found.faults += [Fault("image_without_mask", path) for path in listing.images_without_mask]
    found.faults += [Fault("mask_without_image", path) for path in listing.masks_without_image]
    for paths in listing.duplicates:
        found.faults.append(Fault("duplicate_stem", paths[0], "also " + ", ".join(str(p) for p in paths[1:])))
    with ThreadPoolExecutor() as pool:
        pairs = pool.map(lambda record: _pair(record, options), listing.records)
        for done, (record, pair) in enumerate(zip(listing.records, pairs, strict=True), start=1):
            found.faults += pair.faults
            if pair.look is not None and pair.fingerprint is not None:
                found.records.append(record)
                found.looks.append(pair.look)
                found.fingerprints.append(pair.fingerprint)
                found.applied[pair.rule] += 1
            if progress is not None:
                progress(done, len(listing.records))
    found.remarks = _remarks(found)
    return found


def _pair(record: Record, options: DataOptions) -> _Pair:
    faults: list[Fault] = []
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    rule = ""
    try:
        image = read_image(record.image)
    except DataError as error:
        faults.append(Fault("unreadable_image", record.image, _reason(error, record.image)))
    try:
        mask, rule = read_mask(record.mask, options.mask_rule)
    except DataError as error:
        kind = "mask_not_binary" if isinstance(error, NotBinaryError) else "unreadable_mask"
        faults.append(Fault(kind, record.mask, _reason(error, record.mask)))
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (mask, image)]
        detail = f"mask is {sizes[0]} but its image is {sizes[1]}"
        turned = orientation_beside(record.image, record.mask)
        if turned > 1 and image.shape[1::-1] == mask.shape:
            detail += f" as it is shown; the mask has the size that the image is stored in (EXIF orientation {turned})"
        faults.append(Fault("size_mismatch", record.mask, detail))
    if faults or image is None or mask is None:
        return _Pair(faults)
    return _Pair([], rule, _look(record, image, mask), fingerprint(image))


def _look(record: Record, image: np.ndarray, mask: np.ndarray) -> PairLook:
    """Numbers of a good pair: image ``(H, W, 3)`` uint8, mask ``(H, W)`` bool."""
    assert image.shape[:2] == mask.shape
    turned = orientation_beside(record.image, record.mask)
    return PairLook(
        size=(mask.shape[0], mask.shape[1]),
        foreground=float(mask.mean()),
        objects=objects_in(mask),
        raster_fit=fit_of_raster(image, mask, turned) if turned > 1 else None,
    )


def _remarks(found: Inspection) -> list[Remark]:
    """What all looks together say."""
    pairs = list(zip(found.records, found.looks, strict=True))
    remarks = []
    if empty := tuple(record.mask for record, look in pairs if look.foreground == 0):
        cure = "'--empty-masks skip' leaves them out of training"
        remarks.append(Remark("empty_masks", empty, f"{len(empty)} masks have no foreground", cure))
    if full := tuple(record.mask for record, look in pairs if look.foreground == 1):
        remarks.append(Remark("full_masks", full, f"{len(full)} masks are foreground everywhere", "look at them"))
    return [*remarks, *object_remarks(pairs), *orientation_remarks(pairs)]


def _reason(error: DataError, path: Path) -> str:
    """The error's first sentence without the path, which the report already prints."""
    return str(error).removeprefix(f"{path}: ").split(". ")[0].rstrip(".")
