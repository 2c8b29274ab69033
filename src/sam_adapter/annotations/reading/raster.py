"""The numbers of a picture as its file holds them, upright."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from .values import Storage, looked_up

STRIP_PIXELS = 1 << 20
"""Pixels that are copied out of Pillow's memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Raster:
    """The numbers of one page, upright.

    Attributes:
        values: ``(H, W)``, or ``(H, W, 3)`` RGB; 0 and 1 for ``1 bit``, indices for ``palette``.
        storage: How the file holds them; ``colour`` may have any depth.
        palette: ``(256, 3)`` uint8 for ``palette``.
        alpha: ``(H, W)``, if the file has it.
        no_data: The value that the file declares as missing, if it does.
    """

    values: np.ndarray
    storage: Storage
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    no_data: float | None = None

    def reduced(self, most: int = 24_000_000) -> "Raster":
        """The raster with every n-th row and column alone, so that it has at most so many pixels."""
        step = -int(-((self.values.shape[0] * self.values.shape[1] / most) ** 0.5) // 1)
        if step <= 1:
            return self
        return replace(self, values=self.values[::step, ::step], alpha=None)

    def turned(self, orientation: int) -> "Raster":
        """The raster with an EXIF orientation applied."""
        if orientation in (0, 1):
            return self
        alpha = None if self.alpha is None else upright(self.alpha, orientation)
        return replace(self, values=upright(self.values, orientation), alpha=alpha)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to ``(H, W, ...)``."""
    turned = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.swapaxes(0, 1),
        6: lambda: np.rot90(pixels, -1),
        7: lambda: pixels[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(pixels),
    }.get(orientation, lambda: pixels)
    return np.ascontiguousarray(turned())


def raster_of_channels(pixels: np.ndarray) -> Raster:
    """Raster of ``(H, W, C)`` deep grey and alpha, RGB, or RGB and alpha."""
    channels = pixels.shape[2]
    alpha = np.ascontiguousarray(pixels[:, :, -1]) if channels in (2, 4) else None
    if channels <= 2:
        return Raster(values=np.ascontiguousarray(pixels[:, :, 0]), storage="16 bit", alpha=alpha)
    return Raster(values=np.ascontiguousarray(pixels[:, :, :3]), storage="colour", alpha=alpha)


def raster_of_image(image: Image.Image) -> Raster:
    """The numbers of an image that is loaded, as it is stored: not yet upright."""
    mode = image.mode
    if mode == "1":
        return Raster(values=(_pixels(image) != 0).view(np.uint8), storage="1 bit")
    if mode == "L":
        return Raster(values=_pixels(image), storage="8 bit")
    if mode == "F":
        return Raster(values=_pixels(image), storage="float")
    if mode == "I" or mode.startswith("I;16"):
        values = _pixels(image)
        if mode != "I" or image.format == "PPM":
            return Raster(values=values.astype(np.uint16), storage="16 bit")
        return Raster(values=values, storage="32 bit")
    if mode == "P":
        return _from_palette(image)
    if mode in ("LA", "La"):
        both = _pixels(image.convert("LA"))
        return Raster(values=both[:, :, 0], storage="8 bit", alpha=both[:, :, 1])
    if mode in ("RGBA", "RGBa", "PA"):
        four = _pixels(image.convert("RGBA"))
        return Raster(values=four[:, :, :3], storage="colour", alpha=four[:, :, 3])
    return Raster(values=_pixels(image if mode == "RGB" else image.convert("RGB")), storage="colour")


def _from_palette(image: Image.Image) -> Raster:
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours[:256]
    values = _pixels(image)
    alpha: Any = image.info.get("transparency")
    if isinstance(alpha, bytes):
        opacity = np.full(256, 255, np.uint8)
        opacity[: len(alpha)] = np.frombuffer(alpha, np.uint8)[:256]
        alpha = looked_up(opacity, values)
    elif isinstance(alpha, int):
        alpha = np.where(values == alpha, 0, 255).astype(np.uint8)
    return Raster(values=values, storage="palette", palette=palette, alpha=alpha)


def _pixels(image: Image.Image) -> np.ndarray:
    """The numbers of an image; NumPy's own way takes twice their memory on top of them."""
    width, height = image.size
    if width * height <= STRIP_PIXELS:
        return np.asarray(image)
    rows = max(STRIP_PIXELS // width, 1)
    strip = np.asarray(image.crop((0, 0, width, rows)))
    result = np.empty((height, *strip.shape[1:]), strip.dtype)
    result[: len(strip)] = strip
    for top in range(rows, height, rows):
        bottom = min(top + rows, height)
        result[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return result
