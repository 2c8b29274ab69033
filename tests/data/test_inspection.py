import os
import shlex
import shutil
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import write_pairs
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.annotations.reading.files import read_image
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import ConfigError, DataError
from sam_adapter.system.in_flight import InFlight


def plant_twelve_faults(folder: Path) -> list[str]:
    """Twelve files with faults among good ones; returns their names."""
    images, masks = folder / "images", folder / "masks"
    write_pairs(folder, 16)
    (masks / "img_00.png").unlink()
    (masks / "img_01.png").unlink()
    (images / "img_02.png").unlink()
    (images / "img_03.png").unlink()
    Image.new("L", (9, 9), 255).save(masks / "img_04.png")
    Image.open(masks / "img_05.png").transpose(Image.Transpose.ROTATE_90).save(masks / "img_05.png")
    whole = (images / "img_06.png").read_bytes()
    (images / "img_06.png").write_bytes(whole[: len(whole) // 2])
    (images / "img_07.png").write_bytes(b"not a picture at all")
    (masks / "img_08.png").write_bytes((masks / "img_08.png").read_bytes()[:60])
    size = Image.open(masks / "img_09.png").size
    Image.fromarray(np.random.default_rng(0).integers(0, 4, size[::-1]).astype(np.uint8)).save(masks / "img_09.png")
    Image.fromarray(np.full(size[::-1], 77, np.uint8)).save(masks / "img_10.png")
    Image.open(images / "img_11.png").convert("RGB").save(images / "img_11.jpg")
    return [f"img_{index:02}." for index in range(12)]


def test_twelve_planted_faults_are_all_named_in_one_report(tmp_path: Path):
    names = plant_twelve_faults(tmp_path)
    options = CheckConfig(images=tmp_path / "images", masks=tmp_path / "masks")
    found = inspect(options)
    report = found.report()
    assert len(found.faults) == 12
    assert all(name in report for name in names)
    assert {fault.kind for fault in found.faults} == {
        "image_without_mask",
        "mask_without_image",
        "duplicate_stem",
        "size_mismatch",
        "unreadable_image",
        "unreadable_mask",
        "contradicts_rule",
    }
    assert [record.name for record in found.records] == ["img_12", "img_13", "img_14", "img_15"]
    with pytest.raises(DataError) as error:
        found.usable(options)
    assert all(name in str(error.value) for name in names)
    assert len(found.usable(options.but(faulty="skip"))) == 4


def test_empty_masks_are_counted_not_faults(pairs: Path):
    path = pairs / "masks" / "img_03.png"
    Image.new("L", Image.open(path).size).save(path)
    found = inspect(CheckConfig(images=pairs / "images", masks=pairs / "masks"))
    assert found.empty == ["img_03"]
    assert not found.faults
    assert found.rules.masks is not None
    assert found.rules.masks.described() == {"0": "background", "255": "foreground"}
    assert [remark.kind for remark in found.remarks] == ["empty_masks"]


def test_masks_that_are_void_everywhere_are_not_empty(pairs: Path):
    path = pairs / "masks" / "img_03.png"
    Image.new("L", Image.open(path).size, 7).save(path)
    options = CheckConfig(images=pairs / "images", masks=pairs / "masks", ignore_value=("7",))
    found = inspect(options)
    assert [remark.kind for remark in found.remarks] == ["void_everywhere"]
    assert found.remarks[0].files == (path,)
    assert found.empty == []
    assert len(found.records) == 6
    assert [record.name for record in found.usable(options)] == [f"img_{index:02}" for index in (0, 1, 2, 4, 5)]


def test_nested_folders_patterns_and_contents_without_extension(tmp_path: Path):
    write_pairs(tmp_path / "flat", 3)
    for name in ("img_00", "img_01", "img_02"):
        for kind, target in (("images", f"a/b/{name}"), ("masks", f"a/b/{name}_mask.png")):
            moved = tmp_path / "nested" / kind / target
            moved.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "flat" / kind / f"{name}.png").rename(moved)  # the images lose their extension
    (tmp_path / "nested/images/a/notes.txt").write_text("hello")
    (tmp_path / "nested/images/a/.DS_Store").write_text("hidden")
    listing = list_pairs(tmp_path / "nested/images", tmp_path / "nested/masks", "{stem}_mask")
    assert [record.name for record in listing.records] == ["a/b/img_00", "a/b/img_01", "a/b/img_02"]
    assert listing.ignored == 1


def test_images_and_masks_in_one_folder(tmp_path: Path):
    write_pairs(tmp_path, 2)
    together = tmp_path / "together"
    together.mkdir()
    for name in ("img_00", "img_01"):
        (tmp_path / "images" / f"{name}.png").rename(together / f"{name}.png")
        (tmp_path / "masks" / f"{name}.png").rename(together / f"{name}_label.png")
    listing = list_pairs(together, together, "{stem}_label")
    assert [record.name for record in listing.records] == ["img_00", "img_01"]
    assert not listing.images_without_mask


def test_a_mask_folder_below_the_image_folder(pairs: Path):
    (pairs / "masks").rename(pairs / "images/masks")
    listing = list_pairs(pairs / "images", pairs / "images/masks")
    assert len(listing.records) == 6
    assert not listing.images_without_mask


def test_pairs_go_by_name_not_by_order(tmp_path: Path):
    write_pairs(tmp_path, 3)
    (tmp_path / "masks/img_00.png").unlink()
    listing = list_pairs(tmp_path / "images", tmp_path / "masks")
    assert all(record.image.stem == record.mask.stem for record in listing.records)
    assert [path.name for path in listing.images_without_mask] == ["img_00.png"]


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_wrong_folders(tmp_path: Path, pairs: Path, folder: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"images: .*(not a folder|no pictures)"):
        list_pairs(tmp_path / folder, pairs / "masks")


def test_names_are_paired_whatever_form_their_umlauts_have(tmp_path: Path):
    write_pairs(tmp_path, 2)
    for index, name in enumerate(("Müller", "naïve")):
        forms = {"images": unicodedata.normalize("NFD", name), "masks": unicodedata.normalize("NFC", name)}
        for folder, written in forms.items():
            path = tmp_path / folder / f"img_{index:02}.png"
            path.rename(path.with_name(f"{written}.PNG"))
    assert len(list_pairs(tmp_path / "images", tmp_path / "masks").records) == 2


def test_linked_folders_are_searched_and_loops_are_said(tmp_path: Path):
    write_pairs(tmp_path / "real", 2)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "day").symlink_to(tmp_path / "real" / name)
        (tmp_path / "real" / name / "back").symlink_to(tmp_path / name)
    found = inspect(CheckConfig(images=tmp_path / "images", masks=tmp_path / "masks"))
    assert [record.name for record in found.records] == ["day/img_00", "day/img_01"]
    loops = [remark for remark in found.remarks if remark.kind == "symlink_loop"]
    assert {path.name for path in loops[0].files} == {"back"}


def test_names_that_are_no_text_can_be_reported(pairs: Path):
    source = (pairs / "images" / "img_00.png").read_bytes()
    Path(os.fsdecode(os.fsencode(pairs / "images") + b"/bad\xff.png")).write_bytes(source)
    report = inspect(CheckConfig(images=pairs / "images", masks=pairs / "masks")).report()
    assert "bad" in report
    report.encode("utf-8")


def test_pages_are_counted_or_read(tmp_path: Path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    pages = [np.full((20, 30), value, np.uint8) for value in (10, 20, 30)]
    tifffile.imwrite(tmp_path / "images/a.tif", np.stack(pages), photometric="minisblack")
    masks = np.zeros((3, 20, 30), np.uint8)
    masks[0, :4], masks[1, :8] = 255, 255
    tifffile.imwrite(tmp_path / "masks/a.tif", masks, photometric="minisblack")
    options = CheckConfig(images=tmp_path / "images", masks=tmp_path / "masks")
    first = inspect(options)
    assert [remark.kind for remark in first.remarks] == ["dropped_pages"]
    every = inspect(options.but(pages="all"))
    assert [record.name for record in every.records] == ["a", "a_page2", "a_page3"]
    assert [look.foreground for look in every.looks] == [0.2, 0.4, 0]
    assert [int(read_image(one.image, page=one.page)[0, 0, 0]) for one in every.records] == [10, 20, 30]


def test_pictures_without_end_are_refused(pairs: Path):
    options = CheckConfig(images=pairs / "images", masks=pairs / "masks", max_pixels=3000)
    assert {fault.kind for fault in inspect(options).faults} == {"unreadable_image", "unreadable_mask"}
    assert "--max-pixels" in inspect(options).report()


def test_threads_share_a_budget_of_pixels():
    budget = InFlight(100)
    held, most = [0], [0]

    def work(pixels: int) -> None:
        with budget.hold(pixels):
            held[0] += pixels
            most[0] = max(most[0], held[0])
            time.sleep(0.005)
            held[0] -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [60, 30, 80, 10, 20, 50, 40, 90] * 3))
    assert 50 < most[0] <= 100
    work(500)  # larger than all: alone


def rename(folder: Path, form: str) -> None:
    for path in list(folder.iterdir()):
        path.rename(path.with_name(form.format(path.stem, path.suffix)))


def test_names_that_differ_in_case_alone_are_paired(tmp_path: Path):
    write_pairs(tmp_path, 4)
    for path in list((tmp_path / "masks").iterdir()):
        path.rename(path.with_name(path.name.upper()))
    shutil.copy(tmp_path / "images" / "img_00.png", tmp_path / "images" / "Img_00.png")  # two could be meant
    listing = list_pairs(tmp_path / "images", tmp_path / "masks")
    assert [record.mask.name for record in listing.records] == ["IMG_01.PNG", "IMG_02.PNG", "IMG_03.PNG"]
    assert len(listing.images_without_mask) == 2
    assert [path.name for path in listing.masks_without_image] == ["IMG_00.PNG"]


@pytest.mark.parametrize(("form", "pattern"), [("{0}_mask{1}", "{stem}_mask"), ("GT {0}{1}", "GT {stem}")])
def test_a_pattern_that_fits_the_names_is_offered_and_works(tmp_path: Path, form: str, pattern: str):
    write_pairs(tmp_path, 4)
    rename(tmp_path / "masks", form)
    options = CheckConfig(images=tmp_path / "images", masks=tmp_path / "masks")
    found = inspect(options)
    (cure,) = {fault.cure for fault in found.faults}
    command, offered = shlex.split(cure.split("'")[1])
    assert (command, offered) == ("--mask-pattern", pattern)
    cured = inspect(options.but(mask_pattern=offered))
    assert (len(cured.records), cured.faults) == (4, [])


def test_files_without_content_are_told_apart(tmp_path: Path):
    write_pairs(tmp_path, 5)
    images = tmp_path / "images"
    (images / "img_00.png").write_bytes(b"")
    (images / "img_01.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (images / "img_02.png").unlink()
    (images / "img_02.png").symlink_to("nowhere.png")
    report = inspect(CheckConfig(images=images, masks=tmp_path / "masks")).report()
    assert "img_00.png: cannot be read as a picture (it is empty, 0 bytes)" in report
    assert "git lfs pull" in report
    assert "img_02.png: links to nowhere.png, which is not there" in report


def test_a_folder_of_other_files_says_what_is_there(tmp_path: Path):
    write_pairs(tmp_path, 1)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "img_00.dcm").write_bytes(bytes(200))
    with pytest.raises(ConfigError, match=r"1 \.dcm.*PNG or TIFF"):
        list_pairs(tmp_path / "scans", tmp_path / "masks")


def test_all_pages_are_offered_only_if_masks_have_them(tmp_path: Path):
    write_pairs(tmp_path, 2)
    size = Image.open(tmp_path / "masks" / "img_00.png").size[::-1]
    (tmp_path / "images" / "img_00.png").unlink()
    tifffile.imwrite(tmp_path / "images" / "img_00.tif", np.zeros((3, *size), np.uint16), photometric="minisblack")
    (remark,) = [
        one
        for one in inspect(CheckConfig(images=tmp_path / "images", masks=tmp_path / "masks")).remarks
        if one.kind == "dropped_pages"
    ]
    assert "--pages all" not in remark.cure


def test_a_set_without_any_foreground_is_no_set_to_learn_from(tmp_path: Path):
    write_pairs(tmp_path, 2)
    options = CheckConfig(images=tmp_path / "images", masks=tmp_path / "masks")
    ignored = inspect(options.but(ignore_value=(255,)))
    (remark,) = [one for one in ignored.remarks if one.kind == "empty_masks"]
    assert "nothing to learn" in remark.text
    assert "--ignore-value" in remark.cure
