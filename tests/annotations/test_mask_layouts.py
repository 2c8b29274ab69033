from pathlib import Path

import numpy as np
import pytest
from annotation_files import SIZES, write_images
from PIL import Image

from sam_adapter.annotations.folders import list_pairs
from sam_adapter.annotations.listing import Listing
from sam_adapter.annotations.sources import listing_of
from sam_adapter.config.choices import MaskLayout
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError


def write_masks(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 40), 255).save(path)


def listed(folder: Path, layout: MaskLayout, pattern: str = "{stem}") -> Listing:
    images = write_images(folder)
    return listing_of(DataOptions(images=images, masks=folder / "masks", mask_layout=layout, mask_pattern=pattern))


def files_of(listing: Listing, folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Name of each record to class and mask of each of its objects."""
    found = {}
    for record in listing.records:
        assert record.objects is not None
        found[record.name] = [
            (one.class_name, one.file.relative_to(folder / "masks").as_posix()) for one in record.objects if one.file
        ]
    return found


def test_a_folder_a_class(tmp_path: Path):
    write_masks(tmp_path, "car/day1/a.png", "bus/day1/a.png", "car/c.tif", "zebra/day2/x.png")
    (tmp_path / "masks/car/notes.txt").write_text("no picture")
    listing = listed(tmp_path, "folder_per_class")
    assert listing.class_names == ("bus", "car", "zebra")
    assert files_of(listing, tmp_path) == {
        "c": [("car", "car/c.tif")],
        "day1/a": [("bus", "bus/day1/a.png"), ("car", "car/day1/a.png")],
        "day1/b": [],
    }
    assert listing.masks_without_image == [tmp_path / "masks/zebra/day2/x.png"]
    assert listing.ignored == 1
    assert listing.images_without_mask == []
    record = listing.records[1]
    assert record.mask == tmp_path / "masks"
    assert record.files[2:] == (tmp_path / "masks/bus/day1/a.png", tmp_path / "masks/car/day1/a.png")
    assert [one.entry for one in record.objects or ()] == ["bus/day1/a.png", "car/day1/a.png"]


def test_a_folder_an_image(tmp_path: Path):
    write_masks(tmp_path, "day1/a/1.png", "day1/a/0.png", "c/nucleus.png", "d/0.png")
    np.save(tmp_path / "masks/c/other.npy", np.ones((42, 62), np.uint8))
    (tmp_path / "masks/day1/b").mkdir()
    listing = listed(tmp_path, "folder_per_image")
    assert listing.class_names == ("object",)
    assert files_of(listing, tmp_path) == {
        "c": [("object", "c/nucleus.png"), ("object", "c/other.npy")],
        "day1/a": [("object", "day1/a/0.png"), ("object", "day1/a/1.png")],
        "day1/b": [],
    }
    assert [record.mask.relative_to(tmp_path / "masks").as_posix() for record in listing.records] == [
        "c",
        "day1/a",
        "day1/b",
    ]
    assert listing.masks_without_image == [tmp_path / "masks/d/0.png"]
    (tmp_path / "masks/day1/b").rmdir()
    listing = listed(tmp_path, "folder_per_image")
    assert listing.images_without_mask == [tmp_path / "images/day1/b.png"]
    assert len(listing.records) == 2


def test_the_data_science_bowl_s_own_folders(tmp_path: Path):
    for name in (
        "a/images/a.png",
        "a/masks/0.png",
        "a/masks/1.png",
        "b/images/b.png",
        "c/images/c.png",
        "d/masks/2.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 40), 255).save(path)
    (tmp_path / "c/masks").mkdir()
    options = DataOptions(images=tmp_path, masks=tmp_path, mask_layout="folder_per_image")
    listing = listing_of(options)
    assert [(record.name, record.image.name, len(record.objects or ())) for record in listing.records] == [
        ("a", "a.png", 2),
        ("c", "c.png", 0),
    ]
    assert listing.images_without_mask == [tmp_path / "b/images/b.png"]
    assert listing.masks_without_image == [tmp_path / "d/masks/2.png"]
    with pytest.raises(ConfigError, match="has no folder with an image in images/ and masks in masks/"):
        listing_of(options.but(images=tmp_path / "a", masks=tmp_path / "a"))


def test_names_follow_the_pattern(tmp_path: Path):
    write_masks(tmp_path / "classes", "car/day1/mask_a.png", "bus/c.png")
    listing = listed(tmp_path / "classes", "folder_per_class", "mask_{stem}")
    # The pattern's own names, and no others, lose what it adds.
    assert files_of(listing, tmp_path / "classes")["day1/a"] == [("car", "car/day1/mask_a.png")]
    write_masks(tmp_path / "images", "day1/a_cells/1.png")
    listing = listed(tmp_path / "images", "folder_per_image", "{stem}_cells")
    assert files_of(listing, tmp_path / "images") == {"day1/a": [("object", "day1/a_cells/1.png")]}


def test_two_masks_of_one_class_are_named(tmp_path: Path):
    write_masks(tmp_path, "car/c.png", "car/c.tif", "car/day1/a.png")
    listing = listed(tmp_path, "folder_per_class")
    assert listing.duplicates == [[tmp_path / "masks/car/c.png", tmp_path / "masks/car/c.tif"]]
    assert "c" not in files_of(listing, tmp_path)


@pytest.mark.parametrize(
    ("layout", "masks", "text"),
    [
        ("folder_per_class", ["a.png"], "holds no folders, as the mask layout has it"),
        ("folder_per_image", [], "is not a folder"),
        ("folder_per_class", ["car/other.png"], "expected CLASS/STEM.png with a stem such as 'c', got 'other'"),
        ("folder_per_image", ["a.png", "car/c.png"], "expected STEM/*.png with a stem such as 'c', got 'car'"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, layout: MaskLayout, masks: list[str], text: str):
    write_masks(tmp_path, *masks)
    with pytest.raises(ConfigError) as error:
        listed(tmp_path, layout)
    assert text in str(error.value)


def test_arrays_are_masks_but_no_images(tmp_path: Path):
    images = write_images(tmp_path)
    write_masks(tmp_path, "c.png")
    np.save(images / "d.npy", np.zeros((4, 4)))
    (tmp_path / "masks/day1").mkdir()
    np.save(tmp_path / "masks/day1/a.npy", np.zeros(SIZES["day1/a"], np.int32))
    listing = list_pairs(images, tmp_path / "masks")
    assert [(record.name, record.mask.name) for record in listing.records] == [("c", "c.png"), ("day1/a", "a.npy")]
    assert listing.ignored == 1
