"""The inspection of an unchanged set, kept in the folder of a run for resuming and for its other processes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...annotations.listing import Listing, Record
from ...annotations.reading.classes import Classes
from ...annotations.reading.rules import ReadingRules
from ...config.options import DataOptions
from ...system.writing import written_beside
from .findings import Fault, Inspection, PairLook, Remark
from .inspect import inspect
from .objects import ClassLook, Objects


def inspect_once(
    options: DataOptions, listing: Listing, kept: Path, state: str, classes: Classes | None = None
) -> Inspection:
    """What `inspect` finds, from a file if that was written by `keep` for the same options and unchanged files.

    Args:
        options: The folders and how to read them.
        listing: What the source of the options holds.
        kept: The file; it need not exist.
        state: `state_of` the set, as it is now.
        classes: Those that the set must have, where they are known already.
    """
    try:
        with np.load(kept, allow_pickle=False) as stored:
            values = json.loads(stored["found"].item())
            if values["state"] == state:
                return _from_json(values, [*stored["fingerprints"]], listing)
    except Exception:  # there is none, or it is broken in one of many ways: the set is looked at again
        pass
    return inspect(options, listing=listing, classes=classes)


def keep(found: Inspection, state: str, kept: Path) -> None:
    """Write an inspection for `inspect_once`.

    Args:
        found: What was found.
        state: `state_of` the set, from before it was looked at: a file that changes meanwhile must not count as seen.
        kept: The file; its folder exists.
    """
    values = {
        "state": state,
        "records": [asdict(replace(record, objects=None)) for record in found.records],
        "looks": [asdict(look) for look in found.looks],
        "faults": [asdict(fault) for fault in found.faults],
        "remarks": [asdict(remark) for remark in found.remarks],
        "rules": found.rules.to_json(),
        "ignored": found.ignored,
    }
    text = np.array(json.dumps(values, default=str))
    with written_beside(kept) as partial, partial.open("wb") as file:
        np.savez_compressed(file, found=text, fingerprints=np.array(found.fingerprints, dtype=np.int8))


def state_of(options: DataOptions, listing: Listing, classes: Classes | None = None) -> str:
    """A digest of the options, of the names of the pairs, and of each file's path, size and time of change.

    Args:
        options: The folders and how to read them.
        listing: What the source of the options holds.
        classes: Those that the set must have, where they are known already.
    """
    files = [path for record in listing.records for path in record.files]
    files += [options.classes] if options.classes is not None else []
    files += [*listing.images_without_mask, *listing.masks_without_image]
    files += [path for paths in listing.duplicates for path in paths]
    digest = hashlib.sha256(version("sam-adapter").encode())
    for field in fields(DataOptions):
        if field.name != "faulty":  # what is done about faults changes nothing of what is found
            digest.update(f"{field.name}={getattr(options, field.name)}\n".encode())
    digest.update(f"{classes}\n".encode())
    for record in listing.records:  # a source may name and pair the same files otherwise than before
        digest.update(f"{record.name}\0{record.page}\0{record.image}\0{record.mask}\n".encode(errors="surrogateescape"))
    for path in files:
        about = path.stat()
        digest.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _from_json(values: Mapping[str, Any], fingerprints: list[np.ndarray], listing: Listing) -> Inspection:
    objects = {record: record.objects for record in listing.records}
    records = [Record(**_with_paths(one, "image", "mask")) for one in values["records"]]
    return Inspection(
        records=[replace(record, objects=objects.get(replace(record, page=0))) for record in records],
        looks=[_look(one) for one in values["looks"]],
        faults=[Fault(**_with_paths(one, "path")) for one in values["faults"]],
        remarks=[Remark(**{**one, "files": tuple(map(Path, one["files"]))}) for one in values["remarks"]],
        rules=ReadingRules.from_json(values["rules"]),
        ignored=values["ignored"],
        groups=listing.groups,
        fingerprints=fingerprints,
    )


def _with_paths(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**values, **{name: Path(values[name]) for name in names}}


def _look(values: Mapping[str, Any]) -> PairLook:
    objects = values["objects"]
    objects = Objects(**{**objects, "areas": tuple(objects["areas"])})
    classes = tuple(ClassLook(*one) for one in values["classes"])
    return PairLook(**{**values, "size": tuple(values["size"]), "objects": objects, "classes": classes})
