"""Outlines of the objects of a crowd: drawn in a small window each, with soft edges."""

from dataclasses import dataclass

import numpy as np

from sam_adapter.demo.painting import softened
from sam_adapter.demo.shapes import silhouette
from sam_adapter.demo.textures import FloatMap


@dataclass(frozen=True)
class Body:
    """One object in its own window."""

    coverage: FloatMap
    """``(side, side)`` in 0..1."""
    dome: FloatMap
    """1 in the middle, 0 at the outline and outside, ``(side, side)``."""


@dataclass(frozen=True)
class Form:
    """What the objects of one scene have in common."""

    family: str
    """``blob``, ``bean``, ``crystal`` or ``silhouette``."""
    elongation: float
    """Largest logarithm of length by width."""
    roughness: float
    """Deviation of the outline, in parts of the radius."""
    power: float
    """2 is an ellipse, more is a rounded box, 1 a diamond."""
    direction: float | None
    """Angle that all lie along in radians; None where each has its own."""


def random_form(rng: np.random.Generator, *, natural: bool, mixed: bool) -> Form:
    """The form of a scene's objects.

    Args:
        rng: Source of every choice.
        natural: Whether most are round, as cells are.
        mixed: Whether each object is another of the figures of `shapes`.
    """
    shares = (0.74, 0.16, 0.05, 0.05) if natural else (0.45, 0.2, 0.2, 0.15)
    family = "silhouette" if mixed else str(rng.choice(("blob", "bean", "crystal", "silhouette"), p=shares))
    return Form(
        family=family,
        elongation=float(rng.choice((0.1, 0.4, 0.8, 1.4))),
        roughness=float(rng.choice((0.0, 0.04, 0.1))),
        power=float(rng.choice((2.0, 2.0, 2.5, 2.5 if natural else 4.0))),
        direction=float(rng.uniform(0, np.pi)) if rng.random() < 0.3 else None,
    )


def body(rng: np.random.Generator, form: Form, radius: float, *, offset: tuple[float, float]) -> Body:
    """One object of about this radius.

    Args:
        rng: Source of its own outline.
        form: What it has in common with the others.
        radius: That of the disc of equal area, in pixels; a silhouette is as long as the disc.
        offset: XY of its middle within the middle pixel.
    """
    if form.family == "silhouette" and radius >= 5:
        side = 2 * int(np.ceil(1.3 * radius)) + 4
        middle = (side // 2 + offset[0], side // 2 + offset[1])
        coverage = silhouette(rng, side, length=2.4 * radius, centre=middle)
        inside = softened(coverage, 0.35 * radius)
        return Body(coverage, np.clip(2 * inside - 1, 0, 1) * coverage)
    stretch = np.exp(0.5 * rng.uniform(0.3, 1) * form.elongation)
    along, across = radius * stretch, radius / stretch
    angle = rng.uniform(0, np.pi) if form.direction is None else form.direction + rng.normal(0, 0.25)
    half = int(np.ceil(1.35 * along)) + 2
    x = np.arange(-half, half, dtype=np.float32)[None, :] - np.float32(offset[0])
    y = np.arange(-half, half, dtype=np.float32)[:, None] - np.float32(offset[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u: FloatMap = ((cosine * x + sine * y) / np.float32(along)).astype(np.float32, copy=False)
    v: FloatMap = ((cosine * y - sine * x) / np.float32(across)).astype(np.float32, copy=False)
    if form.family == "bean":
        v += np.float32(rng.uniform(0.2, 0.6)) * (u * u - np.float32(0.4))
    outline = _outline(rng, form, u, v)
    reach = (np.abs(u) ** form.power + np.abs(v) ** form.power) ** np.float32(1 / form.power)
    ratio = reach / outline
    coverage = np.clip((1 - ratio) * np.float32(across) + np.float32(0.5), 0, 1)
    return Body(coverage.astype(np.float32), np.clip(1 - ratio * ratio, 0, 1).astype(np.float32))


def _outline(rng: np.random.Generator, form: Form, u: FloatMap, v: FloatMap) -> FloatMap:
    """Distance of the outline in each direction, about 1, in the shape of `u`."""
    outline = np.ones_like(u)
    if form.family != "crystal" and not form.roughness:
        return outline
    theta = np.arctan2(v, u)
    if form.family == "crystal":
        corners = int(rng.integers(3, 8))
        sector = np.float32(2 * np.pi / corners)
        turned = (theta + np.float32(rng.uniform(0, 2 * np.pi))) % sector - sector / 2
        outline = np.float32(0.95) / np.cos(turned) * np.float32(np.sqrt(np.cos(sector / 2)))
        outline = np.minimum(outline, np.float32(1.25))
    for order in range(2, 7):
        swing = np.float32(rng.normal(0, form.roughness * 2 / order))
        outline += swing * np.cos(order * theta + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.clip(outline, 0.6, 1.3)
