import builtins
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam_adapter.annotations.huggingface import list_dataset
from sam_adapter.annotations.sources import listing_of
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError

datasets: Any = pytest.importorskip("datasets")


def write_pictures(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """Grey JPEG images and palette masks."""
    folder.mkdir(parents=True, exist_ok=True)
    images, masks = [], []
    for index in range(count):
        image, mask = folder / f"photo {index}.jpg", folder / f"label_{index}.png"
        Image.new("RGB", (20 + index, 10), (index * 20, 80, 90)).save(image)
        values = np.zeros((10, 20 + index), np.uint8)
        values[2:5, 3:9] = index % 3
        picture = Image.fromarray(values, "P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        picture.save(mask)
        images.append(str(image))
        masks.append(str(mask))
    return images, masks


def dataset_of(folder: Path, count: int = 3, *, columns: tuple[str, str] = ("image", "mask"), **more: list) -> Any:
    pictures = dict(zip(columns, write_pictures(folder, count), strict=True))
    made = datasets.Dataset.from_dict({**pictures, **more})
    for column in columns:
        made = made.cast_column(column, datasets.Image())
    return made


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A dataset of two splits, as `save_to_disk` leaves it: its pictures' own files are gone."""
    both = {"train": dataset_of(tmp_path / "a", 3), "test": dataset_of(tmp_path / "b", 2)}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "saved")
    for folder in ("a", "b"):
        for path in (tmp_path / folder).iterdir():
            path.rename(tmp_path / f"former_{folder}_{path.name}")
    return tmp_path / "saved"


def test_pictures_are_written_byte_for_byte_and_paired(saved: Path, tmp_path: Path):
    listing = list_dataset(str(saved), split="train", cache=tmp_path / "kept")
    assert [record.name for record in listing.records] == ["000000_photo_0", "000001_photo_1", "000002_photo_2"]
    assert listing.problems == []
    for index, record in enumerate(listing.records):
        assert record.image.read_bytes() == (tmp_path / f"former_a_photo {index}.jpg").read_bytes()
        assert record.mask.read_bytes() == (tmp_path / f"former_a_label_{index}.png").read_bytes()
        assert (record.image.suffix, record.mask.suffix) == (".jpeg", ".png")
    assert np.asarray(Image.open(listing.records[2].mask)).max() == 2  # the index, not its colour


def test_what_is_unchanged_is_not_written_again(saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    kept = tmp_path / "kept"
    first = list_dataset(str(saved), split="train", cache=kept)
    assert f"The pictures of {saved} (3 rows) are kept in {kept}" in caplog.text
    caplog.clear()
    again = list_dataset(str(saved), split="train", cache=kept)
    assert again.records == first.records
    assert caplog.text == ""
    other = list_dataset(str(saved), split="test", cache=kept)
    assert {record.image.parent for record in other.records}.isdisjoint(
        {record.image.parent for record in first.records}
    )
    changed = datasets.DatasetDict({"train": dataset_of(tmp_path / "c", 5)})
    changed.save_to_disk(saved)
    assert len(list_dataset(str(saved), split="train", cache=kept).records) == 5
    assert not [path for path in kept.iterdir() if path.name.startswith(".")]


def test_splits(saved: Path, tmp_path: Path):
    kept = tmp_path / "kept"
    assert len(list_dataset(str(saved), split="train+test", cache=kept).records) == 5
    with pytest.raises(ConfigError, match=r"has the splits train \(3\), test \(2\); choose one"):
        list_dataset(str(saved), cache=kept)
    with pytest.raises(ConfigError, match=r"has no split 'val'; it has train \(3\), test \(2\)"):
        list_dataset(str(saved), split="val", cache=kept)
    assert len(list_dataset(str(saved / "test"), cache=kept).records) == 2
    with pytest.raises(ConfigError, match="has no splits; leave it out"):
        list_dataset(str(saved / "test"), split="test", cache=kept)


def test_options_choose_columns_split_and_cache(tmp_path: Path):
    made = dataset_of(tmp_path / "a", columns=("photo", "label"), kind=[1, 2, 3])
    datasets.DatasetDict({"train": made, "test": made.select([1])}).save_to_disk(tmp_path / "saved")
    options = DataOptions(
        dataset=str(tmp_path / "saved"),
        split="test",
        image_column="photo",
        mask_column="label",
        dataset_cache=tmp_path / "kept",
    )
    (record,) = listing_of(options).records
    assert record.image.is_relative_to(tmp_path / "kept")
    assert Image.open(record.image).size == (21, 10)
    with pytest.raises(ConfigError, match=r"has the columns photo, label, kind and no column mask"):
        listing_of(options.but(mask_column="mask"))
    with pytest.raises(ConfigError, match=r"the column kind of .* holds Value\(.*int64.*\); expected pictures"):
        listing_of(options.but(mask_column="kind"))


def test_a_folder_of_pictures_with_metadata(tmp_path: Path):
    images, masks = write_pictures(tmp_path / "set", 3)
    lines = [
        "file_name,mask_file_name",
        *(f"{Path(a).name},{Path(b).name}" for a, b in zip(images, masks, strict=True)),
    ]
    (tmp_path / "set/metadata.csv").write_text("\n".join(lines) + "\n")
    listing = list_dataset(str(tmp_path / "set"), cache=tmp_path / "kept")
    assert len(listing.records) == 3
    assert listing.records[1].mask.read_bytes() == Path(masks[1]).read_bytes()


def test_a_row_without_a_picture_is_named(tmp_path: Path):
    images, masks = write_pictures(tmp_path / "a", 3)
    rows = {"image": images, "mask": [masks[0], None, masks[2]]}
    made = datasets.Dataset.from_dict(rows)
    for column in rows:
        made = made.cast_column(column, datasets.Image())
    made.save_to_disk(tmp_path / "saved")
    listing = list_dataset(str(tmp_path / "saved"), cache=tmp_path / "kept")
    assert [record.name for record in listing.records] == ["000000_photo_0", "000002_photo_2"]
    assert [str(problem) for problem in listing.problems] == [
        f"{tmp_path / 'saved'}: row 1 has no mask. What helps: fill it in, or leave the row out."
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("owner/name", r"dataset: 'owner/name' is neither a folder nor can it be loaded by its id \(.+\)\.$"),
        ("./nowhere", r"dataset: './nowhere' is not a folder\.$"),
        ("FOLDER/empty", r"dataset: '.*empty' is neither a folder nor can it be loaded by its id \(.+\)\.$"),
    ],
)
def test_what_cannot_be_loaded_is_named_in_one_sentence(tmp_path: Path, name: str, text: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=text) as error:
        list_dataset(name.replace("FOLDER", str(tmp_path)), cache=tmp_path / "kept")
    assert "\n" not in str(error.value)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    plain = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return plain(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs the package datasets\. Install it with pip install 'sam-adapter\[da"):
        list_dataset("owner/name")
