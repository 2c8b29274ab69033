"""Which way a mask fits its picture, when the picture carries an EXIF orientation and the mask does not."""

import cv2
import numpy as np
from PIL import Image

_LONGEST = 512
"""Larger pictures are made smaller before outlines and edges are compared."""
CLEARLY = 1.5
"""One way fits clearly better than the other if the picture's edges under the outline are this much stronger."""

BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation to what turns the stored raster into the view."""


def fit_of_raster(image: np.ndarray, mask: np.ndarray, orientation: int) -> float:
    """How much better a mask fits the picture if it was drawn on the stored raster and not on the view.

    Args:
        image: The view, ``(H, W, 3)`` uint8: the orientation is applied.
        mask: ``(H, W)`` bool, taken for one of the view.
        orientation: EXIF orientation of the image, 2 to 8.

    Returns:
        Strength of the picture's edges under the outline of the turned mask, divided by that under the mask as it is;
        1 if they cannot be compared (no outline, or a turn that swaps the sides).
    """
    turned = np.asarray(Image.fromarray(mask).transpose(BACK[orientation])) if orientation in BACK else mask
    if turned.shape != mask.shape:
        return 1.0
    scale = min(1.0, _LONGEST / max(mask.shape))
    size = max(round(mask.shape[1] * scale), 1), max(round(mask.shape[0] * scale), 1)
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    grey = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strengths = []
    for drawn in (turned, mask):
        small = cv2.resize(drawn.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outline = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        if not outline.any():
            return 1.0
        strengths.append(float(edges[outline].mean()) + 1e-3)
    return strengths[0] / strengths[1]
