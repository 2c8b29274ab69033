"""Outlines of random objects, drawn with soft edges onto a square canvas."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Parts = list[tuple[Points, bool]]
"""Polygons ``(N, 2)`` XY in drawing order; True adds to the object, False cuts a hole."""


def silhouette(
    rng: np.random.Generator,
    size: int,
    *,
    length: float,
    centre: tuple[float, float],
    least_area: float = 0.0,
) -> NDArray[np.float32]:
    """Coverage of one random object.

    Args:
        rng: Source of the shape, its proportions and its rotation.
        size: Side of the canvas in pixels.
        length: Longer side of the object's box in pixels.
        centre: XY pixel position of the box's centre.
        least_area: Fraction of the canvas it must cover; a thinner object is enlarged until it does.

    Returns:
        ``(size, size)`` in 0..1, with fractions along the outline.
    """
    parts = _turned(rng, SHAPES[int(rng.integers(len(SHAPES)))](rng))
    for _ in range(8):
        coverage = _rasterised(parts, size=size, length=length, centre=centre)
        if coverage.mean() >= least_area:
            break
        length *= 1.2
    return coverage


def _turned(rng: np.random.Generator, parts: Parts) -> Parts:
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    stretch = np.array([1.0, rng.uniform(0.65, 1.0)])
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    turned = [((points * stretch) @ rotation, adds) for points, adds in parts]
    outline = np.concatenate([points for points, adds in turned if adds])
    low, high = outline.min(axis=0), outline.max(axis=0)
    return [((points - (low + high) / 2) / (high - low).max(), adds) for points, adds in turned]


def _rasterised(parts: Parts, *, size: int, length: float, centre: tuple[float, float]) -> NDArray[np.float32]:
    canvas = Image.new("L", (2 * size, 2 * size), 0)
    draw = ImageDraw.Draw(canvas)
    for points, adds in parts:
        corners = np.rint(2 * (points * length + np.array(centre))).astype(int)
        draw.polygon([(int(x), int(y)) for x, y in corners], fill=255 if adds else 0)
    return np.asarray(canvas.reduce(2), dtype=np.float32) / np.float32(255)


def _angles(count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64) * (2 * np.pi / count)


def _polar(angles: NDArray[np.float64], radii: NDArray[np.float64] | float) -> Points:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _oval(x: float, y: float, half_width: float, half_height: float) -> Points:
    return _polar(_angles(32), 1.0) * np.array([half_width, half_height]) + np.array([x, y])


def _limb(start: tuple[float, float], end: tuple[float, float], thick: float, thin: float) -> Points:
    """A tapering stroke from start to end."""
    from_point, to_point = np.array(start), np.array(end)
    direction = (to_point - from_point) / max(np.sqrt(((to_point - from_point) ** 2).sum()), 1e-6)
    normal = np.array([-direction[1], direction[0]])
    return np.stack(
        [
            from_point + normal * thick,
            to_point + normal * thin,
            to_point - normal * thin,
            from_point - normal * thick,
        ]
    )


def _through(knots: Points, steps: int = 8) -> Points:
    """Closed Catmull-Rom curve through the knots."""
    before, after, beyond = np.roll(knots, 1, axis=0), np.roll(knots, -1, axis=0), np.roll(knots, -2, axis=0)
    t = (np.arange(steps) / steps)[None, :, None]
    curve = (
        knots[:, None]
        + 0.5 * t * (after - before)[:, None]
        + t * t * (before - 2.5 * knots + 2 * after - 0.5 * beyond)[:, None]
        + t * t * t * (1.5 * (knots - after) + 0.5 * (beyond - before))[:, None]
    )
    return curve.reshape(-1, 2)


def _blob(rng: np.random.Generator) -> Parts:
    angles = _angles(64)
    radii = np.ones_like(angles)
    for order in range(2, 7):
        radii += rng.normal(0, 0.32 / order) * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    return [(_polar(angles, np.maximum(radii, 0.25)), True)]


def _spline(rng: np.random.Generator) -> Parts:
    count = int(rng.integers(5, 11))
    angles = _angles(count) + rng.uniform(-0.25, 0.25, count)
    return [(_through(_polar(angles, rng.uniform(0.35, 1.0, count))), True)]


def _ellipse(rng: np.random.Generator) -> Parts:
    return [(_oval(0, 0, 1, rng.uniform(0.35, 1.0)), True)]


def _polygon(rng: np.random.Generator) -> Parts:
    count = int(rng.integers(3, 8))
    angles = _angles(count) + rng.uniform(-0.5, 0.5, count) * (2.4 / count)
    return [(_polar(angles, rng.uniform(0.6, 1.0, count)), True)]


def _star(rng: np.random.Generator) -> Parts:
    count = int(rng.integers(4, 9))
    radii = np.where(np.arange(2 * count) % 2, rng.uniform(0.35, 0.65), 1.0)
    return [(_polar(_angles(2 * count), radii), True)]


def _bar(rng: np.random.Generator) -> Parts:
    height = rng.uniform(0.3, 0.9)
    corners = np.array([[-1, -height], [1, -height], [1, height], [-1, height]])
    return [(corners + rng.normal(0, 0.08, (4, 2)), True)]


def _ring(rng: np.random.Generator) -> Parts:
    hole = rng.uniform(0.35, 0.6)
    shift = rng.uniform(-0.12, 0.12, 2)
    outer = _polar(_angles(48), 1.0)
    return [(outer, True), (outer * hole + shift, False)]


def _crescent(rng: np.random.Generator) -> Parts:
    bite = _oval(rng.uniform(0.4, 0.75), 0, rng.uniform(0.6, 0.85), rng.uniform(0.6, 0.95))
    return [(_oval(0, 0, 1, 1), True), (bite, False)]


def _flower(rng: np.random.Generator) -> Parts:
    count = int(rng.integers(3, 8))
    angles = _angles(72)
    depth = rng.uniform(0.2, 0.4)
    return [(_polar(angles, 1 - depth + depth * np.cos(count * angles)), True)]


def _fish(rng: np.random.Generator) -> Parts:
    tail = rng.uniform(0.3, 0.55)
    fin = np.array([[-0.1, -0.3], [-0.45, -0.3 - tail], [0.35, -0.25]])
    tail_fin = np.array([[-0.75, 0.0], [-1.4, -tail], [-1.2, 0.0], [-1.4, tail]])
    return [(_oval(0, 0, 1, rng.uniform(0.35, 0.6)), True), (tail_fin, True), (fin, True)]


def _quadruped(rng: np.random.Generator) -> Parts:
    height = rng.uniform(0.3, 0.45)
    head_x, head_y = rng.uniform(0.95, 1.2), rng.uniform(-0.7, -0.2)
    parts: Parts = [
        (_oval(0, 0, 0.9, height), True),
        (_limb((0.6, 0), (head_x, head_y), 0.22, 0.16), True),
        (_oval(head_x + 0.08, head_y, 0.32, 0.22), True),
        (_limb((head_x, head_y - 0.1), (head_x - 0.05, head_y - 0.45), 0.12, 0.02), True),
        (_limb((-0.8, -0.1), (-1.35, rng.uniform(-0.7, 0.4)), 0.1, 0.04), True),
    ]
    for x in (-0.62, -0.38, 0.36, 0.62):
        foot = (x + rng.uniform(-0.2, 0.2), height + rng.uniform(0.45, 0.75))
        parts.append((_limb((x, 0.1), foot, 0.15, 0.08), True))
    return parts


def _bird(rng: np.random.Generator) -> Parts:
    lift = rng.uniform(0.5, 1.1)
    wing = np.array([[-0.35, -0.1], [-0.3 - 0.3 * lift, -lift], [0.35, -0.15]])
    other = np.array([[-0.3, 0.1], [-0.2 - 0.4 * lift, 0.8 * lift], [0.3, 0.15]])
    beak = np.array([[0.85, -0.25], [1.2, -0.1], [0.85, -0.02]])
    tail = np.array([[-0.6, 0.0], [-1.15, -0.2], [-1.15, 0.22]])
    body = [(_oval(0, 0, 0.75, 0.3), True), (_oval(0.72, -0.12, 0.24, 0.22), True)]
    return [*body, (wing, True), (other, True), (beak, True), (tail, True)]


def _insect(rng: np.random.Generator) -> Parts:
    parts: Parts = [
        (_oval(-0.5, 0, 0.55, 0.32), True),
        (_oval(0.15, 0, 0.3, 0.24), True),
        (_oval(0.58, 0, 0.22, 0.2), True),
    ]
    for x in (-0.1, 0.15, 0.35):
        for side in (-1, 1):
            foot = (x + rng.uniform(-0.35, 0.35), side * rng.uniform(0.65, 0.95))
            parts.append((_limb((x, 0), foot, 0.08, 0.045), True))
    return parts


def _cluster(rng: np.random.Generator) -> Parts:
    parts: Parts = [(_oval(0, 0, 0.6, 0.5), True)]
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(2, 5))):
        x, y = 0.6 * np.cos(angle), 0.6 * np.sin(angle)
        parts.append((_oval(x, y, rng.uniform(0.25, 0.55), rng.uniform(0.25, 0.55)), True))
    return parts


SHAPES: tuple[Callable[[np.random.Generator], Parts], ...] = (
    _blob,
    _blob,
    _spline,
    _spline,
    _ellipse,
    _polygon,
    _star,
    _bar,
    _ring,
    _crescent,
    _flower,
    _fish,
    _quadruped,
    _quadruped,
    _bird,
    _insect,
    _cluster,
)
