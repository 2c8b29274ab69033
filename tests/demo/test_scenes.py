"""Generated scenes are reproducible, plausible and differ from one another in the way their kind says."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sam_adapter.demo.scenes import Scene, plain_objects, scene, write_scenes

KINDS = ("plain", "camouflage", "shadow")
PINNED = [
    ("plain", 143.96, 0.1849),
    ("camouflage", 193.35, 0.1646),
    ("shadow", 191.54, 0.1135),
]
"""Kind, mean grey level and area of the target of scene 0 of seed 1."""


def ring_around(mask: np.ndarray) -> np.ndarray:
    grown = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(25))
    return (np.asarray(grown) > 0) & ~mask


def contrast(one: Scene) -> np.ndarray:
    """Mean colour of the target less that of the ring around it, grey levels."""
    return one.image[one.mask].mean(axis=0) - one.image[ring_around(one.mask)].mean(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_and_index_give_the_same_pixels_in_any_thread(kind):
    expected = [scene(kind, 3, index) for index in range(4)]
    with ThreadPoolExecutor(4) as threads:
        again = list(threads.map(lambda index: scene(kind, 3, index), range(4)))
    for first, second in zip(expected, again, strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.mask, second.mask)
    assert not np.array_equal(expected[0].image, expected[1].image)
    assert not np.array_equal(expected[0].image, scene(kind, 4, 0).image)


@pytest.mark.parametrize(("kind", "brightness", "area"), PINNED)
def test_pictures_have_not_changed(kind, brightness, area):
    """Coarse numbers: a new Pillow may move single pixels of an outline or a blur."""
    first = scene(kind, 1, 0)
    assert first.image.mean() == pytest.approx(brightness, abs=0.5)
    assert first.mask.mean() == pytest.approx(area, abs=0.002)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64, 256])
def test_every_target_has_a_sensible_size(kind, size):
    for index in range(12):
        one = scene(kind, 5, index, size)
        assert one.image.shape == (size, size, 3)
        assert one.image.dtype == np.uint8
        assert one.mask.shape == (size, size)
        assert one.mask.dtype == np.bool_
        assert 0.01 < one.mask.mean() < 0.75


def test_plain_target_is_the_largest_of_the_labelled_objects():
    for index in range(12):
        image, labels = plain_objects(5, index)
        one = scene("plain", 5, index)
        np.testing.assert_array_equal(image, one.image)
        np.testing.assert_array_equal(labels == 1, one.mask)
        areas = np.bincount(labels.ravel())[1:]
        assert areas.argmax() == 0


def test_colour_gives_a_plain_object_away_but_not_a_camouflaged_one():
    plain = [np.abs(contrast(scene("plain", 6, index))).mean() for index in range(30)]
    hidden = [np.abs(contrast(scene("camouflage", 6, index))).mean() for index in range(30)]
    assert np.median(hidden) < 8
    assert np.median(plain) > 4 * np.median(hidden)


def test_shadows_darken():
    darker = [contrast(scene("shadow", 6, index)).mean() < -5 for index in range(30)]
    assert np.mean(darker) > 0.9


def test_written_scenes_pair_by_name(tmp_path):
    write_scenes(tmp_path, "shadow", count=3, seed=2, size=64)
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    masks = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert images == masks == [f"shadow_{index:05d}.png" for index in range(3)]
    mask = np.asarray(Image.open(tmp_path / "masks" / masks[1]))
    np.testing.assert_array_equal(mask > 0, scene("shadow", 2, 1, 64).mask)
    assert set(np.unique(mask)) == {0, 255}


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(ValueError, match="plain, camouflage, shadow"):
        scene("sunny", 0, 0)  # pyright: ignore[reportArgumentType]
