from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import DATA, needs_shared
from sam_adapter.annotations.reading.files import image_size, read_image, read_mask
from sam_adapter.annotations.reading.values import MaskTable, ValueTable
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import DataError


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


GRADIENT = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def test_grey_palette_and_alpha_become_rgb(tmp_path: Path):
    grey = Image.fromarray(GRADIENT)
    for mode in ("L", "P", "RGBA", "LA", "RGB"):
        pixels = read_image(saved(tmp_path / f"{mode}.png", grey.convert(mode)))
        assert pixels.shape == (4, 6, 3)
        assert np.array_equal(pixels[..., 0], GRADIENT), mode


def test_alpha_is_dropped_not_composited(tmp_path: Path):
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[..., 3] = 0
    assert (read_image(saved(tmp_path / "a.png", Image.fromarray(rgba))) == 200).all()


def test_one_bit_is_black_and_white(tmp_path: Path):
    pixels = read_image(saved(tmp_path / "1.png", Image.fromarray(TRUTH)))
    assert np.array_equal(pixels, np.repeat(TRUTH[:, :, None] * np.uint8(255), 3, 2))


def test_pictures_above_a_limit_are_refused(tmp_path: Path):
    path = saved(tmp_path / "a.png", Image.fromarray(GRADIENT))
    assert read_image(path, max_pixels=24).shape == (4, 6, 3)
    with pytest.raises(DataError):
        read_image(path, max_pixels=23)


@pytest.mark.parametrize(("largest", "bits"), [(200, 8), (4095, 12), (3000, 12), (65535, 16)])
def test_16_bit_is_scaled_by_its_depth(tmp_path: Path, largest: int, bits: int):
    values = np.linspace(0, largest, 24).astype(np.uint16).reshape(4, 6)
    pixels = read_image(saved(tmp_path / "deep.png", Image.fromarray(values)))
    assert np.array_equal(pixels[..., 0], np.round(values * (255 / (2**bits - 1))).astype(np.uint8))


def test_floating_point(tmp_path: Path):
    values = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    pixels = read_image(saved(tmp_path / "f.tif", Image.fromarray(values)))
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_exif_rotation(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    path = saved(tmp_path / "turned.png", Image.fromarray(GRADIENT), exif=exif)
    assert np.array_equal(read_image(path)[..., 0], np.rot90(GRADIENT, -1))
    assert image_size(path) == (6, 4)


def mask(path: Path, values, mode: str | None = None) -> Path:
    return saved(path, Image.fromarray(np.asarray(values, dtype=np.uint8)).convert(mode or "L"))


TRUTH = np.array([[0, 0, 1], [0, 1, 1]], dtype=bool)


def test_masks_of_every_kind(tmp_path: Path):
    palette = Image.fromarray(TRUTH.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    inverted = Image.fromarray((~TRUTH).astype(np.uint8)).convert("P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    grey_alpha = Image.merge("LA", [Image.fromarray(TRUTH.astype(np.uint8) * 255), Image.new("L", (3, 2), 255)])
    files = [
        mask(tmp_path / "01.png", TRUTH),
        mask(tmp_path / "0255.png", TRUTH * 255),
        saved(tmp_path / "p.png", palette),
        saved(tmp_path / "q.png", inverted),
        saved(tmp_path / "1.png", Image.fromarray(TRUTH)),
        saved(tmp_path / "1.tif", Image.fromarray(TRUTH)),
        saved(tmp_path / "16.png", Image.fromarray(TRUTH.astype(np.uint16) * 65535)),
        saved(tmp_path / "32.tif", Image.fromarray(TRUTH.astype(np.int32) * 7)),
        saved(tmp_path / "f.tif", Image.fromarray(TRUTH.astype(np.float32))),
        saved(tmp_path / "la.png", grey_alpha),
        saved(tmp_path / "rgb.png", Image.fromarray(np.repeat(TRUTH[:, :, None], 3, 2).astype(np.uint8) * 255)),
    ]
    deep = tmp_path / "rgb16.png"  # grey at 16 bits, in three channels
    cv2.imwrite(str(deep), np.repeat(TRUTH[:, :, None], 3, 2).astype(np.uint16) * 65535)
    for path in [*files, deep]:
        foreground, valid = read_mask(path)
        assert np.array_equal(foreground, TRUTH), path
        assert valid is None


def test_soft_edges_are_cut_half_way(tmp_path: Path):
    edges = np.zeros((40, 40), np.uint8)
    edges[5:35, 5:35] = 255
    edges[4, 5:35] = np.linspace(20, 120, 30)
    edges[35, 5:35] = np.linspace(130, 240, 30)
    foreground, _ = read_mask(mask(tmp_path / "edges.png", edges))
    assert foreground.sum() == 31 * 30


@pytest.mark.parametrize(("value", "filled"), [(0, False), (1, True), (255, True)])
def test_masks_of_one_value(tmp_path: Path, value: int, filled: bool):
    values, _ = read_mask(mask(tmp_path / "one.png", np.full((3, 3), value)))
    assert values.all() == filled
    assert values.any() == filled


def test_class_indices_are_not_guessed_at(tmp_path: Path):
    path = mask(tmp_path / "classes.png", [[0, 1], [2, 3]])
    with pytest.raises(DataError, match=r"classes: 0, 1, 2, 3.*nonzero"):
        read_mask(path)


def test_a_mask_stored_otherwise_than_those_of_its_set_is_refused(tmp_path: Path):
    table = MaskTable(tables=(ValueTable(storage="8 bit", rule="values", low=(0.0,), high=(1.0,)),))
    path = saved(tmp_path / "16.png", Image.fromarray(TRUTH.astype(np.uint16)))
    with pytest.raises(DataError, match=r"16\.png: holds its values as '16 bit', but the masks of this set as 8 bit"):
        read_mask(path, table)


@needs_shared(DATA / "odd_files")
def test_odd_files_all_load():
    folder = DATA / "odd_files"
    found = inspect(CheckConfig(images=folder / "images", masks=folder / "masks"))
    assert len(found.records) == 7
    assert not found.faults
    assert found.rules.masks is not None
    assert found.rules.masks.described() == {
        "8 bit: 0-127": "background",
        "8 bit: 128-255": "foreground",
        "palette: 0": "background",
        "palette: 1": "foreground",
    }
    # The rotated photograph was turned: its upper left corner is the stored picture's lower right one.
    stored = np.asarray(Image.open(folder / "images/exif_rotated_180.jpg"))
    assert np.array_equal(read_image(folder / "images/exif_rotated_180.jpg"), stored[::-1, ::-1])
