"""Pictures for reports: masks, and the high frequencies that an adapter sees."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from ..methods.sam_adapter.high_frequency import high_frequency

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
