from pathlib import Path

import pytest
from annotation_files import SIZES, write_images
from PIL import Image

from sam_adapter.annotations.listing import Listing
from sam_adapter.annotations.sources import listing_of
from sam_adapter.annotations.table import list_table
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError


def write_masks(folder: Path) -> None:
    for name, (height, width) in SIZES.items():
        path = folder / "masks" / f"{Path(name).name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (width, height), 255).save(path)


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    write_images(folder)
    write_masks(folder)
    path = folder / "set.csv"
    path.write_text(text, encoding=encoding)
    return path


def pairs(listing: Listing, folder: Path) -> list[tuple[str, str, str]]:
    below = [(one.name, one.image.relative_to(folder), one.mask.relative_to(folder)) for one in listing.records]
    return [(name, image.as_posix(), mask.as_posix()) for name, image, mask in below]


EXPECTED = [("c", "images/c.png", "masks/c.png"), ("day1/a", "images/day1/a.png", "masks/a.png")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("image,mask\nimages/day1/a.png,masks/a.png\nimages/c.png,masks/c.png\n", "utf-8"),
        ("mask;note;Image\r\nmasks/a.png;;images/day1/a.png\r\n\r\nmasks/c.png;x;./images/c.png\r\n", "utf-8-sig"),
        ("sep=;\nimage;mask\nimages\\day1\\a.png;masks\\a.png\nimages/c.png;masks/c.png", "utf-8"),
        ('image\tmask\n"images/day1/a.png"\t masks/a.png \nimages/c.png\tmasks/c.png\n', "utf-16"),
        ("image,mask\nFOLDER/images/day1/a.png,FOLDER/masks/a.png\nimages/day1/../c.png,masks/c.png\n", "utf-8"),
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, text: str, encoding: str):
    listing = list_table(write(tmp_path, text.replace("FOLDER", str(tmp_path)), encoding))
    assert listing.problems == []
    assert pairs(listing, tmp_path) == EXPECTED
    assert listing.groups == {}


SPLIT = """image,mask,split,group
images/day1/a.png,masks/a.png,train,patient 1
images/day1/b.png,masks/b.png,test,patient 2
images/c.png,masks/c.png,train,patient 1
images/gone.png,masks/gone.png,never,
"""


def test_splits_and_groups(tmp_path: Path):
    path = write(tmp_path, SPLIT)
    listing = list_table(path, split="train")
    assert pairs(listing, tmp_path) == EXPECTED
    assert listing.groups == {"c": "patient 1", "day1/a": "patient 1"}
    assert pairs(list_table(path, split="test"), tmp_path) == [("day1/b", "images/day1/b.png", "masks/b.png")]
    assert len(list_table(path, split="test+train").records) == 3
    with pytest.raises(ConfigError, match=r"rows of the splits train \(2\), test \(1\), never \(1\); choose one"):
        list_table(path)
    with pytest.raises(ConfigError, match=r"no rows of the split 'val'; it has train \(2\)"):
        list_table(path, split="val")
    text = path.read_text().replace("split,", "part,")
    with pytest.raises(ConfigError, match="has no column split; leave it out"):
        list_table(write(tmp_path, text), split="train")
    assert len(list_table(write(tmp_path, text.replace("gone", "c"))).records) == 2


def test_options_choose_columns_and_split(tmp_path: Path):
    text = SPLIT.replace("image,mask", "photo,label")
    options = DataOptions(table=write(tmp_path, text), split="test", image_column="photo", mask_column="label")
    assert pairs(listing_of(options), tmp_path) == [("day1/b", "images/day1/b.png", "masks/b.png")]
    with pytest.raises(ConfigError, match="and no column mask"):
        listing_of(options.but(mask_column="mask"))


GOOD = "images/day1/b.png,masks/b.png,g"
MALFORMED = {
    "no mask": ("images/c.png,,g", "has no mask"),
    "no image": (",masks/c.png,g", "has no image"),
    "a short row": ("images/c.png", "has no mask"),
    "no group": ("images/c.png,masks/c.png,", "has no group"),
    "image is missing": ("images/gone.png,masks/c.png,g", "gone.png', which is not there"),
    "mask is missing": ("images/c.png,masks/gone.png,g", "names the mask "),
    "a folder": ("images,masks/c.png,g", "images', which is a folder"),
    "an image twice": ("images/day1/../day1/b.png,masks/c.png,g", "of row 2 too"),
    "image and mask are one": ("images/c.png,images/c.png,g", "as image and as mask"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_row_is_named_with_its_file_in_one_sentence(tmp_path: Path, case: str):
    row, text = MALFORMED[case]
    path = write(tmp_path, f"image,mask,group\n{GOOD}\n\n{row}\n")
    listing = list_table(path)
    (problem,) = listing.problems
    assert problem.path == path
    assert problem.text.startswith("row 4 ")
    assert text in problem.text
    assert [record.image.name for record in listing.records] == ([] if case == "an image twice" else ["b.png"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "has no rows below the names of its columns"),
        (b"image,mask\n", "has no rows below the names of its columns"),
        (b"image,masks\na,b\n", "has the columns image, masks and no column mask. '--image-column' and"),
        (b"a b\nc d\n", "has the columns a b and no column image and no column mask."),
        (b"image,mask,Mask\na,b,c\n", "has the column mask twice."),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b"image,mask\n" + b"x" * 200_000 + b",m\n", "cannot be read as a table (field larger"),
    ],
)
def test_a_file_that_is_no_table_is_named_in_one_sentence(tmp_path: Path, content: bytes, text: str):
    path = tmp_path / "set.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        list_table(path)
    assert str(error.value).startswith(f"table: '{path}' {text}")


def test_a_table_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"table: '.*set.csv' cannot be read \(No such file"):
        list_table(tmp_path / "set.csv")


def test_images_of_one_name_are_named(tmp_path: Path):
    path = write(
        tmp_path, "image,mask\nimages/c.png,masks/c.png\nimages/c.jpg,masks/c.png\nimages/day1/a.png,masks/a.png"
    )
    Image.new("RGB", (9, 9)).save(tmp_path / "images/c.jpg")
    listing = list_table(path)
    assert [record.name for record in listing.records] == ["day1/a"]
    assert listing.duplicates == [[tmp_path / "images/c.png", tmp_path / "images/c.jpg"]]
