"""Pictures for reports: masks on images, maps of errors, and the high frequencies that an adapter sees."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from ..nn.high_frequency import high_frequency

TRUE_POSITIVE = (240, 240, 240)
FALSE_POSITIVE = (230, 159, 0)
FALSE_NEGATIVE = (0, 114, 178)
"""White, orange and blue (Okabe & Ito, 2008) differ in brightness too, so nobody needs to see colour for them."""

BOX_COLOUR = (255, 255, 0)
LONGEST_SIDE = 320
"""Larger pictures are made smaller, so that a page stays light."""


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery.

    Attributes:
        pixels: ``(H, W, 3)`` or ``(H, W)`` uint8.
        caption: Shown below it.
        alt: Says in words what is to be seen.
        exact: Few flat colours, which must not be blurred.
    """

    pixels: np.ndarray
    caption: str
    alt: str
    exact: bool = False

    def data_uri(self) -> str:
        """The picture as text that an ``img`` element shows."""
        image = Image.fromarray(self.pixels)
        scale = LONGEST_SIDE / max(image.size)
        if scale < 1:
            size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
            image = image.resize(size, Image.Resampling.NEAREST if self.exact else Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        if self.exact and image.mode == "L":
            image.convert("1", dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
            kind = "png"
        else:
            image.save(stream, "JPEG", quality=88, subsampling=0 if self.exact else -1)
            kind = "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """White where the mask is, ``(H, W)`` uint8."""
    return mask.astype(np.uint8) * 255


def error_map(image: np.ndarray, mask: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The picture in dark grey, and over it what was found, wrongly marked and missed.

    Args:
        image: ``(H, W, 3)`` uint8.
        mask: Prediction, ``(H, W)`` bool.
        target: Ground truth, ``(H, W)`` bool.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    grey = (image.astype(np.float32).mean(axis=2) * 0.3).round().astype(np.uint8)
    drawn = np.repeat(grey[:, :, None], 3, axis=2)
    drawn[mask & target] = TRUE_POSITIVE
    drawn[mask & ~target] = FALSE_POSITIVE
    drawn[~mask & target] = FALSE_NEGATIVE
    return drawn


def with_box(image: np.ndarray, box: Tensor | None) -> np.ndarray:
    """The picture with a prompt's box drawn on it.

    Args:
        image: ``(H, W, 3)`` uint8.
        box: ``(4,)`` XYXY pixels, or None.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    import cv2

    if box is None:
        return image
    left, top, right, bottom = (round(value) for value in box.tolist())
    thickness = max(round(max(image.shape) / 130), 1)
    drawn = cv2.rectangle(image.copy(), (left, top), (right, bottom), (0, 0, 0), thickness + 2)
    return np.asarray(cv2.rectangle(drawn, (left, top), (right, bottom), BOX_COLOUR, thickness))


def high_frequency_picture(pixel_values: Tensor, rate: float) -> np.ndarray:
    """The high-frequency part of an image as the adapter sees it, brightened.

    Args:
        pixel_values: Normalised input ``(3, S, S)``.
        rate: Share of the spectrum that is removed.

    Returns:
        ``(S, S)`` uint8; white is the 99th percentile and above.
    """
    strength = high_frequency(pixel_values[None], rate)[0].mean(0).numpy()
    brightest = max(float(np.quantile(strength, 0.99)), 1e-6)
    return np.clip(strength * (255 / brightest), 0, 255).astype(np.uint8)
