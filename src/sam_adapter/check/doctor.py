"""`check`: an inspection with all that a training run would say about the set too, as JSON and as a contact sheet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..annotations.folders import list_pictures
from ..annotations.listing import Record
from ..annotations.reading.files import read_image
from ..config.commands import CheckConfig
from ..config.training import TrainConfig
from ..data.inspection.copies import fingerprint
from ..data.inspection.findings import CURES, Fault, Inspection, Remark
from ..data.inspection.inspect import inspect
from ..data.inspection.remarks import folder_copies_remarks, object_count_remarks, tiny_object_remarks
from ..data.splitting import grouped_split
from ..data.tiles import tile_remark, tiling_of
from ..errors import ConfigError, DataError
from ..system.writing import require_writable, written_beside


def examine(config: CheckConfig, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Inspect a set, and add what depends on the model's input size and on the split.

    Args:
        config: The folders, how to read them, what belongs together, and the files to write.
        progress: Called with (pairs done, pairs in all).

    Returns:
        What was found. Sheet and JSON file are written, if they are asked for, whether there are faults or not.

    Raises:
        ConfigError: If a folder is missing or empty, or a file cannot be written.
    """
    for name, path in (("json", config.json), ("sheet", config.sheet)):
        if path is not None:
            require_writable(path.parent, name)
    found = inspect(config, progress)
    looks = [look for _, look in found.asked]
    tiling = tiling_of(config, looks) if looks else None
    tile = None if tiling is None else tiling.tile
    if found.rules.objects is not None:
        found.remarks += object_count_remarks(found.asked, image_size=config.image_size, tile=tile)
    found.remarks += tile_remark(config, looks, image_size=config.image_size)
    found.remarks += tiny_object_remarks(
        found.asked, image_size=config.image_size, tile=tile, apart=found.rules.objects is not None
    )
    records = [record for record, _ in found.asked]
    if config.val_images is not None:
        found.remarks += _validation_copies(found, config.val_images)
    elif len(records) > 1:
        try:
            found.remarks += grouped_split(
                records,
                dict(zip(found.records, found.fingerprints, strict=True)),
                config,
                fraction=TrainConfig.val_fraction,
                seed=TrainConfig.seed,
                torn_only=False,
                known_groups=found.groups,
            )[2]
        except (ConfigError, DataError) as error:
            found.faults.append(Fault("groups", config.groups or config.place, str(error).rstrip(".")))
    if config.json is not None:
        with written_beside(config.json) as partial:
            partial.write_text(json.dumps(as_json(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if config.sheet is not None:
        from .sheet import write_sheet

        write_sheet(config.sheet, found)
    return found


def _validation_copies(found: Inspection, folder: Path) -> list[Remark]:
    """What a folder of validation images has of the set's images; one that cannot be read becomes a fault.

    Raises:
        ConfigError: If there is no picture.
    """
    if not folder.is_dir():
        raise ConfigError(f"val_images: there is no folder '{folder}'.")
    if not (files := list_pictures(folder).files):
        raise ConfigError(f"val_images: there is no picture in '{folder}'.")
    training = [record for record, _ in found.asked]
    known = dict(zip(found.records, found.fingerprints, strict=True))
    prints, validation = [known[record] for record in training], []
    for file in files:
        try:
            prints.append(fingerprint(read_image(file, found.rules.brightness)))
        except DataError as error:
            found.faults.append(Fault("unreadable_image", file, str(error)))
            continue
        name = file.relative_to(folder).with_suffix("").as_posix()
        validation.append(Record(name=name, image=file, mask=file))
    return folder_copies_remarks(training, validation, prints)


def as_json(found: Inspection) -> dict[str, Any]:
    """An inspection for machines.

    Returns:
        ``pairs``: number of good ones; ``rule``: mask value to its meaning; ``foreground``: mean share; ``faults`` and
        ``remarks``: for each kind its ``kind``, ``files``, ``text`` and ``cure``.
    """
    faults = []
    for kind, advice in dict.fromkeys((fault.kind, fault.advice) for fault in found.faults):
        alike = [fault for fault in found.faults if (fault.kind, fault.advice) == (kind, advice)]
        details = "; ".join(dict.fromkeys(fault.detail for fault in alike if fault.detail))
        files = [str(fault.path) for fault in alike]
        text = ". ".join(part for part in (alike[0].text, details) if part)
        faults.append({"kind": kind, "files": files, "text": text, "cure": alike[0].cure or CURES[kind]})
    return {
        "pairs": len(found.records),
        "rule": {} if found.rules.masks is None else found.rules.masks.described(),
        "foreground": found.foreground,
        "faults": faults,
        "remarks": [
            {
                "kind": remark.kind,
                "files": [str(path) for path in remark.files],
                "text": remark.text,
                "cure": remark.cure,
            }
            for remark in found.remarks
        ],
    }
