"""How `evaluate` reads pictures and masks, and where it may write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import write_pairs
from evaluation_runs import eight_pairs, rows_of, scored
from sam_adapter import load
from sam_adapter.annotations.reading.brightness import Brightness
from sam_adapter.annotations.reading.rules import ReadingRules
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("eval"))


def test_faulty_pairs_are_refused_or_left_out(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    folder = write_pairs(tmp_path / "pairs", 3)
    (folder / "masks/img_01.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="img_01"):
        scored(folder, adapters["one"], tmp_path / "e")
    result = scored(folder, adapters["one"], tmp_path / "e", faulty="skip")
    assert (result["images"], result["skipped_faulty"]) == (2, 1)
    assert [row["name"] for row in rows_of(tmp_path / "e")] == ["img_00", "img_02"]


def test_deep_pictures_have_the_brightness_of_each_adapter(adapters: dict[str, Path], tmp_path: Path, sam_folder: str):
    """As 8-bit pictures made with that scale; the frozen base has that of the adapter beside it."""
    deep, plain = write_pairs(tmp_path / "deep", 3), write_pairs(tmp_path / "plain", 3)
    for path in (deep / "images").iterdir():
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 4
        Image.fromarray(values).save(path)
        eight = np.round(values / 3600 * 255).astype(np.uint8)
        Image.fromarray(np.repeat(eight[..., None], 3, 2)).save(plain / "images" / path.name)
    segmenter = load(adapters["one"], model=sam_folder)
    segmenter.reading = ReadingRules(brightness=Brightness(integer=(0, 3600)))
    save_adapter(tmp_path / "scaled", segmenter)
    options = {"with_frozen": True, "compare": (adapters["one"],)}
    result = scored(deep, tmp_path / "scaled", tmp_path / "a", **options)
    expected = scored(plain, tmp_path / "scaled", tmp_path / "b", **options)
    assert result["mae"] == pytest.approx(expected["mae"])
    assert result["frozen"]["mae"] == pytest.approx(expected["frozen"]["mae"])
    assert result["compared"]["one"]["mae"] != pytest.approx(result["mae"])  # the set's own scale, without another


def test_inverted_masks(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    folder = write_pairs(tmp_path / "pairs", 3)
    right = scored(folder, adapters["one"], tmp_path / "a")
    for path in (folder / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert scored(folder, adapters["one"], tmp_path / "b")["iou"] != right["iou"]
    assert scored(folder, adapters["one"], tmp_path / "c", mask_invert=True)["iou"] == right["iou"]


def test_pages_of_files_are_scored_alone_or_all(adapters: dict[str, Path], tmp_path: Path):
    single, folder = write_pairs(tmp_path / "single", 4, size=(48, 48)), tmp_path / "pages"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        files = sorted((single / kind).iterdir())
        pages = [Image.open(path).resize((60, 48), Image.Resampling.NEAREST) for path in files]
        pages[0].save(folder / kind / "stack.tif", save_all=True, append_images=pages[1:])
        for path, page in zip(files, pages, strict=True):
            page.save(path)
    result = scored(folder, adapters["one"], tmp_path / "all", pages="all")
    assert result["images"] == 4
    assert result["iou"] == pytest.approx(scored(single, adapters["one"], tmp_path / "one")["iou"])
    assert scored(folder, adapters["one"], tmp_path / "first", pages="first")["images"] == 1


def test_too_large_pictures_are_refused(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    with pytest.raises(DataError, match="pixels"):
        scored(pairs, adapters["one"], tmp_path, max_pixels=1000)


def test_masks_are_found_by_their_pattern(adapters: dict[str, Path], tmp_path: Path):
    folder = write_pairs(tmp_path / "pairs", 2)
    for path in list((folder / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert scored(folder, adapters["one"], tmp_path / "e", mask_pattern="{stem}_mask")["images"] == 2


def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    pairs: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: Any) -> None:
        raise AssertionError("the set was read already")

    monkeypatch.setattr("sam_adapter.evaluation.evaluate.inspect", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output: .* is a file"):
        scored(pairs, adapters["one"], tmp_path / "file" / "scores")
