"""h-maxima of surfaces, against scikit-image's."""

import cv2
import numpy as np
import pytest
from skimage.morphology import h_maxima, reconstruction

from sam_adapter.tasks import peaks
from sam_adapter.tasks.label_maps import number_parts
from sam_adapter.tasks.peaks import number_peaks


def corridor(size: int = 150) -> np.ndarray:
    """One way back and forth through all of a picture, highest at its end, as a thread that lies in coils."""
    surface = np.full((size, size), -1, dtype=np.float32)
    for turn, top in enumerate(range(0, size - 10, 10)):
        surface[top : top + 6] = 0.8
        surface[top : top + 11, slice(size - 6, None) if turn % 2 == 0 else slice(0, 6)] = 0.8
    surface += np.where(surface > 0, 0.03 * np.sin(np.arange(size) / 7), 0).astype(np.float32)
    surface[-20:-14, 50:60] = 0.95
    return surface


def noise(size: tuple[int, int] = (90, 110), blur: float = 4) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 30, size).astype(np.float32)
    return cv2.GaussianBlur(values, (0, 0), blur)


def test_peaks_are_h_maxima():
    surface = noise()
    found, tops = number_peaks(surface, 1.0), number_parts(h_maxima(surface, 1.0).astype(bool))
    assert tops.max() > 10
    assert len(set(found[tops > 0].tolist())) == tops.max()
    assert set(found[tops > 0].tolist()) == set(found[found > 0].tolist())


def test_a_flat_top_is_one_peak():
    """With tops of equal height that do not touch, as symmetric objects have."""
    surface = np.zeros((20, 20), dtype=np.float32)
    surface[5:15, 5:15], surface[10, 6], surface[10, 13] = 9, 9.5, 9.5
    assert number_peaks(surface, 1.0).max() == 1


@pytest.mark.parametrize("dilations", [0, 32])
@pytest.mark.parametrize(
    "surface",
    [noise((80, 70), 12), noise((1, 200)), noise((200, 1)), corridor()],
    ids=["noise", "row", "column", "way"],
)
def test_reconstruction_is_that_of_scikit_image(surface: np.ndarray, dilations: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peaks, "DILATIONS", dilations)
    marker = surface - np.float32(0.1)
    expected = reconstruction(marker, surface, footprint=np.ones((3, 3)))
    assert np.array_equal(peaks._reconstructed(marker, surface), expected)


def test_a_long_way_takes_as_many_sweeps_as_it_has_turns(monkeypatch: pytest.MonkeyPatch):
    """Two thousand pixels long, it has twenty-eight turns; flat tops that cover a picture have none."""
    counted: list[int] = []
    sweep = peaks._sweep
    monkeypatch.setattr(peaks, "_sweep", lambda *given: (counted.append(0), sweep(*given)))
    found = number_peaks(corridor(), 0.1)
    assert len(np.unique(found[found > 0])) == 1
    assert 2 < len(counted) < 60
    counted.clear()
    surface = np.full((300, 300), 0.9, dtype=np.float32)
    surface[5, 7] = 1.0
    assert number_peaks(surface, 0.05).max() == 1
    assert len(counted) <= 4
