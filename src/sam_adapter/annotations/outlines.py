"""Polygons of annotation files: what makes one usable, and whether it crosses itself."""

from typing import Any

import numpy as np

from .problems import EntryError

_REDRAW = "draw it again, or delete the entry"
_CROSSINGS_OF = 2000
"""Polygons of more points are not looked at for crossings: every edge is compared with every other."""


def polygon(coordinates: Any, size: tuple[int, int] | None) -> np.ndarray:
    """A polygon of a file as an array.

    Args:
        coordinates: ``x1, y1, x2, y2, ...`` in pixels.
        size: ``(H, W)`` of its image; None if it is not known.

    Returns:
        ``(n, 2)`` float64 XY.

    Raises:
        EntryError: If it has no three points, is not of finite numbers, or lies where the image is not.
    """
    flat = numbers(coordinates)
    if flat.ndim != 1 or len(flat) % 2:
        raise EntryError(f"has a polygon of {flat.size} coordinates; expected x and y in turn", _REDRAW)
    points = flat.reshape(-1, 2)
    if len(points) < 3:
        raise EntryError(f"has a polygon of {_points(len(points))}; expected 3 or more", _REDRAW)
    low, high = points.min(axis=0), points.max(axis=0)  # NaN if there is one
    if not np.isfinite([low, high]).all():
        raise EntryError("has a polygon with a coordinate that is no finite number (NaN or infinite)", _REDRAW)
    if size is not None and _is_outside(low, high, size):
        raise EntryError(
            f"has a polygon from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), outside its image of "
            f"{size[1]}x{size[0]} pixels",
            "annotate the picture at the size that it has",
        )
    if not _area(points):
        raise EntryError("has a polygon without area: all its points lie on a line", _REDRAW)
    return points


def numbers(values: Any) -> np.ndarray:
    """A list of a file as float64.

    Raises:
        EntryError: If it holds anything but numbers.
    """
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):  # lists of unequal length
        array = np.empty(0, dtype=object)
    if array.size == 0 and array.dtype != object:
        array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise EntryError(f"has coordinates that are not all numbers, got {values!r:.60}", _REDRAW)
    return array.astype(np.float64, copy=False)


def crossing(points: np.ndarray) -> EntryError | None:
    """A remark if edges of a polygon cross, not merely touch; it is filled all the same.

    Pixels that the outline encloses an even number of times are then left out, as COCO's own code does it: the two
    halves of an eight are filled, and the middle of a five-pointed star is not.

    Args:
        points: ``(n, 2)`` XY.
    """
    count = len(points)
    if count < 4 or count > _CROSSINGS_OF:
        return None
    x, y = np.concatenate([points, points[:1]]).T
    # Side of each edge's line on which each point lies: (edge, point)
    side = np.diff(x)[:, None] * (y - y[:-1, None]) - np.diff(y)[:, None] * (x - x[:-1, None])
    apart = side[:, :-1] * side[:, 1:] < 0
    if not (apart & apart.T).any():
        return None
    return EntryError(
        "has a polygon that crosses itself; what it encloses an even number of times is left out",
        "draw it again if it is not meant so",
        remark=True,
    )


def _is_outside(low: np.ndarray, high: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a box, by its corners ``(x, y)``, is of another picture: asked before anything of its size is made.

    What is cut off at the border is customary; a whole picture's size beyond it is a mistake.
    """
    (left, top), (right, bottom), (height, width) = low.tolist(), high.tolist(), size
    beside = left >= width or top >= height or right <= 0 or bottom <= 0
    return beside or left < -width or top < -height or right > 2 * width or bottom > 2 * height


def _area(points: np.ndarray) -> bool:
    """Whether the points do not all lie on one line, to a millionth of a pixel."""
    away = points[1:] - points[0]
    if abs(away[:-1, 0] @ away[1:, 1] - away[:-1, 1] @ away[1:, 0]) > 1:  # twice the area, unless it crosses itself
        return True
    far = away[np.abs(away).sum(axis=1).argmax()]
    distances = np.abs(far[0] * away[:, 1] - far[1] * away[:, 0]) / max(float(np.hypot(*far)), 1e-9)
    return bool(distances.max() > 1e-6)


def _points(count: int) -> str:
    return f"{count} point{'' if count == 1 else 's'}"
