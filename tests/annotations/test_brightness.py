"""One brightness for a set of deep pictures, whatever single pixels or missing data say."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_adapter.annotations.reading.brightness import Brightness, depth_of
from sam_adapter.annotations.reading.files import read_image
from sam_adapter.annotations.reading.pictures import brightness_for, list_pages
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import DataError
from sam_adapter.preprocessing import Preprocessing


def ground(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(100, 180, (40, 60)).astype(np.uint16)


def write_set(folder: Path, pixels: list[np.ndarray]) -> CheckConfig:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index, one in enumerate(pixels):
        tifffile.imwrite(folder / "images" / f"{index}.tif", one)
        mask = np.zeros(one.shape[:2], np.uint8)
        mask[5:20, 5:20] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    return CheckConfig(images=folder / "images", masks=folder / "masks")


def test_hot_pixels_change_nothing_and_are_said(tmp_path: Path):
    pictures = [ground(index) * 5 for index in range(6)]
    for one in pictures[::2]:
        one[3, 3:10] = 65535  # 0.3 % of the pixels
    found = inspect(write_set(tmp_path, pictures))
    hot = [remark for remark in found.remarks if remark.kind == "hot_pixels"]
    assert [path.name for path in hot[0].files] == ["0.tif", "2.tif", "4.tif"]
    assert found.rules.brightness is not None
    assert found.rules.brightness.integer == (0, 1023)
    means = [read_image(record.image, found.rules.brightness).mean() for record in found.records]
    assert max(means) - min(means) < 3
    assert min(means) > 100


@pytest.mark.parametrize("missing", [-9999, -3.4e38, 3.4e38, np.nan, np.inf, -np.inf, -5e4])
@pytest.mark.parametrize("rows", [1, 12])
def test_missing_data_of_floating_point_change_nothing(tmp_path: Path, missing: float, rows: int):
    pictures = [ground(index).astype(np.float32) / 255 for index in range(4)]
    for one in pictures[1:]:
        one[:rows] = missing
    found = inspect(write_set(tmp_path, pictures))
    assert found.rules.brightness is not None
    assert found.rules.brightness.floating == (0, 1)
    assert "no_data" in [remark.kind for remark in found.remarks]
    first, second = (read_image(record.image, found.rules.brightness)[:, :, 0] for record in found.records[:2])
    assert np.array_equal(first, np.rint(ground(0)))
    assert np.array_equal(second[rows:], np.rint(ground(1)[rows:]))
    assert not second[:rows].any()


def test_signed_numbers_with_customary_missing_data(tmp_path: Path):
    pictures = [ground(index).astype(np.int16) * 10 for index in range(4)]
    pictures[0][:5] = -9999
    found = inspect(write_set(tmp_path, pictures))
    assert found.rules.brightness is not None
    assert found.rules.brightness.integer == (0, 2047)


def radar(index: int) -> np.ndarray:
    """Backscatter in decibel: speckle, a brighter field, and a ship above zero."""
    rng = np.random.default_rng(index)
    power = rng.gamma(4, 0.01, (80, 120))
    power[20:40, 30:60] *= 8
    power[50:52, 50:54] = 30
    return (10 * np.log10(power)).astype(np.float32)


@pytest.mark.parametrize(
    ("border", "kind"),
    [*((fill, np.float32) for fill in (0, -np.inf, np.nan, -99, -9999)), (0, np.int16), (-9999, np.int16)],
)
def test_radar_in_decibel_has_a_scale_of_its_own_whatever_fills_its_border(tmp_path: Path, border: float, kind):
    factor = 100 if kind == np.int16 else 1
    pictures = [(radar(index) * factor).astype(kind) for index in range(4)]
    plain = inspect(write_set(tmp_path / "plain", pictures)).rules.brightness
    assert plain is not None
    span = plain.integer if kind == np.int16 else plain.floating
    assert span is not None
    assert -30 < span[0] / factor < -15
    assert -12 < span[1] / factor < 5
    for one in pictures[::2]:
        one[:, :25] = border
    found = inspect(write_set(tmp_path / "filled", pictures))
    filled = found.rules.brightness
    assert filled is not None
    assert np.allclose(filled.integer or filled.floating or (), span, atol=1.5 * factor)
    image = read_image(found.records[0].image, filled)
    assert not image[:, :25].any()  # black, not white
    assert image[20:40, 30:60].mean() > image[60:, 70:].mean() + 40
    (remark,) = [remark for remark in found.remarks if remark.kind == "no_data"]
    assert len(remark.files) == 2


def test_radar_cut_off_at_zero_keeps_its_brightest_pixels(tmp_path: Path):
    pictures = [np.minimum(radar(index) + 12, 0) for index in range(4)]
    found = inspect(write_set(tmp_path, pictures))
    assert "no_data" not in [remark.kind for remark in found.remarks]
    assert (read_image(found.records[0].image, found.rules.brightness)[pictures[0] == 0] == 255).all()


def test_a_picture_is_padded_with_the_mean_of_all_pictures_after_its_scale(tmp_path: Path):
    """As SAM does; zero decibel would be white."""
    found = inspect(write_set(tmp_path, [radar(index) for index in range(2)]))
    pixels = Preprocessing(image_size=64).pixel_values(read_image(found.records[0].image, found.rules.brightness))
    height = Preprocessing(image_size=64).input_size((80, 120))[0]
    assert not pixels[:, height:].any()
    assert (pixels[:, :height] != 0).all()


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_what_ct_scanners_write_around_the_body_changes_no_scale(tmp_path: Path, padding: int):
    pictures = [(ground(index).astype(np.int16) - 140) * 20 for index in range(4)]  # -800 to 780
    pictures[0][:, :15] = padding
    found = inspect(write_set(tmp_path, pictures))
    assert found.rules.brightness is not None
    assert found.rules.brightness.integer is not None
    assert found.rules.brightness.integer[0] >= -800
    assert "no_data" in [remark.kind for remark in found.remarks]


@pytest.mark.parametrize("missing", [7, 4000])
def test_the_file_says_what_is_missing(tmp_path: Path, missing: int):
    pixels = ground(0) * 5
    pixels[:20] = missing
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(42113, "s", 0, str(missing), True)])
    found = read_image(tmp_path / "a.tif")[..., 0]
    assert not found[:20].any()
    assert np.array_equal(found[20:], np.rint(pixels[20:] * (255 / 1023)))


@pytest.mark.parametrize("form", ["tif", "planar", "png", "alpha.png", "ppm"])
def test_deep_colour_is_read_at_full_depth_in_the_right_order(tmp_path: Path, form: str):
    colours = np.stack([ground(0) * 5, ground(1) * 2, ground(2)], axis=2)
    path = tmp_path / f"a.{form.replace('planar', 'tif')}"
    if form == "planar":
        tifffile.imwrite(path, np.moveaxis(colours, 2, 0), planarconfig="separate", photometric="rgb")
    elif form == "tif":
        tifffile.imwrite(path, colours, photometric="rgb", compression="lzw", tile=(16, 16))
    else:
        channels = [colours[..., 2], colours[..., 1], colours[..., 0]] + [colours[..., 0]] * form.startswith("alpha")
        cv2.imwrite(str(path), np.dstack(channels))
    assert np.array_equal(read_image(path), np.rint(colours * (255 / 1023)).astype(np.uint8))


@pytest.mark.parametrize("bands", [5, 7, 13])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_more_bands_than_colours_are_refused_in_a_sentence(tmp_path: Path, bands: int, kind):
    pixels = np.zeros((20, 20, bands), kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=rf"has {bands} channels.*expected grey or RGB.*three channels"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("form", "bands"), [("rgb", 4), ("minisblack", 4), ("minisblack", 2)])
def test_a_band_that_is_not_declared_as_alpha_is_not_left_out_in_silence(tmp_path: Path, kind, form, bands, caplog):
    """Red, green, blue and near infrared, or two polarisations."""
    options = write_set(tmp_path, [ground(index).astype(kind) for index in range(4)])
    for index, extra in enumerate(["unspecified", "unspecified", "unassalpha"]):
        pixels = np.dstack([ground(index), ground(index) // 2, ground(index) // 4, ground(index)])[..., -bands:]
        tifffile.imwrite(
            options.image_folder / f"{index}.tif", pixels.astype(kind), photometric=form, planarconfig="contig",
            extrasamples=["unspecified"] * (bands - 2) * (form != "rgb") + [extra],
        )  # fmt: skip
    found = inspect(options)
    assert not found.faults
    (remark,) = [remark for remark in found.remarks if remark.kind == "dropped_bands"]
    assert [path.name for path in remark.files] == ["0.tif", "1.tif"]
    assert "2 bands are left out" in remark.text
    list_pages([(path, path.stem) for path in sorted(options.image_folder.iterdir())], "first")
    assert "2 files have a second or fourth band that is not declared as alpha" in caplog.text


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_three_bands_of_8_bits_that_are_not_called_rgb_are_read(tmp_path: Path, planes: str):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 4)).astype(np.uint8)
    for bands in (3, 4):
        written = pixels[..., :bands] if planes == "contig" else np.moveaxis(pixels[..., :bands], -1, 0)
        tifffile.imwrite(tmp_path / "a.tif", written, photometric="minisblack", planarconfig=planes)
        assert np.array_equal(read_image(tmp_path / "a.tif"), pixels[..., :3])


def test_pictures_to_predict_set_the_scale_where_the_adapter_has_none(tmp_path: Path, caplog):
    options = write_set(tmp_path, [ground(index) * 5 for index in range(3)])
    pictures = list_pages([(path, path.stem) for path in sorted(options.image_folder.iterdir())], "first")
    made = brightness_for(pictures, None)
    assert made is not None
    assert made.integer == (0, 1023)
    assert "0 to 1023" in caplog.text
    rules = inspect(write_set(tmp_path / "other", [ground(0) * 50])).rules
    assert brightness_for(pictures, rules) == rules.brightness


def test_every_value_for_missing_data_is_black():
    """Those of the set, the file's own, and what is no number; between the ends the scale is straight."""
    scale = Brightness(floating=(0.0, 1.0), no_data=(0.5, 0.75))
    pixels = np.array([[0.0, 0.2, 0.5, 0.75, 0.9, 1.0, 2.0, np.nan, np.inf]], np.float32)
    assert scale.to_8_bit(pixels).tolist() == [[0, 51, 0, 0, 230, 255, 255, 0, 0]]
    assert scale.to_8_bit(pixels, no_data=0.2).tolist() == [[0, 0, 0, 0, 230, 255, 255, 0, 0]]


def test_the_scale_of_a_set_comes_before_that_of_a_picture_and_need_not_begin_at_zero(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[50, 100, 200, 355, 400]], np.uint16))
    found = read_image(tmp_path / "a.tif", Brightness(integer=(100.0, 355.0)))
    assert found[..., 0].tolist() == [[0, 0, 100, 255, 255]]


@pytest.mark.parametrize("fill", [np.uint16(500), np.int16(-7), np.float32(-7), np.float32(np.nan)])
def test_a_picture_of_one_value_or_of_none_is_black(tmp_path: Path, fill: np.generic):
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 9), fill))
    assert not read_image(tmp_path / "a.tif").any()


def test_a_picture_is_known_by_values_evenly_over_its_sorted_pixels():
    pixels = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    depth = depth_of(pixels[::-1] * 9)
    assert depth is not None
    assert depth.sample.tolist() == (pixels.ravel() * 9).tolist()


def test_all_pixels_of_a_large_picture_are_counted_but_of_a_floating_one_a_part():
    pixels = np.zeros((2500, 2000), np.uint16)
    pixels[:1250] = 300
    whole, part = depth_of(pixels), depth_of(pixels.astype(np.float32))
    assert whole is not None
    assert part is not None
    assert whole.pixels == pixels.size
    assert part.pixels < pixels.size / 3  # sorting all of them would take its time
    for depth in (whole, part):
        assert np.mean(depth.sample == 300) == pytest.approx(0.5, abs=0.01)
