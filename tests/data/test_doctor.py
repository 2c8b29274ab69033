"""What `check` says about a whole set, and what `train` says about its split."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_adapter.cli import main
from sam_adapter.config.training import TrainConfig
from sam_adapter.data.datamodule import PairDataModule
from sam_adapter.errors import agreed, amount
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.binary import BinaryTask

SIZE = (120, 160)
Mask = Callable[[np.random.Generator], np.ndarray]


def disc(rng: np.random.Generator) -> np.ndarray:
    centre = int(rng.integers(30, 130)), int(rng.integers(30, 90))
    return cv2.circle(np.zeros(SIZE, np.uint8), centre, int(rng.integers(15, 28)), 1, -1).astype(bool)


def picture(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    image = rng.normal(80, 12, (*mask.shape, 3)) + mask[..., None] * 90
    return image.clip(0, 255).astype(np.uint8)


def write(folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "images" / f"{name}.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")


def write_scenes(folder: Path, count: int = 12, mask: Mask = disc) -> Path:
    rng = np.random.default_rng(1)
    for index in range(count):
        shape = mask(rng)
        write(folder, f"scene_{index:02}", picture(rng, shape), shape)
    return folder


def write_clips(folder: Path, clips: int = 5, frames: int = 8) -> Path:
    """Frames of some scenes: other noise and exposure, moved by up to two pixels."""
    rng = np.random.default_rng(0)
    for clip in range(clips):
        shape = disc(rng)
        scene = picture(rng, shape)
        for frame in range(frames):
            moved = rng.integers(-2, 3, 2)
            image = np.roll(scene * rng.uniform(0.9, 1.1), moved, (0, 1)) + rng.normal(0, 4, scene.shape)
            mask = np.roll(shape, moved, (0, 1))
            write(folder, f"clip{clip}_{frame}", image.clip(0, 255).astype(np.uint8), mask)
    return folder


def check(folder: Path, *options: str) -> tuple[dict[str, Any], int]:
    """What ``check --json`` writes, and the exit status."""
    out = folder / "found.json"
    arguments = ["check", "--images", f"{folder}/images", "--masks", f"{folder}/masks", "--json", f"{out}", *options]
    status = 0
    try:
        main(arguments)
    except SystemExit as error:
        status = int(error.code or 0)
    return json.loads(out.read_text()), status


def remark(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(one for one in found["remarks"] if one["kind"] == kind)


def kinds(found: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in found["remarks"]]


def test_nothing_is_remarked_about_ordinary_scenes(tmp_path: Path):
    found, status = check(write_scenes(tmp_path, 40))
    assert (found["pairs"], found["faults"], found["remarks"], status) == (40, [], [], 0)
    assert 0.03 < found["foreground"] < 0.12


def test_near_copies_are_found_and_a_cure_that_works_is_offered(tmp_path: Path):
    folder = write_clips(tmp_path)
    found, status = check(folder)
    said = remark(found, "near_copies")
    assert len(said["files"]) == 40
    assert "5 groups" in said["text"]
    assert status == 0
    pattern = said["cure"].split("'")[1]
    table = tmp_path / "groups.csv"
    table.write_text("image,group\n" + "".join(f"clip{c}_{f}.png,{c}\n" for c in range(5) for f in range(8)))
    for cure in (["--group-pattern", pattern], ["--groups", f"{table}"], ["--group-copies"]):
        assert "near_copies" not in kinds(check(folder, *cure)[0])
    assert "near_copies" in kinds(check(folder, "--group-pattern", "_[0-3]|_[4-7]")[0])


def test_one_of_a_thing_is_not_counted_as_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One pair, one fault, and remarks about one file each."""
    rng = np.random.default_rng(0)
    write(tmp_path, "a", picture(rng, shape := two_discs(rng)), shape)
    Image.fromarray(picture(rng, shape)).save(tmp_path / "images" / "alone.png")
    with pytest.raises(SystemExit):
        main(["check", "--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")])
    report = capsys.readouterr().out
    assert "1 good pair, 1 fault." in report
    assert "in 1 pair. Foreground" in report
    assert "1 of 1 mask with foreground has several objects" in report
    assert not re.search(r"\b1 (\w+ )?(pairs|faults|masks|images|files|groups|pictures)\b", report)


def test_numbers_nouns_and_verbs_agree():
    assert [amount(count, "mask", "have") for count in (0, 1, 2)] == ["0 masks have", "1 mask has", "2 masks have"]
    assert [amount(count, "process") for count in (1, 2)] == ["1 process", "2 processes"]
    assert [agreed(1, verb) for verb in ("are", "were", "carry", "fit")] == ["is", "was", "carries", "fits"]


def test_groups_that_do_not_fit_are_a_fault(tmp_path: Path):
    folder = write_scenes(tmp_path, 3)
    found, status = check(folder, "--group-pattern", "scene")
    assert [fault["kind"] for fault in found["faults"]] == ["groups"]
    assert "one group, 'scene'" in found["faults"][0]["text"]
    assert status == 1


def train_config(folder: Path, **options: Any) -> TrainConfig:
    images, masks = folder / "images", folder / "masks"
    return TrainConfig(model="unused", images=images, masks=masks, output=folder / "run", **options)


def test_train_tells_of_copies_on_both_sides_of_its_split_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = write_clips(tmp_path / "clips")
    caplog.set_level(logging.WARNING)
    data = PairDataModule(train_config(folder))
    torn = {record.name[:5] for record in data.train_records} & {record.name[:5] for record in data.val_records}
    assert 0 < len(torn) < 5
    assert f"Remark near_copies ({8 * len(torn)})" in caplog.text
    for options in ({"group_copies": True}, {"group_pattern": "^clip."}):
        caplog.clear()
        data = PairDataModule(train_config(folder, **options))
        assert "near_copies" not in caplog.text
        clips = [{record.name[:5] for record in part} for part in (data.train_records, data.val_records)]
        assert clips[0].isdisjoint(clips[1])
        assert len(data.val_records) == 8
    caplog.clear()
    PairDataModule(train_config(folder, val_fraction=0.0))
    assert "near_copies" not in caplog.text
    other = write_scenes(tmp_path / "other", 3)
    held_out = {"val_images": other / "images", "val_masks": other / "masks"}
    PairDataModule(train_config(folder, **held_out))
    assert "near_copies" not in caplog.text
    Image.open(folder / "images" / "clip2_5.png").save(other / "images" / "scene_01.png")
    PairDataModule(train_config(folder, **held_out))
    assert "Remark near_copies (9)" in caplog.text
    assert "take them out of one of the two sets" in caplog.text


def test_validation_images_that_are_training_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """By `train` and `check`: the same folder, the same bytes under other names, and images without any structure."""
    folder, other = write_scenes(tmp_path / "scenes", 4), write_scenes(tmp_path / "other", 2, mask=two_discs)
    plain = np.full((*SIZE, 3), 90, np.uint8)
    write(folder, "plain", plain, disc(np.random.default_rng(0)))
    caplog.set_level(logging.WARNING)

    def said(held_out: Path) -> str:
        caplog.clear()
        PairDataModule(train_config(folder, val_images=held_out / "images", val_masks=held_out / "masks"))
        found, status = check(folder, "--val-images", str(held_out / "images"))
        texts = [one["text"] for one in found["remarks"] if one["kind"] in ("same_images", "near_copies")]
        assert status == 0
        assert all(text in caplog.text for text in texts)
        assert len(texts) == caplog.text.count("Remark same_images") + caplog.text.count("Remark near_copies")
        return caplog.text

    assert "5 validation images of 5 are among the training images, byte for byte" in said(folder)
    assert "near_copies" not in caplog.text
    assert "byte for byte" not in said(other)
    write(other, "again", plain, disc(np.random.default_rng(0)))
    assert "Remark same_images (1)" in said(other)
    assert f"{other / 'images/again.png'} = {folder / 'images/plain.png'}" in caplog.text
    with pytest.raises(SystemExit):
        main(["check", "--images", "i", "--masks", "m", "--val-images", "v", "--group-copies", "true"])
    (other / "images/a.txt").write_text("no picture")
    (other / "images/b.png").write_bytes(b"broken")
    found, status = check(folder, "--val-images", str(other / "images"))
    assert [fault["files"] for fault in found["faults"]] == [[str(other / "images/b.png")]]
    assert status == 1


def test_void_in_some_masks_alone(tmp_path: Path):
    folder = write_scenes(tmp_path, 6)
    for index, path in enumerate(sorted((folder / "masks").iterdir())):
        mask = np.array(Image.open(path)) // 255
        if index % 2:
            mask[cv2.dilate(mask, np.ones((5, 5), np.uint8)) > mask] = 255
        Image.fromarray(mask).save(path)
    found, status = check(folder)
    (fault,) = found["faults"]
    assert (fault["kind"], len(fault["files"]), status) == ("void_value", 3, 1)
    assert "--ignore-value 255" in fault["cure"]
    found, status = check(folder, "--ignore-value", "255", "--sheet", f"{tmp_path}/sheet.png")
    assert (found["pairs"], found["faults"], status) == (6, [], 0)
    assert found["rule"] == {"0": "background", "1": "foreground", "255": "void"}
    assert len(remark(found, "void")["files"]) == 3


def two_discs(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for column, row in ((25, 25), (135, 95)):
        cv2.circle(mask, (column + int(rng.integers(-5, 6)), row + int(rng.integers(-5, 6))), 14, 1, -1)
    return mask.astype(bool)


def test_several_objects_a_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    said = remark(check(write_scenes(tmp_path, 4, two_discs))[0], "several_objects")
    assert len(said["files"]) == 4
    assert "4 of 4" in said["text"]
    for prompt, told in (("box", True), ("mixed", True), ("none", False)):
        caplog.clear()
        PairDataModule(train_config(tmp_path, prompt=prompt))
        assert ("several_objects" in caplog.text) is told


def grains(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((1024, 1024), np.uint8)
    for row, column in np.ndindex(7, 8):
        cv2.circle(mask, (60 + 128 * column + int(rng.integers(9)), 60 + 128 * row), 4, 1, -1)
    return mask.astype(bool)


def test_objects_below_the_cells_of_the_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = write_scenes(tmp_path, 2, grains)
    said = remark(check(folder, "--image-size", "512")[0], "tiny_objects")
    assert len(said["files"]) == 2
    assert "--image-size 1024" in said["cure"]
    assert "tiny_objects" not in kinds(check(folder, "--image-size", "1024")[0])
    for smaller in ("64", "16"):
        assert "--image-size" not in remark(check(folder, "--image-size", smaller)[0], "tiny_objects")["cure"]
    caplog.set_level(logging.WARNING)
    for size, expected in ((1024, False), (512, True)):
        caplog.clear()
        config = train_config(folder)
        PairDataModule(config).make_datasets(Preprocessing(image_size=size), BinaryTask.from_options(config))
        assert ("tiny_objects" in caplog.text) is expected


@pytest.mark.parametrize("on_raster", [True, False])
def test_masks_of_the_stored_raster_are_named(tmp_path: Path, on_raster: bool):
    folder = write_scenes(tmp_path, 3)
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (folder / "images").iterdir():
        Image.open(path).save(path, exif=exif)
    if not on_raster:
        for path in (folder / "masks").iterdir():
            Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    found, _ = check(folder)
    if on_raster:
        assert len(remark(found, "orientation")["files"]) == 3
    else:
        assert "orientation" not in kinds(found)


def test_a_mask_of_the_stored_raster_whose_sides_are_swapped(tmp_path: Path):
    folder = write_scenes(tmp_path, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "images" / "scene_01.png").save(folder / "images" / "scene_01.png", exif=exif)
    fault = check(folder)[0]["faults"][0]
    assert fault["kind"] == "size_mismatch"
    assert "EXIF orientation 6" in fault["text"]


def test_json_and_sheet_are_written_with_faults_too(tmp_path: Path):
    folder = write_scenes(tmp_path, 4)
    (folder / "masks" / "scene_02.png").unlink()
    (folder / "images" / "scene_03.png").write_bytes(b"no picture")
    sheet = tmp_path / "sheet.png"
    found, status = check(folder, "--sheet", f"{sheet}")
    assert (found["pairs"], status) == (2, 1)
    faults = {fault["kind"]: fault for fault in found["faults"]}
    assert faults["image_without_mask"]["files"] == [f"{folder}/images/scene_02.png"]
    assert set(faults) == {"image_without_mask", "unreadable_image"}
    assert all(fault["cure"] for fault in faults.values())
    assert Image.open(sheet).format == "PNG"


@pytest.mark.parametrize("option", ["json", "sheet"])
def test_where_nothing_can_be_written_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
):
    folder = write_scenes(tmp_path, 2)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "check",
                "--images",
                f"{folder}/images",
                "--masks",
                f"{folder}/masks",
                f"--{option}",
                f"{tmp_path}/file/out",
            ]
        )
    shown = capsys.readouterr()
    assert stopped.value.code == 2
    assert f"{option}: '{tmp_path}/file' cannot be a folder" in shown.err
    assert not shown.out


def test_the_sheet_shows_outline_and_box_and_what_is_remarked_first(tmp_path: Path):
    folder = write_scenes(tmp_path, 8)
    rng = np.random.default_rng(1)
    mask = two_discs(rng)
    write(folder, "z_two", picture(rng, mask), mask)
    check(folder, "--sheet", f"{tmp_path}/sheet.png")
    first, second = _tiles(np.array(Image.open(tmp_path / "sheet.png").convert("RGB")))
    yellow = np.array([255, 255, 0])
    assert (first == yellow).all(axis=-1).sum() > 2 * (second == yellow).all(axis=-1).sum() > 0  # the box of both discs
    rows, columns = np.nonzero((first == yellow).all(axis=-1))
    inside = first[rows.min() + 8 : rows.max() - 8, columns.min() + 8 : columns.max() - 8]
    assert (inside == 0).all(axis=-1).sum() > 100  # the dark line of the outline


def _tiles(sheet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two pictures of a sheet, found by the ground around them."""
    drawn = (sheet != sheet[0, 0]).any(axis=-1)
    full = drawn[:, 20:260].mean(axis=1) > 0.95
    top = int(np.flatnonzero(full)[0])
    return sheet[top : top + 192, 12:268], sheet[top : top + 192, 280:536]
