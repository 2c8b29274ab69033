"""Masks with a random error, in place of those that users give: of a threshold, another model, a picture before."""

import cv2
import numpy as np

from ..batch import GivenMask, Size

ROUGHNESS = 6
"""Random values along a mask's longer side, by which parts of its outline move in and out."""
LONGEST_SIDE = 512
"""Larger masks are changed at this size, which is finer than the mask input of a model."""


def coarse_mask(
    mask: np.ndarray,
    error: float,
    rng: np.random.Generator,
    *,
    corner: tuple[int, int] = (0, 0),
    size: Size | None = None,
) -> GivenMask:
    """A mask whose outline is moved at random.

    The whole outline moves in or out, parts of it move in or out, and the mask is shifted along rows and along columns:
    each of the four by at most ``error`` times the distance of the innermost pixel from the outline.

    Args:
        mask: ``(h, w)`` bool, which has foreground.
        error: Less than 0.5, so that the innermost pixel always stays; 0 gives the mask itself.
        rng: Source of randomness; as many numbers are drawn for every mask.
        corner: Row and column of the mask's first pixel in the picture.
        size: ``(H, W)`` of the picture; None if it is a mask of all of it.

    Returns:
        The changed mask, cut to the picture.
    """
    exact = GivenMask.of(mask, corner=corner, size=size)
    swelling, *towards = rng.uniform(-1, 1, 3)
    bumps = rng.uniform(-1, 1, (ROUGHNESS, ROUGHNESS)).astype(np.float32)
    if not error:
        return exact
    sides = np.array(exact.part[2:])
    small = np.maximum(np.round(sides * min(LONGEST_SIDE / sides.max(), 1)), 1).astype(int)
    shares = exact.pixels.numpy().astype(np.float32)
    if (small < sides).any():
        shares = cv2.resize(shares, (int(small[1]), int(small[0])), interpolation=cv2.INTER_AREA)
    inside = (shares >= min(0.5, float(shares.max()))).astype(np.uint8)
    reach = error * float(_to_outline(np.pad(inside, 1)).max())
    margin = int(np.ceil(2 * reach)) + 1
    inside = np.pad(inside, margin)
    longest = max(inside.shape)
    here = cv2.resize(bumps, (longest, longest), interpolation=cv2.INTER_LINEAR)[: inside.shape[0], : inside.shape[1]]
    moved = np.where(inside, _to_outline(inside), -_to_outline(1 - inside)) + reach * (swelling + here) > 0
    scale = sides / small  # pixels of the picture to one of these
    first = np.array(exact.part[:2]) - np.round(margin * scale) + np.round(reach * scale * towards)
    return _in_picture(moved, first.astype(int), np.round(moved.shape * scale).astype(int), exact.size)


def _to_outline(pixels: np.ndarray) -> np.ndarray:
    """Distance of each pixel that is not zero from the outline, ``(h, w)`` float32."""
    return np.maximum(cv2.distanceTransform(pixels, cv2.DIST_L2, 5) - np.float32(0.5), 0)


def _in_picture(mask: np.ndarray, first: np.ndarray, sides: np.ndarray, size: Size) -> GivenMask:
    """A mask brought to other sides ``(2,)``, whose first pixel lies at a row and column of the picture."""
    large = cv2.resize(mask.astype(np.uint8), (int(sides[1]), int(sides[0])), interpolation=cv2.INTER_NEAREST)
    before, after = np.maximum(-first, 0), np.minimum(np.array(size) - first, sides)
    seen = large[before[0] : after[0], before[1] : after[1]].astype(bool)
    top, left = (first + before).tolist()
    return GivenMask.of(seen, corner=(top, left), size=size)
