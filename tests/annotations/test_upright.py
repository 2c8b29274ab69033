"""Rows of a picture in Pillow's memory against the whole picture, of every kind and orientation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_adapter.annotations.reading import files
from sam_adapter.annotations.reading.decoding import decode
from sam_adapter.annotations.reading.files import picture_from_pillow, read_image, read_picture, rgb
from sam_adapter.errors import DataError
from sam_adapter.preprocessing import Preprocessing

SIZE = (13, 17)


def noise(mode: str) -> Image.Image:
    """A picture of a mode with an even spread of values."""
    colour = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)
    if mode == "P":
        return Image.fromarray(colour[..., :3]).quantize(7)
    if mode == "I;16":
        return Image.fromarray(colour[..., 0].astype(np.uint16) * 200)
    return Image.fromarray(colour).convert(mode) if mode != "LA" else Image.fromarray(colour[..., :2])


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_the_same_in_strips_and_in_pillows_memory(
    tmp_path: Path, mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(mode).save(tmp_path / "a.png", exif=exif)
    whole = rgb(decode(tmp_path / "a.png"))
    if mode != "I;16":
        upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
        assert upright is not None
        assert np.array_equal(whole, np.asarray(upright.convert("RGBA"))[..., :3])
    monkeypatch.setattr(files, "STRIP_PIXELS", 40)
    assert np.array_equal(read_image(tmp_path / "a.png"), whole)
    picture = read_picture(tmp_path / "a.png")
    assert isinstance(picture, Image.Image) == (mode in ("RGB", "L") and orientation == 1)
    with Image.open(tmp_path / "a.png") as image:
        for size in (8, 64):
            wanted = Preprocessing(image_size=size).resized(whole)
            for found in (picture, picture_from_pillow(image)):
                assert np.array_equal(Preprocessing(image_size=size).resized(found), wanted)
            square = Preprocessing(image_size=size, resize="squash")
            assert np.array_equal(square.resized(picture), square.resized(whole))


def test_channels_without_a_meaning_are_told_when_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noise("RGB").convert("LAB").save(tmp_path / "lab.tif")
    monkeypatch.setattr(Image.Image, "convert", _refuse)
    with pytest.raises(DataError, match=r"lab\.tif: cannot be read as a picture \(no way to RGB\)"):
        read_picture(tmp_path / "lab.tif")


def _refuse(*_: object) -> None:
    raise ValueError("no way to RGB")


@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "tif", "webp", "gif", "ppm"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_outlives_its_file_in_every_format(tmp_path: Path, kind: str, mode: str):
    noise(mode).save(tmp_path / f"a.{kind}")
    picture, whole = read_picture(tmp_path / f"a.{kind}"), read_image(tmp_path / f"a.{kind}")
    (tmp_path / f"a.{kind}").unlink()
    resized = Preprocessing(image_size=8).resized
    assert np.array_equal(resized(picture), resized(whole))
