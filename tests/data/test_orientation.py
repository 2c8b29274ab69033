from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_adapter.annotations.reading.files import read_image
from sam_adapter.data.inspection.orientation import fit_of_raster


def write_turned(folder: Path, orientation: int, size: tuple[int, int] = (120, 120)) -> tuple[np.ndarray, np.ndarray]:
    """An image stored as ``stored.png`` under an orientation; returns raster and the disc's mask on it."""
    rng = np.random.default_rng(0)
    mask = cv2.circle(np.zeros(size, np.uint8), (30, 40), 22, 1, -1).astype(bool)
    raster = np.clip(80 + rng.normal(0, 10, (*size, 3)) + mask[..., None] * 90, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(raster).save(folder / "stored.png", exif=exif)
    return raster, mask


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_of_the_stored_raster_fits_it_and_one_of_the_view_does_not(tmp_path: Path, orientation: int):
    raster, mask = write_turned(tmp_path, orientation)
    view = read_image(tmp_path / "stored.png")
    assert fit_of_raster(view, mask, orientation) > 2
    turned = Image.fromarray(mask)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "mask.png", exif=exif)
    of_view = read_image(tmp_path / "mask.png")[..., 0] > 0
    assert fit_of_raster(view, of_view, orientation) < 0.5
    assert not np.array_equal(raster, view)


def test_without_an_outline_nothing_is_said():
    image = np.zeros((40, 60, 3), np.uint8)
    assert fit_of_raster(image, np.zeros((40, 60), bool), 3) == 1
    assert fit_of_raster(image, np.ones((40, 60), bool), 6) == 1
