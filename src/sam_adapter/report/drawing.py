"""Masks, errors and prompts drawn on pictures, so that they are seen on any picture and by colour-blind readers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..annotations.reading.classes import COLOURS

if TYPE_CHECKING:
    from ..batch import Prompt

Colour = tuple[int, int, int]

TRUE_POSITIVE: Colour = (240, 240, 240)
FALSE_POSITIVE: Colour = COLOURS[0]
FALSE_NEGATIVE: Colour = COLOURS[4]
"""White, orange and blue differ in brightness too, so nobody needs to see colour for them."""
VOID: Colour = (110, 110, 110)
"""Its stripes are seen on the darkened picture by their pattern."""

PROMPT_COLOUR: Colour = (255, 255, 0)
BACKGROUND_POINT: Colour = (255, 60, 60)
TINT = 0.4
SAMPLES = 2000
"""Pixels of a picture that its colours are judged by."""
BAND_PIXELS = 1 << 22
"""Pixels of the rows of a large picture that are drawn on at once."""

VISIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ],
    dtype=np.float32,
)
"""Linear RGB as seen with all cones, without those for red, and without those for green (Machado et al., 2009)."""


def overlay(
    image: np.ndarray, mask: np.ndarray, *, width: int | None = None, colour: Colour | None = None
) -> np.ndarray:
    """The picture with the mask tinted, and a double outline, coloured and black or white, that lies within the mask.

    Args:
        image: ``(H, W, 3)`` uint8.
        mask: ``(H, W)`` bool.
        width: Pixels of each of the two outlines; None makes them fit a picture that is looked at in full size.
        colour: Of the mask; None takes one that differs from the picture's own.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    drawn = np.empty_like(image)
    for rows, band in overlay_bands(image, mask.astype(np.uint8), [colour], width=width):
        drawn[rows] = band
    return drawn


def overlay_bands(
    image: np.ndarray, regions: np.ndarray, colours: Sequence[Colour | None], *, width: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """An `overlay` of regions that do not share pixels, a band of rows at a time.

    Args:
        image: ``(H, W, 3)`` uint8.
        regions: ``(H, W)`` uint8, 0 where nothing is drawn; the region 1 has the first colour.
        colours: None takes one that differs from the picture's own.
        width: As of `overlay`.

    Yields:
        Rows of the picture, and what is drawn there, ``(rows, W, 3)`` uint8.
    """
    known = [colour or contrasting_colour(image) for colour in colours]
    table = np.zeros((256, 2, 3), np.uint8)
    table[1 : len(known) + 1] = [(colour, _opposite(colour)) for colour in known]
    line = width or max(round(max(regions.shape) / 400), 1)
    height, step = len(image), max(BAND_PIXELS // max(image.shape[1], 1), 1)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        seen = slice(max(top - 2 * line, 0), min(rows.stop + 2 * line, height))  # all that decides where outlines are
        shape = regions[rows]
        tint, opposite = table[shape, 0], table[shape, 1]
        drawn = cv2.copyTo(cv2.addWeighted(image[rows], 1 - TINT, tint, TINT, 0), shape, image[rows].copy())
        own = slice(top - seen.start, rows.stop - seen.start)
        inner, innermost = (_within(regions[seen], reach)[own] for reach in (line, 2 * line))
        drawn = cv2.copyTo(tint, shape * ~inner, drawn)
        yield rows, np.asarray(cv2.copyTo(opposite, (inner & ~innermost).view(np.uint8), drawn))


def _within(regions: np.ndarray, reach: int) -> np.ndarray:
    """Where a square of some pixels to each side lies in one region, ``(H, W)`` bool; beyond the border is none."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    least = cv2.erode(regions, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (least > 0) & (least == cv2.dilate(regions, kernel))


def contrasting_colour(image: np.ndarray) -> Colour:
    """The one of `COLOURS` that differs most from a picture's own colours, with normal and red-green blind vision.

    Args:
        image: ``(H, W, 3)`` uint8.
    """
    step = max(int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLES)), 1)
    pixels = _seen(image[step // 2 :: step, step // 2 :: step].reshape(1, -1, 3))  # (3, P, 3)
    colours = _seen(np.array(COLOURS, np.uint8)[None])  # (3, C, 3)
    # A tenth of the picture may be nearer: a coloured lamp must not decide for a brown leaf.
    distance = np.linalg.norm(colours[:, :, None] - pixels[:, None], axis=-1).min(0)  # (C, P)
    return COLOURS[int(np.quantile(distance, 0.1, axis=1).argmax())]


def error_map(image: np.ndarray, mask: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """The picture in dark grey, and over it what was found, wrongly marked and missed, and stripes on the void.

    Args:
        image: ``(H, W, 3)`` uint8.
        mask: Prediction, ``(H, W)`` bool.
        target: Ground truth, ``(H, W)`` bool.
        valid: ``(H, W)`` bool, False where the ground truth says nothing; None if every pixel counts.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    grey = (image.astype(np.float32).mean(axis=2) * 0.3).round().astype(np.uint8)
    drawn = np.repeat(grey[:, :, None], 3, axis=2)
    drawn[mask & target] = TRUE_POSITIVE
    drawn[mask & ~target] = FALSE_POSITIVE
    drawn[~mask & target] = FALSE_NEGATIVE
    if valid is not None:
        drawn[~valid] = np.repeat(grey[:, :, None], 3, axis=2)[~valid]
        width = max(round(max(mask.shape) / 100), 2)
        rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
        drawn[~valid & ((rows + columns) // width % 2 == 0)] = VOID
    return drawn


def with_prompt(image: np.ndarray, prompt: "Prompt") -> np.ndarray:
    """The picture with a prompt's box, points and outlined mask: yellow, points of the background red and crossed.

    Args:
        image: ``(H, W, 3)`` uint8.
        prompt: In pixels of the picture.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    drawn = image.copy()
    thickness = max(round(max(image.shape) / 130), 1)
    if prompt.box is not None:
        box = prompt.box.round().int().tolist()
        for colour, width in (((0, 0, 0), thickness + 2), (PROMPT_COLOUR, thickness)):
            cv2.rectangle(drawn, box[:2], box[2:], colour, width)
    if prompt.mask is not None:
        corner = (prompt.mask.part.left, prompt.mask.part.top)
        pixels = prompt.mask.pixels.cpu().numpy().astype(np.uint8)
        outlines, _ = cv2.findContours(pixels, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=corner)
        for colour, width in (((0, 0, 0), thickness + 2), (PROMPT_COLOUR, thickness)):
            cv2.drawContours(drawn, outlines, -1, colour, width)
    if prompt.points is not None and prompt.point_labels is not None:
        points = prompt.points.round().int().tolist()
        for point, label in zip(points, prompt.point_labels.tolist(), strict=True):
            _draw_point(drawn, point, label == 1, thickness)
    return drawn


def _draw_point(drawn: np.ndarray, point: list[int], foreground: bool, thickness: int) -> None:
    colour, radius = PROMPT_COLOUR if foreground else BACKGROUND_POINT, 2 * thickness + 1
    cv2.circle(drawn, point, radius + 2, (0, 0, 0), -1)
    cv2.circle(drawn, point, radius, colour, -1)
    if not foreground:
        cv2.drawMarker(drawn, point, (0, 0, 0), cv2.MARKER_TILTED_CROSS, 2 * radius, thickness)


def _seen(colours: np.ndarray) -> np.ndarray:
    """CIELAB ``(3, N, 3)`` of sRGB colours ``(1, N, 3)`` uint8 under each of `VISIONS`."""
    linear = (colours.astype(np.float32) / 255) ** 2.2
    seen = np.einsum("vij,nj->vni", VISIONS, linear[0]).clip(0, 1)
    return cv2.cvtColor(np.ascontiguousarray(seen, dtype=np.float32), cv2.COLOR_LRGB2LAB)


def _opposite(colour: Colour) -> Colour:
    """Black or white, whichever is farther in brightness."""
    return (0, 0, 0) if np.dot(colour, (0.2126, 0.7152, 0.0722)) > 110 else (255, 255, 255)
