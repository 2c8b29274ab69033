"""labelme's kinds of shapes as areas, by the widths that labelme itself draws them with (`shape_to_mask`)."""

import base64
import io
import itertools
from typing import Any

import numpy as np
from PIL import Image

from .objects import AnnotatedObject
from .outlines import numbers, polygon
from .problems import EntryError

VOID = "__ignore__"
"""Label of areas that the annotation says nothing about."""
BACKGROUND = "_background_"
"""Label of areas that are cut out of what was painted before."""
LINE_WIDTH = 10.0
POINT_RADIUS = 5.0
_REDRAW = "draw it again, or delete the entry"
_POINTS: dict[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "rectangle": (2, 2),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "mask": (2, 2),
}
"""Kind of shape to the fewest and the most points that it has."""


def outlined(shape: dict[str, Any], label: str, size: tuple[int, int], entry: str) -> AnnotatedObject:
    """The area of a shape.

    Args:
        shape: Of a file's ``shapes``.
        label: Its label.
        size: ``(H, W)`` of the image.
        entry: Where it stands.

    Raises:
        EntryError: If it has no area in the image, or is of a kind that means none.
    """
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(kind, str) or kind not in _POINTS:
        raise EntryError(
            f"is of the shape type {kind!r:.40}, which means no area; expected {', '.join(_POINTS)}", _REDRAW
        )
    points = numbers(shape.get("points"))
    fewest, most = _POINTS[kind]
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < fewest or (most and len(points) > most):
        count = len(points) if points.ndim == 2 and points.shape[1] == 2 else f"{points.size} numbers for"
        wanted = str(fewest) if most else f"{fewest} or more"
        raise EntryError(f"has a {kind} of {count} points; expected {wanted}, each [x, y]", _REDRAW)
    if not np.isfinite(points).all():
        raise EntryError("has a coordinate that is no finite number (NaN or infinite)", _REDRAW)
    void = label == VOID
    if kind == "mask":
        lengths = _run_lengths(_placed(shape.get("mask"), points, size))
        return AnnotatedObject(class_name=label, run_lengths=lengths, void=void, entry=entry)
    polygons = tuple(polygon(one.ravel(), size) for one in _areas(kind, points))
    return AnnotatedObject(class_name=label, polygons=polygons, void=void, entry=entry)


def joined(first: AnnotatedObject, second: AnnotatedObject, size: tuple[int, int]) -> AnnotatedObject:
    """Two shapes of one object."""
    if first.run_lengths is None and second.run_lengths is None:
        polygons = (*first.polygons, *second.polygons)
        return AnnotatedObject(class_name=first.class_name, polygons=polygons, void=first.void, entry=first.entry)
    return _of_mask(first.mask(size) | second.mask(size), first)


def without(one: AnnotatedObject, cut: AnnotatedObject, size: tuple[int, int]) -> AnnotatedObject:
    """An object without an area that is background; the same where they have no pixel in common."""
    mask, hole = one.mask(size), cut.mask(size)
    return _of_mask(mask & ~hole, one) if (mask & hole).any() else one


def _areas(kind: str, points: np.ndarray) -> list[np.ndarray]:
    """Polygons ``(n, 2)`` that cover a shape together."""
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points
        return [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]
    if kind == "circle":
        return [_circle(points[0], float(np.hypot(*(points[1] - points[0]))))]
    if kind == "point":
        return [_circle(points[0], POINT_RADIUS)]
    if kind in ("line", "linestrip"):
        bands = [_band(*ends) for ends in itertools.pairwise(points) if (ends[0] != ends[1]).any()]
        if not bands:
            raise EntryError(f"has a {kind} without length", _REDRAW)
        return bands
    return [points]


def _circle(centre: np.ndarray, radius: float) -> np.ndarray:
    """A polygon that is nowhere a twentieth of a pixel away from the circle."""
    corners = int(np.clip(np.pi / np.sqrt(0.1 / max(radius, 1e-9)), 12, 720))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _band(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A line as wide as labelme draws it."""
    along = (end - start) / np.hypot(*(end - start))
    aside = np.array([-along[1], along[0]]) * LINE_WIDTH / 2
    return np.stack([start + aside, end + aside, end - aside, start - aside])


def _placed(text: Any, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture of a shape of type mask where it lies, ``(H, W)`` bool; its corners are pixels that are in it."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            inside = np.asarray(image.convert("L") if image.mode != "1" else image) != 0
    except Exception as error:  # of many types
        raise EntryError("has a mask that is no picture in base64", _REDRAW) from error
    (left, top), (right, bottom) = np.clip(points, -1e6, 1e6).astype(int)
    box = f"({left}, {top}) to ({right}, {bottom})"
    if inside.shape != (bottom - top + 1, right - left + 1):
        raise EntryError(f"has a mask of {inside.shape[1]}x{inside.shape[0]} pixels for a box from {box}", _REDRAW)
    if left < 0 or top < 0 or right >= size[1] or bottom >= size[0]:
        raise EntryError(f"has a mask from {box}, outside its image of {size[1]}x{size[0]} pixels", _REDRAW)
    whole = np.zeros(size, dtype=bool)
    whole[top : bottom + 1, left : right + 1] = inside
    return whole


def _of_mask(mask: np.ndarray, like: AnnotatedObject) -> AnnotatedObject:
    return AnnotatedObject(class_name=like.class_name, run_lengths=_run_lengths(mask), void=like.void, entry=like.entry)


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco

    encoded: Any = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return encoded
