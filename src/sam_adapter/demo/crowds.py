"""Scenes of many objects with exact labels: cells, seeds, pores and other things that touch and look alike.

One (seed, index) always gives the same scene. The looks are in `crowd_looks`, the outlines in `crowd_bodies`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_adapter.demo.crowd_bodies import Body, Form, body, random_form
from sam_adapter.demo.crowd_looks import MICROSCOPIC, Look, debris, exposed, ground_of, paint, random_look
from sam_adapter.demo.painting import Picture

MOST_OBJECTS = 60
"""Not counting the parts inside them."""
LEAST_RADIUS = 3.0
"""Of an object, in pixels at 256 px."""
LEAST_PIXELS = 12
"""An object of which less can be seen is drawn, but has no label of its own."""
_SERIES = 17
"""Sets these scenes apart from those of `scenes`, whatever the seed."""


@dataclass(frozen=True)
class Crowd:
    """One generated picture and its objects."""

    image: NDArray[np.uint8]
    """RGB, ``(H, W, 3)``."""
    labels: NDArray[np.uint8]
    """The innermost object at each pixel, ``(H, W)``: 0 ground, then 1 to n."""
    parents: NDArray[np.uint8]
    """For each label the object that holds it, such as the cell of a nucleus, ``(n + 1,)``; 0 where there is none."""
    kind: str
    """The look: see `crowd_looks.KINDS`."""

    @property
    def whole(self) -> NDArray[np.uint8]:
        """The outermost object at each pixel, ``(H, W)``: parts count as what holds them."""
        roots = np.where(self.parents > 0, self.parents, np.arange(len(self.parents), dtype=np.uint8))
        return roots[self.labels]


@dataclass
class _Canvas:
    """What is painted, and where what is."""

    picture: Picture
    labels: NDArray[np.uint8]
    areas: list[int]
    """Pixels of each label when it was drawn; the first stands for the ground."""
    parents: list[int]


@dataclass(frozen=True)
class _Layout:
    """How the objects of one scene are placed."""

    radii: NDArray[np.float64]
    centres: NDArray[np.float64]
    """Of gatherings, XY in parts of the side, ``(G, 2)``; empty where objects lie anywhere."""
    touching: float
    """Part of the objects that is put against another one."""
    overlap: float
    """Largest part of an object that another may hide."""


def crowd(seed: int, index: int, size: int = 256) -> Crowd:
    """Generate one scene of 1 to 60 objects.

    Args:
        seed: Which series, 0 or more.
        index: Which scene of the series, 0 or more.
        size: Side in pixels.

    Returns:
        The picture, its labels and which object is part of which.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((_SERIES, seed, index))))
    look = random_look(rng)
    form = random_form(rng, natural=look.kind in MICROSCOPIC, mixed=look.kind == "things")
    layout = _layout(rng, size)
    canvas = _Canvas(ground_of(rng, look, size), np.zeros((size, size), dtype=np.uint8), [0], [0])
    debris(rng, look, canvas.picture)
    places: list[tuple[float, float, float]] = []  # x, y, radius
    for radius in layout.radii.tolist():
        for _ in range(6):
            x, y = _proposed(rng, layout, places, radius, size)
            shape = body(rng, form, radius, offset=(x % 1, y % 1))
            if _drawn(rng, canvas, look, shape, (int(x), int(y)), layout.overlap):
                places.append((x, y, radius))
                if rng.random() < look.nuclei and radius >= 7:
                    _nucleus(rng, canvas, look, (x, y), radius)
                break
    labels, parents = _tidied(canvas)
    return Crowd(exposed(rng, look, canvas.picture), labels, parents, look.kind)


def _layout(rng: np.random.Generator, size: int) -> _Layout:
    scale = size / 256
    typical = np.exp(rng.uniform(np.log(3.2), np.log(34)))
    fill = rng.uniform(0.05, 0.6)
    room = int(fill * 256 * 256 / (np.pi * typical**2))
    count = int(np.clip(room, 1, rng.integers(4, MOST_OBJECTS + 1)))
    spread = rng.uniform(0, 0.45)
    radii = np.clip(typical * np.exp(rng.normal(0, spread, count)), LEAST_RADIUS, 60) * scale
    gatherings = int(rng.integers(1, 6)) if rng.random() < 0.4 else 0
    return _Layout(
        radii=np.sort(radii)[::-1] if rng.random() < 0.5 else radii,
        centres=rng.uniform(0.1, 0.9, (gatherings, 2)),
        touching=float(rng.choice((0, 0.2, 0.5, 0.8))),
        overlap=float(rng.choice((0.02, 0.1, 0.25))),
    )


def _proposed(
    rng: np.random.Generator, layout: _Layout, places: list[tuple[float, float, float]], radius: float, size: int
) -> tuple[float, float]:
    """XY where an object of this radius might go."""
    if places and rng.random() < layout.touching:
        x, y, other = places[int(rng.integers(len(places)))]
        direction = rng.uniform(0, 2 * np.pi)
        distance = (radius + other) * rng.uniform(0.85, 1.1)
        x, y = x + distance * np.cos(direction), y + distance * np.sin(direction)
    elif len(layout.centres):
        middle = layout.centres[int(rng.integers(len(layout.centres)))]
        x, y = middle * size + rng.normal(0, 0.12 * size + radius, 2)
    else:
        x, y = rng.uniform(0, size, 2)
    return float(np.clip(x, 0, size - 1)), float(np.clip(y, 0, size - 1))


def _drawn(
    rng: np.random.Generator,
    canvas: _Canvas,
    look: Look,
    shape: Body,
    place: tuple[int, int],
    overlap: float,
    *,
    parent: int = 0,
) -> bool:
    """Paint an object unless it hides too much of others, or its part of its parent; tells whether it was painted."""
    size, side = len(canvas.labels), len(shape.coverage)
    left, top = place[0] - side // 2, place[1] - side // 2
    window = slice(max(top, 0), min(top + side, size)), slice(max(left, 0), min(left + side, size))
    inner = (
        slice(window[0].start - top, window[0].stop - top),
        slice(window[1].start - left, window[1].stop - left),
    )
    shape = Body(shape.coverage[inner], shape.dome[inner])
    solid = shape.coverage >= 0.5
    area = int(solid.sum())
    if area < LEAST_PIXELS:
        return False
    hidden = np.bincount(canvas.labels[window][solid], minlength=len(canvas.areas))
    if parent:
        if hidden[parent] < 0.97 * area:
            return False
    else:
        # Parts are hidden with what holds them.
        shares = hidden[1:] / np.maximum(np.array(canvas.areas[1:]), 1)
        if len(shares) and (shares.max() > overlap or hidden[1:].sum() > 0.5 * area):
            return False
    paint(rng, look, canvas.picture, window, shape, is_part=parent > 0)
    canvas.labels[window][solid] = len(canvas.areas)
    canvas.areas.append(area)
    canvas.parents.append(parent)
    return True


def _nucleus(rng: np.random.Generator, canvas: _Canvas, look: Look, place: tuple[float, float], radius: float) -> None:
    form = Form("blob", elongation=0.3, roughness=0.05, power=2.0, direction=None)
    inner = radius * rng.uniform(0.3, 0.55)
    shift = rng.normal(0, 0.12 * radius, 2)
    x, y = place[0] + float(shift[0]), place[1] + float(shift[1])
    shape = body(rng, form, inner, offset=(x % 1, y % 1))
    _drawn(rng, canvas, look, shape, (int(x), int(y)), 1.0, parent=len(canvas.areas) - 1)


def _tidied(canvas: _Canvas) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels without gaps; what can hardly be seen joins its parent or the ground."""
    visible = np.bincount(canvas.labels.ravel(), minlength=len(canvas.areas))
    parents = np.array(canvas.parents)
    held = np.bincount(parents, weights=visible, minlength=len(parents))  # pixels of the parts
    stays = visible + np.where(parents > 0, 0, held) >= LEAST_PIXELS
    stays &= visible > 0
    stays[0] = True
    numbers = np.where(stays, np.cumsum(stays) - 1, 0)
    heirs = np.where(stays, numbers, numbers[parents])
    return heirs[canvas.labels].astype(np.uint8), numbers[parents][stays].astype(np.uint8)
