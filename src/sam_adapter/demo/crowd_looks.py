"""Looks of a crowd: grounds, skins, and what a microscope or a camera adds."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from sam_adapter.demo.crowd_bodies import Body, Form, body
from sam_adapter.demo.painting import (
    COARSE,
    Colour,
    Picture,
    blend,
    light,
    near,
    painted,
    planar,
    random_colour,
    softened,
    surface,
    tint,
)
from sam_adapter.demo.textures import Texture, cut, pick, texture_bank

KINDS = ("fluorescence", "histology", "cells", "grains", "pores", "things")
SHARES = (0.26, 0.18, 0.16, 0.18, 0.1, 0.12)
"""Of each kind."""
MICROSCOPIC = ("fluorescence", "histology", "cells")
"""Kinds whose objects are mostly round."""
_GREY = np.ones(3, dtype=np.float32)


@dataclass(frozen=True)
class Look:
    """What the objects and the ground of one scene look like."""

    kind: str
    ground: Colour
    skin: Colour
    part: Colour
    """Of nuclei."""
    spread: float
    """Deviation of brightness from object to object, logarithmic."""
    dome: float
    """How much darker the edge is than the middle; below 0 it is brighter."""
    rim: float
    """Brightness added along the outline."""
    texture: Texture
    strength: float
    """Of the texture on the objects."""
    opacity: float
    nuclei: float
    """Part of the objects that holds one."""
    blur: float
    """Deviation in pixels, of everything."""
    noise: float
    """Grey levels."""
    uneven: float
    """How much the illumination changes over the picture."""
    adds: bool = False
    """Whether objects shine instead of covering."""


def random_look(rng: np.random.Generator) -> Look:
    """The look of one scene."""
    kind = str(rng.choice(KINDS, p=SHARES))
    ground = random_colour(rng)
    grey = rng.random() < 0.45
    if grey:
        ground = np.full(3, ground.mean(), dtype=np.float32)
    look = Look(
        kind=kind,
        ground=ground,
        skin=_apart(rng, ground, grey=grey, least=0.12 if rng.random() < 0.4 else 0.3),
        part=ground,
        spread=float(rng.choice((0.03, 0.1, 0.25))),
        dome=float(rng.uniform(-0.2, 0.6)),
        rim=float(rng.normal(0, 0.08)),
        texture=pick(rng, "fractal", "grain", "spots", "veins", "leaves", "cloud"),
        strength=float(rng.uniform(0.02, 0.12)),
        opacity=float(rng.uniform(0.75, 1)),
        nuclei=0.0,
        blur=float(rng.choice((0.0, 0.5, 0.9, 1.5), p=(0.25, 0.3, 0.3, 0.15))),
        noise=float(np.exp(rng.uniform(np.log(0.4), np.log(9)))),
        uneven=float(rng.choice((0.0, 0.1, 0.3))),
    )
    adjust = {"fluorescence": _fluorescent, "histology": _stained, "cells": _living, "pores": _porous}
    return adjust[kind](rng, look) if kind in adjust else look


def _apart(rng: np.random.Generator, ground: Colour, *, grey: bool, least: float) -> Colour:
    """A colour that differs from the ground by this much in each channel on average."""
    colour = ground
    for _ in range(20):
        colour = random_colour(rng, low=0.08, high=0.92)
        if grey:
            colour = np.full(3, colour.mean(), dtype=np.float32)
        if np.abs(colour - ground).mean() > least:
            break
    return colour


def _fluorescent(rng: np.random.Generator, look: Look) -> Look:
    """Bright blobs on near-black, grey or in the colour of a dye, often very dim."""
    dye = _GREY
    if rng.random() < 0.4:
        dye = np.array(rng.permutation((1.0, rng.uniform(0, 0.7), rng.uniform(0, 0.4))), dtype=np.float32)
    level = np.exp(rng.uniform(np.log(0.07), np.log(0.95)))
    dark = np.float32(rng.uniform(0.0, 0.07))
    return replace(
        look,
        ground=_GREY * dark,
        skin=dye * np.float32(level),
        part=dye * np.float32(0.4 * level),
        spread=float(rng.choice((0.08, 0.25, 0.5))),
        dome=float(rng.uniform(0, 0.8)),
        rim=0.0,
        strength=float(rng.uniform(0.03, 0.3)),
        noise=float(np.exp(rng.uniform(np.log(0.3), np.log(12 * level + 0.5)))),
        adds=True,
    )


def _stained(rng: np.random.Generator, look: Look) -> Look:
    """Dark blobs on a light coloured tissue."""
    light_colour = near(rng, np.array([0.88, 0.76, 0.86], dtype=np.float32), 0.07)
    dark = near(rng, np.array([0.42, 0.25, 0.55], dtype=np.float32), 0.1)
    if rng.random() < 0.25:
        dark = near(rng, np.array([0.5, 0.33, 0.2], dtype=np.float32), 0.08)
    return replace(
        look,
        ground=light_colour,
        skin=dark,
        spread=float(rng.uniform(0.05, 0.2)),
        dome=float(rng.uniform(-0.4, 0.3)),
        strength=float(rng.uniform(0.04, 0.2)),
        opacity=float(rng.uniform(0.55, 1)),
    )


def _living(rng: np.random.Generator, look: Look) -> Look:
    """Pale bodies, little different from their ground, with a rim and mostly a nucleus."""
    shade = rng.choice((-1, 1)) * rng.uniform(0.06, 0.25)
    skin = np.clip(look.ground + np.float32(shade) * tint(rng), 0.04, 0.96).astype(np.float32)
    inner = np.clip(skin + np.float32(rng.choice((-1, 1)) * rng.uniform(0.12, 0.35)) * tint(rng), 0.02, 0.98)
    return replace(
        look,
        skin=skin,
        part=inner.astype(np.float32),
        rim=float(rng.choice((-1, 1)) * rng.uniform(0.05, 0.3)),
        nuclei=float(rng.choice((0.0, 0.7, 1.0), p=(0.25, 0.35, 0.4))),
    )


def _porous(rng: np.random.Generator, look: Look) -> Look:
    """Holes: darker than the ground everywhere, now and then filled with something bright."""
    factor = rng.uniform(0.15, 0.6) if rng.random() < 0.75 else rng.uniform(1.4, 2)
    skin = np.clip(look.ground * np.float32(factor), 0.02, 0.98)
    return replace(look, skin=skin, dome=float(rng.uniform(-0.7, 0)), rim=float(rng.uniform(0, 0.15)))


def ground_of(rng: np.random.Generator, look: Look, size: int) -> Picture:
    """The picture before there is anything on it, ``(3, size, size)``."""
    shape = (size, size)
    if look.kind == "fluorescence":
        haze = np.clip(cut(pick(rng, "cloud"), rng, shape), 0, None)
        return painted(look.ground, haze, look.skin * np.float32(rng.choice((0, 0.02, 0.08))))
    if look.kind == "histology":
        field = cut(pick(rng, *COARSE), rng, shape)
        picture = painted(look.ground, field, np.float32(rng.uniform(0.005, 0.05)) * tint(rng))
        streaks = cut(pick(rng, "brushed", "fractal", "fractal", "veins", "cloud", "leaves"), rng, shape)
        pink = np.array([0.02, 0.08, 0.04], dtype=np.float32) * np.float32(rng.uniform(0, 1))
        return (picture - np.clip(streaks, 0, 2) * planar(pink)).astype(np.float32, copy=False)
    if look.kind == "cells":
        field = cut(pick(rng, *COARSE), rng, shape)
        return painted(look.ground, field, np.float32(rng.uniform(0.005, 0.04)) * tint(rng))
    return surface(rng, look.ground, shape, strength=rng.uniform(0.01, 0.08))


def debris(rng: np.random.Generator, look: Look, picture: Picture) -> None:
    """Faint things out of focus that nobody asks for, in some of the scenes that a microscope might see."""
    if look.kind not in MICROSCOPIC or rng.random() < 0.5:
        return
    size = picture.shape[-1]
    form = Form("blob", elongation=0.8, roughness=0.1, power=2.0, direction=None)
    for _ in range(int(rng.integers(1, 7))):
        shape = body(rng, form, float(rng.uniform(4, 16)) * size / 256, offset=(0.0, 0.0))
        side = min(len(shape.coverage), size)
        soft = softened(shape.coverage[:side, :side], 2.5)
        top, left = rng.integers(0, size - side + 1, 2)
        window = slice(top, top + side), slice(left, left + side)
        faint = np.float32(rng.uniform(0.03, 0.18))
        picture[:, *window] += faint * soft * planar(look.skin if look.adds else look.skin - look.ground)


def paint(
    rng: np.random.Generator, look: Look, picture: Picture, window: tuple[slice, slice], shape: Body, *, is_part: bool
) -> None:
    """Draw one object into its window of the picture."""
    coverage = shape.coverage
    below = picture[:, *window]
    skin = look.part if is_part else look.skin
    texture = look.texture
    if look.kind == "things":
        skin, texture = _apart(rng, look.ground, grey=False, least=0.15), pick(rng, "fractal", "spots", "veins")
    value = np.exp(rng.normal(0, look.spread)) * (1 - look.dome * (1 - shape.dome))
    value = value * (1 + np.float32(look.strength) * cut(texture, rng, coverage.shape))
    if look.adds:
        # What lies behind is hidden in part only: overlapping nuclei are brighter.
        behind = below * (1 - np.float32(0.6) * coverage)
        picture[:, *window] = behind + coverage * np.clip(value, 0.15, 3).astype(np.float32) * planar(skin)
        return
    if look.kind in ("grains", "things"):
        value = value * light(rng, coverage, reach=0.06 * len(coverage))
    edge = np.clip(4 * coverage * (1 - coverage) + 2 * coverage * (1 - shape.dome) - 1, 0, 1)
    lit = planar(skin) * value.astype(np.float32) + np.float32(look.rim) * edge
    picture[:, *window] = blend(below, lit.astype(np.float32), coverage * np.float32(look.opacity))


def exposed(rng: np.random.Generator, look: Look, picture: Picture) -> NDArray[np.uint8]:
    """Uneven light, blur and noise; ``(H, W, 3)``."""
    shape = picture.shape[1:]
    if look.uneven:
        down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
        slope = rng.normal(0, look.uneven, 2).astype(np.float32)
        bowl = np.float32(rng.uniform(0, look.uneven))
        field = 1 + slope[0] * down[:, None] + slope[1] * across[None, :]
        field = field - bowl * (down[:, None] ** 2 + across[None, :] ** 2)
        picture = picture * np.clip(field, 0.3, 1.8)
    levels = np.clip(picture, 0, 1) * 255
    image = np.ascontiguousarray(np.rint(levels).astype(np.uint8).transpose(1, 2, 0))  # (H, W, 3)
    if look.blur:
        blur = ImageFilter.GaussianBlur(look.blur * shape[0] / 256)
        image = np.asarray(Image.fromarray(image).filter(blur))
    grain = texture_bank()["grain"][int(rng.integers(2))]
    noise = np.stack([cut(grain, rng, shape)] * 3 if rng.random() < 0.6 else [cut(grain, rng, shape) for _ in "rgb"])
    noisy = image + noise.transpose(1, 2, 0) * np.float32(look.noise)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
