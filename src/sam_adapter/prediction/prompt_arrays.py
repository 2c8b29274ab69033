"""Prompts that a user gives as arrays, checked against the picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import GivenMask, Prompt, Size
from ..config.ranges import shortened
from ..errors import DataError

MOST_POINTS = 1000
"""Points of one prompt; each takes memory in the mask decoder."""
MOST_PROMPTS = 100_000
"""Prompts of one call; each takes the memory of a low-resolution mask."""


def make_prompts(
    *,
    box: Any = None,
    points: Any = None,
    labels: Any = None,
    mask: Any = None,
    mask_input: Tensor | None = None,
    size: Size,
) -> list[Prompt]:
    """Check a user's prompts against the picture's size; see `Predictor.predict` for the arguments.

    Returns:
        One for each box, each row of points or each mask, or one alone.

    Raises:
        DataError: If a shape is wrong, or a coordinate is not in the picture.
    """
    boxes: list[Tensor | None] = [None]
    if box is not None:
        given_boxes = _coordinates("box", box, 4, size, most=MOST_PROMPTS)
        if (given_boxes[:, 2:] < given_boxes[:, :2]).any():  # a mask in the last row or column has one without area
            raise DataError(f"box: expected x1 <= x2 and y1 <= y2, got {shortened(given_boxes.tolist())}.")
        boxes = list(given_boxes)
    clicked: list[Points] = [(None, None)]
    if points is not None:
        several = _depth(points) == 3
        clicked = _points_of_each(points, labels, size) if several else [_points_of_one(points, labels, size)]
    elif labels is not None:
        raise DataError("labels: given without points.")
    given: list[GivenMask | None] = [None] if mask is None else _masks(mask, size)
    count = max(len(boxes), len(clicked), len(given))
    if box is not None and points is not None and len(boxes) != len(clicked):
        raise DataError(
            f"box and points: with points expected one box for each prompt, got {len(boxes)} boxes for points of "
            f"{len(clicked)}; points of N boxes have the shape (N, P, 2), and labels (N, P)."
        )
    if box is None and any(at is None for at, _ in clicked) and points is not None:
        raise DataError("labels: a prompt has -1 for each of its points; expected a point with label 1 or 0, or a box.")
    if mask is not None:
        beside = (("box", box, boxes), ("points", points, clicked))
        _require_as_many(len(given), {name: len(own) for name, asked, own in beside if asked is not None})
        if mask_input is not None:
            raise DataError(
                "mask and mask_input: give one of them, a mask of the picture or an earlier answer's logits."
            )
    boxes = boxes if len(boxes) == count else boxes * count
    clicked = clicked if len(clicked) == count else clicked * count
    masks: list[Tensor | None] = [None] * count
    if mask_input is not None:
        if mask_input.ndim != 3 or len(mask_input) != count:
            raise DataError(
                f"mask_input: expected ({count}, h, w), one of an earlier answer's mask_logits for each mask that "
                f"is asked for, got {tuple(mask_input.shape)}."
            )
        masks = list(mask_input[:, None].float())
    given = given if len(given) == count else given * count
    return [
        Prompt(box=one, points=at, point_labels=kinds, mask_input=logits, mask=own)
        for one, (at, kinds), logits, own in zip(boxes, clicked, masks, given, strict=True)
    ]


Points = tuple[Tensor | None, Tensor | None]
"""Points ``(P, 2)`` of one prompt and their labels ``(P,)``; None for a prompt without points."""


def _require_as_many(masks: int, beside: Mapping[str, int]) -> None:
    """Compare the number of masks with those of what is given beside them, by name."""
    for name, count in beside.items():
        if count != masks:
            raise DataError(
                f"mask and {name}: expected as many of both, got {masks} of mask and {count} of {name}; N masks have "
                "the shape (N, H, W), N boxes (N, 4), and the points of N prompts (N, P, 2)."
            )


def _points_of_one(points: Any, labels: Any, size: Size) -> Points:
    at = _coordinates("points", points, 2, size, most=MOST_POINTS)  # (P, 2)
    try:
        given = [1] * len(at) if labels is None else np.atleast_1d(np.asarray(labels)).tolist()
    except ValueError:  # lists of unequal lengths
        given = list(labels or ())
    if len(given) != len(at) or any(label not in (0, 1) or type(label) is not int for label in given):
        raise DataError(f"labels: expected {len(at)} values, each 0 or 1, got {shortened(given)}.")
    return at, torch.tensor(given)


def _points_of_each(points: Any, labels: Any, size: Size) -> list[Points]:
    """The points ``(N, P, 2)`` of N prompts with labels ``(N, P)``, of which -1 stands for no point."""
    try:
        at = np.asarray(points, dtype=np.float32)
        kinds = np.ones(at.shape[:2], np.int64) if labels is None else np.asarray(labels)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"points and labels: expected (N, P, 2) and (N, P) numbers, got {shortened(points)}. Where prompts "
            "differ in their number of points, fill up with points of the label -1."
        ) from error
    if at.ndim != 3 or at.shape[2] != 2 or not at.shape[1]:
        raise DataError(f"points: expected (P, 2) for one prompt or (N, P, 2) for N, got {at.shape}.")
    if len(at) > MOST_PROMPTS or at.shape[1] > MOST_POINTS:
        raise DataError(f"points: expected at most {MOST_PROMPTS} prompts of {MOST_POINTS} points, got {at.shape[:2]}.")
    if kinds.shape != at.shape[:2] or kinds.dtype.kind not in "iu" or not np.isin(kinds, (-1, 0, 1)).all():
        raise DataError(f"labels: expected {at.shape[:2]} whole numbers, each 1, 0 or -1, got {shortened(labels)}.")
    found: list[Points] = []
    for own, kind in zip(at, kinds, strict=True):
        there = kind != -1
        if not there.any():
            found.append((None, None))
            continue
        found.append((_coordinates("points", own[there], 2, size, most=MOST_POINTS), torch.tensor(kind[there])))
    return found


def _masks(mask: Any, size: Size) -> list[GivenMask | None]:
    """A mask ``(H, W)``, or N ``(N, H, W)``, of a picture ``(H, W)``."""
    try:
        array = np.asarray(mask)
    except (TypeError, ValueError) as error:
        raise DataError("mask: expected an array of (H, W) or (N, H, W) on the CPU.") from error
    if array.ndim not in (2, 3) or not len(array) or array.dtype.kind not in "biuf":
        raise DataError(f"mask: expected (H, W) for one prompt or (N, H, W) for N, got {array.shape} {array.dtype}.")
    if array.shape[-2:] != size:
        raise DataError(
            f"mask: is {array.shape[-1]}x{array.shape[-2]}, and the picture {size[1]}x{size[0]}; masks must match, and "
            "are brought to the model's size with the picture."
        )
    return [_given_mask(one) for one in array.reshape(-1, *size)]


def _given_mask(array: np.ndarray) -> GivenMask:
    there = array != 0
    if not there.any():
        raise DataError("mask: has no foreground; expected a value but 0 where the object is.")
    if array.dtype != bool and not (array[there] == array[there][0]).all():
        raise DataError(
            "mask: has several values but 0, as a map of probabilities or of numbered objects; expected a mask of one "
            "object, for example map > 0.5 or labels == 3."
        )
    return GivenMask.of(there)


def _depth(values: Any) -> int:
    """How deep numbers are nested: 3 for rows of rows of pairs."""
    depth = 0
    while isinstance(values, list | tuple) and values:
        depth, values = depth + 1, values[0]
    return depth + (np.ndim(values) if isinstance(values, np.ndarray | Tensor) else 0)


def _coordinates(name: str, values: Any, columns: int, size: Size, *, most: int) -> Tensor:
    try:
        array = np.atleast_2d(np.asarray(values, dtype=np.float32))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: expected numbers, got {shortened(values)}.") from error
    if array.ndim != 2 or array.shape[1] != columns or not len(array):
        raise DataError(f"{name}: expected rows of {columns} numbers, got {shortened(values)}.")
    if len(array) > most:
        raise DataError(f"{name}: expected at most {most}, got {len(array)}.")
    height, width = size
    x, y = array[:, 0::2], array[:, 1::2]
    if not np.isfinite(array).all() or x.min() < 0 or y.min() < 0 or x.max() > width or y.max() > height:
        raise DataError(f"{name}: {shortened(array.tolist())} is not inside the picture of {width}x{height} pixels.")
    return torch.from_numpy(array)
