"""A bank of periodic noise textures, made once and cut at random places.

Every tile repeats without a seam, has zero mean and unit deviation, and is stored as small integers, so that
rounding differences between machines disappear before a texture reaches a picture.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

TILE = 512
"""Side of a tile in pixels."""
STEPS = 40
"""Integer steps per standard deviation."""
ANGLES = (0, 45, 90, 135)
"""Orientations of the oriented families, degrees."""

FloatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Texture:
    """One tile of the bank."""

    family: str
    """What it looks like: fractal, cloud, grain, brushed, stripes, spots, veins, leaves or weave."""
    period: float
    """Typical distance between repeats in pixels; 0 for the scale-free families."""
    angle: int | None
    """Orientation in degrees, None where there is none."""
    tile: NDArray[np.int8]
    """``(TILE, TILE)``, `STEPS` per standard deviation."""


def cut(texture: Texture, rng: np.random.Generator, shape: tuple[int, int], *, flip: bool = True) -> FloatMap:
    """Cut a window at a random place.

    Args:
        texture: Where to cut.
        rng: Source of the place and the flips.
        shape: Height and width of the window in pixels; above `TILE` it repeats.
        flip: Whether to mirror at random; this changes the orientation of a diagonal texture.

    Returns:
        ``shape``, mean about 0 and deviation about 1.
    """
    top, left = rng.integers(0, TILE, 2)
    mirrored = rng.integers(0, 2, 2)
    rows = (top + np.arange(shape[0])) % TILE
    columns = (left + np.arange(shape[1])) % TILE
    if flip and mirrored[0]:
        rows = rows[::-1]
    if flip and mirrored[1]:
        columns = columns[::-1]
    return texture.tile[rows][:, columns] * np.float32(1 / STEPS)


def pick(rng: np.random.Generator, *families: str) -> Texture:
    """A random texture of the given families, each family equally likely."""
    bank = texture_bank()
    candidates = bank[families[int(rng.integers(len(families)))]]
    return candidates[int(rng.integers(len(candidates)))]


@cache
def texture_bank() -> dict[str, tuple[Texture, ...]]:
    """All tiles by family; the first call takes about a second."""
    rng = np.random.Generator(np.random.PCG64(20_240_229))
    bank: dict[str, list[Texture]] = {}

    def add(family: str, values: NDArray[np.float64], period: float = 0, angle: int | None = None) -> None:
        bank.setdefault(family, []).append(Texture(family, period, angle, _to_steps(values)))

    for exponent in (1.0, 1.3, 1.6, 1.9):
        for _ in range(2):
            add("fractal", _filtered_noise(rng, _power_law(exponent)))
    for period in (60, 100, 160, 240):
        add("cloud", _filtered_noise(rng, _band(period, width=0.5)), period)
    for period in (3, 4, 6, 9, 13):
        add("grain", _filtered_noise(rng, _band(period)), period)
    for period in (5, 8, 12):
        for angle in ANGLES:
            add("brushed", _filtered_noise(rng, _oriented_band(period, angle)), period, angle)
            add("stripes", _stripes(rng, period, angle), period, angle)
    for period in (6, 10, 16, 24):
        add("spots", np.tanh(3 * _filtered_noise(rng, _band(period)) - 1), period)
        add("veins", -np.sqrt(np.abs(_filtered_noise(rng, _band(1.6 * period)))), period)
    for radius in (3, 6, 10):
        for _ in range(2):
            add("leaves", _leaves(rng, radius), 2 * radius)
    for period in (5, 8, 12):
        add("weave", _stripes(rng, period, 0, warp=0.3) * _stripes(rng, period, 90, warp=0.3), period)
    return {family: tuple(textures) for family, textures in bank.items()}


def _frequencies() -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    return np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]


def _power_law(exponent: float) -> NDArray[np.float64]:
    vertical, horizontal = _frequencies()
    radius = np.sqrt(vertical * vertical + horizontal * horizontal)
    radius[0, 0] = np.inf
    return np.where(radius < 1.5 / TILE, 0, radius**-exponent)


def _band(period: float, width: float = 0.25) -> NDArray[np.float64]:
    vertical, horizontal = _frequencies()
    radius = np.sqrt(vertical * vertical + horizontal * horizontal)
    return np.exp(-0.5 * ((radius * period - 1) / width) ** 2) * (radius > 0)


def _oriented_band(period: float, angle: int) -> NDArray[np.float64]:
    vertical, horizontal = _frequencies()
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along = horizontal * cosine + vertical * sine
    across = vertical * cosine - horizontal * sine
    gap = np.minimum(np.abs(along - 1 / period), np.abs(along + 1 / period)) * period
    return np.exp(-0.5 * (gap / 0.35) ** 2 - 0.5 * (across * period / 0.15) ** 2)


def _filtered_noise(rng: np.random.Generator, envelope: NDArray[np.float64]) -> NDArray[np.float64]:
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * envelope
    spectrum[0, 0] = 0
    values = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return values / values.std()


def _stripes(rng: np.random.Generator, period: float, angle: int, warp: float = 1.2) -> NDArray[np.float64]:
    """A sine along `angle`, with whole repeats per tile so that it stays seamless, bent by a slow noise."""
    rows, columns = np.mgrid[:TILE, :TILE] / TILE
    horizontal = round(TILE / period * np.cos(np.deg2rad(angle)))
    vertical = round(TILE / period * np.sin(np.deg2rad(angle)))
    bend = warp * _filtered_noise(rng, _band(8 * period, width=0.4))
    return np.sin(2 * np.pi * (horizontal * columns + vertical * rows) + bend)


def _leaves(rng: np.random.Generator, radius: int) -> NDArray[np.float64]:
    """Overlapping discs of random grey, the dead-leaves model of natural scenes."""
    canvas = Image.new("L", (TILE, TILE), 128)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(6 * TILE * TILE / (9 * radius * radius))):
        x, y = (int(value) for value in rng.integers(0, TILE, 2))
        half_width, half_height = (int(value) for value in rng.integers(radius // 2 + 1, 2 * radius, 2))
        grey = int(rng.integers(0, 256))
        # A disc that crosses a border continues at the opposite one.
        for dx in (0, TILE if x < TILE // 2 else -TILE):
            for dy in (0, TILE if y < TILE // 2 else -TILE):
                left, top = x + dx - half_width, y + dy - half_height
                draw.ellipse((left, top, left + 2 * half_width, top + 2 * half_height), fill=grey)
    return np.asarray(canvas, dtype=np.float64)


def _to_steps(values: NDArray[np.float64]) -> NDArray[np.int8]:
    standard = (values - values.mean()) / values.std()
    return np.clip(np.rint(standard * STEPS), -127, 127).astype(np.int8)
