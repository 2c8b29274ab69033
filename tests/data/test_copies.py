import cv2
import numpy as np
import pytest

from sam_adapter.data.inspection.copies import fingerprint, near_copies


def scene(rng: np.random.Generator, *, plain: bool = False) -> np.ndarray:
    """A disc on noise or on a plain ground, ``(120, 160, 3)`` uint8."""
    image = np.full((120, 160, 3), 80.0) if plain else 80 + rng.normal(0, 12, (120, 160, 3))
    radius = int(rng.integers(14, 30))
    centre = int(rng.integers(radius, 160 - radius)), int(rng.integers(radius, 120 - radius))
    disc = cv2.circle(np.zeros((120, 160), np.uint8), centre, radius, 1, -1)
    return np.clip(image + disc[..., None] * 90, 0, 255).astype(np.uint8)


def version(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Another exposure, moved by a few pixels, with noise, and through JPEG."""
    changed = image * rng.uniform(0.8, 1.2) + rng.normal(0, 4, image.shape)
    changed = np.roll(changed, rng.integers(-3, 4, 2), (0, 1)).clip(0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_eight_versions_of_five_scenes_are_five_groups(seed: int):
    rng = np.random.default_rng(seed)
    images = [version(rng, original) for original in [scene(rng) for _ in range(5)] for _ in range(8)]
    assert near_copies([fingerprint(image) for image in images]) == [[*range(k, k + 8)] for k in range(0, 40, 8)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scenes_of_one_kind_are_no_copies(seed: int):
    rng = np.random.default_rng(seed)
    assert near_copies([fingerprint(scene(rng)) for _ in range(40)]) == []


def test_one_disc_on_a_plain_ground_is_no_copy_of_one_elsewhere():
    def disc(column: int) -> np.ndarray:
        return np.asarray(cv2.circle(np.full((120, 160, 3), 80, np.uint8), (column, 60), 20, (200, 200, 200), -1))

    assert near_copies([fingerprint(disc(column)) for column in (40, 46, 120)]) == []
    assert near_copies([fingerprint(disc(column)) for column in (40, 41, 80)]) == [[0, 1]]


@pytest.mark.parametrize("turn", range(8))
def test_flips_and_quarter_turns_are_copies(turn: int):
    rng = np.random.default_rng(0)
    images = [scene(rng) for _ in range(6)]
    turned = np.rot90(images[2], turn % 4)
    images.append(np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned))
    assert near_copies([fingerprint(image) for image in images]) == [[2, 6]]


def test_no_one_and_blank_pictures():
    blank = fingerprint(np.zeros((50, 70, 3), np.uint8))
    assert near_copies([]) == []
    assert near_copies([blank]) == []
    assert near_copies([blank, blank]) == []
