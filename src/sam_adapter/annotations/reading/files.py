"""Read pictures as SAM wants them and masks as foreground and void, by the rules of the set they belong to."""

from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from .brightness import Brightness, depth_of, scale_of
from .cures import decide_with_cures
from .decoding import MOST_PIXELS, decode, from_pillow, read_header
from .mask_values import counted, pixels_of
from .raster import Raster
from .values import FOREGROUND, UNKNOWN, VOID, MaskTable, looked_up


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
    return rgb(decode(Path(path), page, max_pixels=max_pixels), brightness)


def rgb_from_pillow(image: Image.Image, brightness: Brightness | None = None) -> np.ndarray:
    """A picture that Pillow has opened to ``(H, W, 3)`` uint8 RGB; see `read_image`."""
    return rgb(from_pillow(image), brightness)


def rgb(raster: Raster, brightness: Brightness | None = None) -> np.ndarray:
    """A decoded picture to ``(H, W, 3)`` uint8 RGB; see `read_image`."""
    values = raster.values
    if raster.palette is not None:
        return looked_up(raster.palette, values)
    if raster.storage == "1 bit":
        values = values * np.uint8(255)
    elif values.dtype != np.uint8:
        if brightness is None or brightness.span(values.dtype) is None:
            depth = depth_of(values, raster.no_data)
            brightness = scale_of([] if depth is None else [depth])
        assert brightness is not None
        values = brightness.to_8_bit(values, raster.no_data)
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
    raster = decode(path, page, max_pixels=max_pixels)
    if table is None:
        decision = decide_with_cures([counted(path, raster)])
        if decision.troubles:
            trouble = decision.troubles[0]
            raise DataError(f"{path}: {trouble.text}. What helps: {trouble.cure}.")
        table = decision.table
    return split_mask(path, raster, table)


def split_mask(path: Path, raster: Raster, table: MaskTable) -> tuple[np.ndarray, np.ndarray | None]:
    """A decoded mask to foreground and counted pixels, both ``(H, W)`` bool; None if all pixels count.

    Args:
        path: The file, for errors.
        raster: What was decoded from it.
        table: What the values of its set mean.

    Raises:
        DataError: If it has a value that the table does not know.
    """
    pixels, own = pixels_of(path, raster, table)
    meanings = table.applied(own, pixels)
    if (meanings == UNKNOWN).any():
        raise DataError(
            f"{path}: has values that the masks of this set did not have when they were looked at. "
            "Run 'sam-adapter check' again."
        )
    void = meanings == VOID
    return meanings == FOREGROUND, ~void if void.any() else None
