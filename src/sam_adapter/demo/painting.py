"""Colours, textured surfaces, light and blur: what a scene is painted with."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sam_adapter.demo.textures import FloatMap, cut, pick, texture_bank

COARSE = ("fractal", "cloud")
FINE = ("grain", "brushed", "stripes", "spots", "veins", "leaves", "weave", "fractal")

Colour = NDArray[np.float32]
"""RGB in 0..1, ``(3,)``."""
Picture = NDArray[np.float32]
"""Planar, ``(3, H, W)`` in 0..1: arithmetic on whole rows is several times faster than on RGB triples."""


def surface(rng: np.random.Generator, colour: Colour, shape: tuple[int, int], strength: float | None = None) -> Picture:
    """A colour with slow variation and a fine texture of the given or a random strength."""
    fine = rng.uniform(0.02, 0.13) if strength is None else strength
    picture = painted(colour, cut(pick(rng, *COARSE), rng, shape), rng.uniform(0.01, 0.08) * tint(rng))
    picture += cut(pick(rng, *FINE), rng, shape) * planar(fine * tint(rng))
    return picture


def painted(colour: Colour, field: FloatMap, change: Colour) -> Picture:
    """A colour that varies with the field ``(H, W)``, by `change` per standard deviation."""
    return field * planar(change) + planar(colour)


def random_colour(rng: np.random.Generator, *, low: float = 0.15, high: float = 0.85) -> Colour:
    """A random grey in the range, pushed off grey at random."""
    grey = rng.uniform(low, high)
    return near(rng, np.full(3, grey, dtype=np.float32), 0.15)


def near(rng: np.random.Generator, colour: Colour, deviation: float) -> Colour:
    """A random colour about the given one."""
    return np.clip(colour + rng.normal(0, deviation, 3), 0.05, 0.95).astype(np.float32)


def tint(rng: np.random.Generator) -> Colour:
    """A direction of change: mostly brightness, a little hue."""
    return rng.normal(1, 0.25, 3).astype(np.float32)


def blend(below: Picture, above: Picture, coverage: FloatMap) -> Picture:
    """`above` where covered, `below` elsewhere."""
    return (below + coverage * (above - below)).astype(np.float32, copy=False)


def light(rng: np.random.Generator, coverage: FloatMap, reach: float) -> FloatMap:
    """Light from one side, and on some objects a darker rim that makes them look round."""
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in coverage.shape)
    slope = rng.normal(0, 0.12, 2).astype(np.float32)
    brightness = 1 + slope[0] * down[:, None] + slope[1] * across[None, :]
    if rng.random() < 0.5:
        brightness = brightness * (0.6 + 0.4 * softened(coverage, reach))
    return brightness


def darkened(picture: Picture, coverage: FloatMap, depth: float) -> Picture:
    """Multiplied by `1 - depth` where covered, a little less in blue, as under a sky."""
    amount = np.array([1.0, 0.98, 0.9], dtype=np.float32) * np.float32(depth)
    return (np.clip(picture, 0, 1) * (1 - coverage * planar(amount))).astype(np.float32, copy=False)


def softened(coverage: FloatMap, radius: float) -> FloatMap:
    """Coverage after a Gaussian blur; the radius is its deviation in pixels."""
    grey = Image.fromarray(np.rint(coverage * 255).astype(np.uint8))
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    return blurred / np.float32(255)


def photographed(rng: np.random.Generator, picture: Picture) -> NDArray[np.uint8]:
    """What a camera adds: sometimes a slight blur, and sensor noise."""
    noise = cut(texture_bank()["grain"][0], rng, picture.shape[1:])
    exposed = np.clip(picture, 0, 1) * 255 + noise * np.float32(rng.uniform(0.3, 4))
    grey_levels = np.rint(np.clip(exposed, 0, 255)).astype(np.uint8)
    image = np.ascontiguousarray(grey_levels.transpose(1, 2, 0))  # (H, W, 3)
    if rng.random() < 0.4:
        blur = ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7))
        image = np.asarray(Image.fromarray(image).filter(blur))
    return image


def planar(colour: Colour) -> Picture:
    """A colour in the shape that multiplies a picture."""
    return colour.astype(np.float32)[:, None, None]  # (3, 1, 1)
