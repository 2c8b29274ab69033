"""Read pictures as SAM wants them and masks as foreground and void, by the rules of the set they belong to."""

from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from .brightness import Brightness, depth_of, scale_of
from .cures import decide_with_cures
from .decoding import MOST_PIXELS, decode, decode_image, from_pillow, read_header
from .mask_values import counted, pixels_of
from .raster import STRIP_PIXELS, Raster
from .upright import UprightImage
from .values import BACKGROUND, FOREGROUND, UNKNOWN, VOID, MaskTable, looked_up


def read_image(
    path: Path | str, brightness: Brightness | None = None, *, page: int = 0, max_pixels: int | None = MOST_PIXELS
) -> np.ndarray:
    """Read a picture as SAM wants it.

    The EXIF rotation is applied and alpha is dropped.

    Args:
        path: The file; its content decides the format, not its extension.
        brightness: Scale of pictures of more than 8 bits; without one that fits, it is made from this picture alone.
        page: Of a file with several, counted from 0.
        max_pixels: Larger pictures are refused; None takes any.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: If the file cannot be read.
    """
    return _array(decode_image(Path(path), page, max_pixels=max_pixels), brightness)


def read_picture(
    path: Path | str, brightness: Brightness | None = None, *, page: int = 0, max_pixels: int | None = MOST_PIXELS
) -> np.ndarray | Image.Image:
    """Read a picture that is only to be resized: most stay in Pillow's memory, which saves a copy; see `read_image`.

    Returns:
        ``(H, W, 3)`` uint8 RGB, or an upright image of Pillow in RGB or grey.
    """
    return _picture(decode_image(Path(path), page, max_pixels=max_pixels), brightness)


def picture_from_pillow(image: Image.Image, brightness: Brightness | None = None) -> np.ndarray | Image.Image:
    """A picture that Pillow has opened; see `read_picture`."""
    upright = from_pillow(image)
    return _picture(upright.raster() if upright.deep else upright, brightness)


def _picture(decoded: Raster | UprightImage, brightness: Brightness | None) -> np.ndarray | Image.Image:
    if isinstance(decoded, UprightImage) and decoded.is_picture:
        return decoded.image
    return _array(decoded, brightness)


def _array(decoded: Raster | UprightImage, brightness: Brightness | None) -> np.ndarray:
    """``(H, W, 3)`` uint8 RGB; of an image a strip at a time, as its rows may be turned and have alpha."""
    if isinstance(decoded, Raster):
        return rgb(decoded, brightness)
    width = decoded.image.width * decoded.image.height // decoded.height
    result = np.empty((decoded.height, width, 3), np.uint8)
    at_once = max(STRIP_PIXELS // width, 1)
    for top in range(0, decoded.height, at_once):
        bottom = min(top + at_once, decoded.height)
        result[top:bottom] = rgb(decoded.rows(top, bottom))
    return result


def _fitting(brightness: Brightness | None, raster: Raster) -> Brightness | None:
    """The scale, or one that is made from these numbers if it does not fit them."""
    if raster.values.dtype == np.uint8 or (brightness is not None and brightness.span(raster.values.dtype)):
        return brightness
    depth = depth_of(raster.values, raster.no_data)
    return scale_of([] if depth is None else [depth])


def rgb(raster: Raster, brightness: Brightness | None = None) -> np.ndarray:
    """Decoded numbers to ``(H, W, 3)`` uint8 RGB; see `read_image`."""
    values = raster.values
    if raster.palette is not None:
        return looked_up(raster.palette, values)
    if raster.storage == "1 bit":
        values = values * np.uint8(255)
    elif values.dtype != np.uint8:
        fitting = _fitting(brightness, raster)
        assert fitting is not None
        values = fitting.to_8_bit(values, raster.no_data)
    if values.ndim == 2:
        return np.repeat(values[:, :, None], 3, axis=2)
    return np.ascontiguousarray(values)


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width of a picture after its EXIF rotation, from the header alone.

    Raises:
        DataError: If the file is not a picture.
    """
    return read_header(Path(path)).size


def read_mask(
    path: Path | str, table: MaskTable | None = None, *, page: int = 0, max_pixels: int | None = MOST_PIXELS
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a mask.

    Args:
        path: The file.
        table: What the values of its set mean; None decides by this file alone, as ``--mask-rule auto`` does.
        page: Of a file with several, counted from 0.
        max_pixels: Larger masks are refused; None takes any.

    Returns:
        Foreground ``(H, W)`` bool, and where the mask says anything ``(H, W)`` bool; None if it does everywhere.

    Raises:
        DataError: If the file cannot be read, or has a value that the table does not know.
    """
    path = Path(path)
    meanings = mask_meanings(path, decode(path, page, max_pixels=max_pixels), table)
    void = meanings == VOID
    return meanings == FOREGROUND, ~void if void.any() else None


def mask_meanings(path: Path, raster: Raster, table: MaskTable | None) -> np.ndarray:
    """What each pixel of a decoded mask means.

    Args:
        path: The file, for errors.
        raster: What was decoded from it.
        table: What the values of its set mean; None decides by this file alone.

    Returns:
        ``(H, W)`` uint8: `BACKGROUND`, `FOREGROUND` or `VOID`.

    Raises:
        DataError: If it has a value that the table does not know, or without a table, if its values cannot be told.
    """
    if table is None:
        decision = decide_with_cures([counted(path, raster)])
        if decision.troubles:
            trouble = decision.troubles[0]
            raise DataError(f"{path}: {trouble.text}. What helps: {trouble.cure}.")
        table = decision.table
    pixels, own = pixels_of(path, raster, table)
    meanings = table.applied(own, pixels)
    if meanings.max(initial=BACKGROUND) == UNKNOWN:
        raise DataError(
            f"{path}: has values that the masks of this set did not have when they were looked at. "
            "Run 'sam-adapter check' again."
        )
    return meanings
