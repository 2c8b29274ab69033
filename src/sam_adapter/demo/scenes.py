"""Scenes with exact masks: plain objects, camouflaged objects and shadows.

One (kind, seed, index) gives the same pixels on every machine: each scene has its own random generator, and
the textures are integers before they are used.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_adapter.demo.painting import (
    COARSE,
    Colour,
    Picture,
    blend,
    darkened,
    light,
    near,
    painted,
    photographed,
    planar,
    random_colour,
    softened,
    surface,
    tint,
)
from sam_adapter.demo.shapes import silhouette
from sam_adapter.demo.textures import FloatMap, Texture, cut, pick, texture_bank
from sam_adapter.system.writing import written_beside

SceneKind = Literal["plain", "camouflage", "shadow"]
DISGUISES = ("grain", "brushed", "stripes", "spots", "veins", "leaves", "weave")


@dataclass(frozen=True)
class Scene:
    """One generated picture and its target."""

    image: NDArray[np.uint8]
    """RGB, ``(H, W, 3)``."""
    mask: NDArray[np.bool_]
    """The target, ``(H, W)``: the answer to its own box, to points on it and to no prompt at all."""


def scene(kind: SceneKind, seed: int, index: int, size: int = 256) -> Scene:
    """Generate one scene.

    The target of `plain` is the largest object; the smaller ones around and before it are not part of it.
    That of `camouflage` is the only object; that of `shadow` the shadow, whatever dark objects lie beside it.

    Args:
        kind: What to draw.
        seed: Which series, 0 or more.
        index: Which scene of the series, 0 or more.
        size: Side in pixels.

    Returns:
        The picture and its mask.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "plain":
        image, labels = plain_objects(seed, index, size)
        return Scene(image, labels == 1)
    if kind == "camouflage":
        return _camouflage(_generator(kind, seed, index), size)
    if kind == "shadow":
        return _shadow(_generator(kind, seed, index), size)
    raise ValueError(f"scene kind {kind!r} is unknown; choose one of {', '.join(get_args(SceneKind))}")


def plain_objects(seed: int, index: int, size: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The plain scene with a label for every object.

    Args:
        seed: Which series, 0 or more.
        index: Which scene of the series, 0 or more.
        size: Side in pixels.

    Returns:
        The image ``(H, W, 3)`` and the labels ``(H, W)``: 0 background, 1 the target, 2 and up the others.
    """
    rng = _generator("plain", seed, index)
    picture, backdrop = _backdrop(rng, (size, size))
    labels = np.zeros((size, size), dtype=np.uint8)
    length = rng.uniform(0.34, 0.8)
    count = int(rng.choice(5, p=(0.2, 0.25, 0.25, 0.2, 0.1)))
    lengths = [length, *(rng.uniform(0.12, 0.5, count) * length)]
    for label in rng.permutation(count + 1) + 1:
        least = 0.05 if label == 1 else 0.0
        coverage = _object(rng, size, length=lengths[label - 1], least_area=least)
        if rng.random() < 0.3:
            picture = darkened(picture, _drop_shadow(rng, coverage), rng.uniform(0.2, 0.5))
        _place(rng, picture, coverage, backdrop)
        labels[coverage >= 0.5] = label
    areas = np.bincount(labels.ravel(), minlength=count + 2)
    if areas[1] <= areas[2:].max(initial=0):
        # Rare: a smaller object hides so much of the target that it is no longer the largest.
        return plain_objects(seed, index + 10_000_019, size)
    return photographed(rng, picture), labels


def write_scenes(directory: Path | str, kind: SceneKind, count: int, seed: int, size: int = 256) -> None:
    """Write a dataset as `images/` and `masks/` of PNG files with equal names.

    Args:
        directory: Where; created when missing.
        kind: What to draw.
        count: How many scenes.
        seed: Which series.
        size: Side in pixels.
    """
    images, masks = Path(directory) / "images", Path(directory) / "masks"
    for index in range(count):
        generated = scene(kind, seed, index, size)
        name = f"{kind}_{index:05d}.png"
        for folder, pixels in ((images, generated.image), (masks, generated.mask.astype(np.uint8) * 255)):
            with written_beside(folder / name) as partial:
                Image.fromarray(pixels).save(partial, format="PNG")


def _generator(kind: SceneKind, seed: int, index: int) -> np.random.Generator:
    entropy = (get_args(SceneKind).index(kind), seed, index)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _camouflage(rng: np.random.Generator, size: int) -> Scene:
    """The object shares colour and slow variation with its surroundings; only its fine texture is its own."""
    coverage = _object(rng, size, length=rng.uniform(0.4, 0.85), least_area=0.07)
    shape = coverage.shape
    ground = random_colour(rng, low=0.25, high=0.75)
    picture = painted(ground, cut(pick(rng, *COARSE), rng, shape), rng.uniform(0.03, 0.1) * tint(rng))
    inside, outside, edge_strength = _disguise(rng, shape)
    strength = rng.uniform(0.07, 0.13) * tint(rng)
    picture += (outside + (inside - outside) * coverage) * planar(strength)
    edge = softened(coverage, 1.0)
    picture += np.float32(4 * edge_strength) * edge * (1 - edge)
    return Scene(photographed(rng, picture), coverage >= 0.5)


def _disguise(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatMap, FloatMap, float]:
    """Two fine textures of equal strength that differ in kind, scale, orientation or phase, and an edge.

    Returns:
        The texture inside and that outside, both ``shape``, and the brightness of the outline.
    """
    bank = texture_bank()
    manner = rng.random()
    edge = rng.uniform(-0.06, 0.06)
    flip = True
    if manner < 0.2:
        inside, outside = _unlike(rng, bank)
    elif manner < 0.45:
        family = bank[str(rng.choice(("grain", "spots", "veins", "leaves")))]
        periods = sorted({texture.period for texture in family})
        first, second = (periods[int(place)] for place in rng.choice(len(periods), 2, replace=False))
        inside = next(texture for texture in family if texture.period == first)
        outside = next(texture for texture in family if texture.period == second)
    elif manner < 0.95:
        inside, outside = _crossed(rng, bank[str(rng.choice(("brushed", "stripes")))])
        flip = False
    else:
        inside = outside = pick(rng, "stripes", "brushed", "weave")
        edge = rng.uniform(0.09, 0.14) * rng.choice((-1, 1))
    return cut(inside, rng, shape, flip=flip), cut(outside, rng, shape, flip=flip), float(edge)


def _unlike(rng: np.random.Generator, bank: dict[str, tuple[Texture, ...]]) -> tuple[Texture, Texture]:
    """Two textures of different kind and nearly the same scale, so that neither stands out by its grain."""
    first = pick(rng, *DISGUISES)
    others = [family for family in DISGUISES if family != first.family]
    rest = bank[others[int(rng.integers(len(others)))]]
    apart = min(abs(np.log(other.period / first.period)) for other in rest)
    nearest = [other for other in rest if abs(np.log(other.period / first.period)) == apart]
    return first, nearest[int(rng.integers(len(nearest)))]


def _crossed(rng: np.random.Generator, family: tuple[Texture, ...]) -> tuple[Texture, Texture]:
    first = family[int(rng.integers(len(family)))]
    rest = [other for other in family if other.period == first.period and other.angle != first.angle]
    return first, rest[int(rng.integers(len(rest)))]


def _shadow(rng: np.random.Generator, size: int) -> Scene:
    """A soft multiplicative darkening over a ground with objects, some of them dark."""
    picture, backdrop = _backdrop(rng, (size, size))
    for _ in range(int(rng.integers(0, 4))):
        coverage = _object(rng, size, length=rng.uniform(0.12, 0.4))
        _place(rng, picture, coverage, backdrop, brightness=rng.uniform(0.25, 0.5) if rng.random() < 0.6 else 1)
    coverage = _object(rng, size, length=rng.uniform(0.4, 0.95), least_area=0.07)
    coverage = softened(coverage, rng.uniform(0.8, 4) * size / 256)
    return Scene(photographed(rng, darkened(picture, coverage, rng.uniform(0.35, 0.65))), coverage >= 0.5)


def _object(rng: np.random.Generator, size: int, *, length: float, least_area: float = 0.0) -> FloatMap:
    """A silhouette of this relative length, inside the canvas or nearly."""
    margin = min(0.4 * length, 0.45)
    x, y = rng.uniform(margin, 1 - margin, 2) * size
    return silhouette(rng, size, length=length * size, centre=(float(x), float(y)), least_area=least_area)


def _place(
    rng: np.random.Generator, picture: Picture, coverage: FloatMap, backdrop: Colour, brightness: float = 1
) -> None:
    """Draw an object into the picture; only its own window is computed."""
    rows, columns = np.flatnonzero(coverage.max(axis=1)), np.flatnonzero(coverage.max(axis=0))
    if not len(rows):
        return
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part = coverage[window]
    skin = _object_surface(rng, backdrop, part.shape) * np.float32(brightness)
    lit = skin * light(rng, part, reach=0.04 * len(coverage))
    picture[:, *window] = blend(picture[:, *window], lit, part)


def _backdrop(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Picture, Colour]:
    """A textured ground, sometimes of two parts; returns it and its main colour."""
    colour = random_colour(rng)
    picture = surface(rng, colour, shape)
    if rng.random() < 0.4:
        other = np.clip(colour + rng.normal(0, 0.16, 3), 0.05, 0.95).astype(np.float32)
        field = cut(pick(rng, *COARSE), rng, shape) * rng.uniform(0.02, 0.3)
        down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
        slope = rng.normal(0, 1, 2).astype(np.float32)
        field = field + slope[0] * down[:, None] + slope[1] * across[None, :] + np.float32(rng.uniform(-0.5, 0.5))
        sharpness = np.float32(rng.choice((4, 40)))
        picture = blend(picture, surface(rng, other, shape), np.clip(0.5 + sharpness * field, 0, 1))
    return picture, colour


def _object_surface(rng: np.random.Generator, backdrop: Colour, shape: tuple[int, int]) -> Picture:
    """Mostly another colour than the ground; sometimes the same colour under a much stronger texture."""
    if rng.random() < 0.15:
        return surface(rng, backdrop, shape, strength=rng.uniform(0.15, 0.25))
    for _ in range(20):
        colour = random_colour(rng)
        if np.abs(colour - backdrop).sum() > 0.45:
            break
    if rng.random() < 0.3:
        # Two colours in large markings, so that an object is not one patch.
        marking = np.clip(0.5 + 3 * cut(pick(rng, "cloud", "spots"), rng, shape), 0, 1)
        return blend(surface(rng, colour, shape), surface(rng, near(rng, colour, 0.18), shape), marking)
    return surface(rng, colour, shape)


def _drop_shadow(rng: np.random.Generator, coverage: FloatMap) -> FloatMap:
    size = len(coverage)
    shift = rng.integers(-size // 20, size // 20 + 1, 2)
    moved = np.roll(coverage, (int(shift[0]), int(shift[1])), axis=(0, 1))
    return softened(moved, rng.uniform(1, 4) * size / 256)
