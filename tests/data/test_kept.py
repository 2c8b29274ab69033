import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter.annotations.sources import listing_of
from sam_adapter.config.commands import CheckConfig
from sam_adapter.config.training import TrainConfig
from sam_adapter.data.datamodule import PairDataModule
from sam_adapter.data.inspection import kept
from sam_adapter.data.inspection.findings import Inspection
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.data.inspection.kept import inspect_once, keep, state_of


@pytest.fixture
def inspections(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The image folders of all inspections that were really made."""
    made: list[Path] = []

    def counted(options, **more):
        made.append(options.images)
        return inspect(options, **more)

    monkeypatch.setattr(kept, "inspect", counted)
    return made


def looked_at(options: CheckConfig, file: Path) -> Inspection:
    listing = listing_of(options)
    return inspect_once(options, listing, file, state_of(options, listing))


def test_what_is_kept_is_what_was_found(pairs: Path, tmp_path: Path, inspections: list[Path]):
    (pairs / "images" / "img_02.png").write_bytes(b"no picture")
    Image.new("L", Image.open(pairs / "masks" / "img_03.png").size).save(pairs / "masks" / "img_03.png")
    (pairs / "masks" / "img_05.png").unlink()
    options = CheckConfig(images=pairs / "images", masks=pairs / "masks")
    file = tmp_path / "inspection.npz"
    found = looked_at(options, file)
    keep(found, state_of(options, listing_of(options)), file)
    again = looked_at(options, file)
    assert len(inspections) == 1
    assert len(again.faults) == 2
    assert len(again.fingerprints) == len(again.records) == 4
    assert again.remarks
    prints = found.fingerprints, again.fingerprints
    assert all(np.array_equal(before, after) for before, after in zip(*prints, strict=True))
    assert again == found
    skipping = options.but(faulty="skip")
    assert looked_at(skipping, file) == found
    assert len(inspections) == 1


@pytest.mark.parametrize("change", ["image touched", "mask changed", "file added", "option", "broken file"])
def test_a_set_that_changed_is_looked_at_again(pairs: Path, tmp_path: Path, inspections: list[Path], change: str):
    options = CheckConfig(images=pairs / "images", masks=pairs / "masks")
    file = tmp_path / "inspection.npz"
    keep(inspect(options), state_of(options, listing_of(options)), file)
    image, mask = pairs / "images" / "img_01.png", pairs / "masks" / "img_01.png"
    if change == "image touched":
        os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    elif change == "mask changed":
        before = mask.stat()
        Image.open(mask).convert("1").save(mask)
        os.utime(mask, ns=(0, before.st_mtime_ns))
    elif change == "file added":
        Image.new("L", (9, 9)).save(pairs / "masks" / "new.png")
    elif change == "option":
        options = options.but(mask_rule="nonzero")
    else:
        file.write_bytes(file.read_bytes()[:-30])
    looked_at(options, file)
    assert len(inspections) == 1


def test_a_run_keeps_its_inspections(pairs: Path, tmp_path: Path, inspections: list[Path]):
    images, masks, output = pairs / "images", pairs / "masks", tmp_path / "run"
    config = TrainConfig(model="unused", output=output, images=images, masks=masks, val_images=images, val_masks=masks)
    config.output.mkdir()
    data = PairDataModule(config)
    assert len(inspections) == 2
    data.keep_inspections()
    again = PairDataModule(config)
    assert len(inspections) == 2
    assert (again.train_records, again.val_records) == (data.train_records, data.val_records)
    assert (again.reading, again.val_reading) == (data.reading, data.val_reading)


def test_a_file_that_changes_while_a_run_begins_is_looked_at_again(
    pairs: Path, tmp_path: Path, inspections: list[Path]
):
    config = TrainConfig(model="unused", output=tmp_path, images=pairs / "images", masks=pairs / "masks")
    data = PairDataModule(config)
    image = pairs / "images" / "img_01.png"
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    data.keep_inspections()
    PairDataModule(config)
    assert len(inspections) == 2
