"""Read pictures and masks as people have them: any format, depth, palette, alpha or rotation that Pillow reads."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError
from ..options import MaskRule


class NotBinaryError(DataError):
    """A mask with more than foreground and background."""


GREY_EDGE_SHARE = 0.9
"""A grey mask counts as binary with soft edges if at least this share of its pixels is near black or near white."""


def read_image(path: Path | str) -> np.ndarray:
    """Read a picture as SAM wants it.

    The EXIF rotation is applied and alpha is dropped. Of several frames the first is taken. More than 8 bits are
    scaled by the smallest of 8, 10, 12, 14 and 16 bits that holds the picture's largest value; floating point
    pictures by 1 if they stay within it, else from their smallest to their largest value.

    Args:
        path: The file; its content decides the format, not its extension.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: If the file cannot be read.
    """
    return rgb_from_pillow(_open(Path(path)))


def rgb_from_pillow(image: Image.Image) -> np.ndarray:
    """The same for a picture that Pillow has opened already; see `read_image`."""
    image = ImageOps.exif_transpose(image)  # changes nothing if it was done already
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = _to_8_bit(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" or "A" in image.mode or image.mode == "PA":
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width of a picture after its EXIF rotation, from the header alone.

    Raises:
        DataError: If the file is not a picture.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a picture ({error}).") from error
    return (width, height) if turned else (height, width)


def read_mask(path: Path | str, rule: MaskRule = "auto") -> tuple[np.ndarray, str]:
    """Read a mask as foreground and background.

    Under ``auto`` colours become brightness and then, first match: one value or two values, of which the brighter is
    foreground (a single value is foreground if it is 1 or the largest the format holds, else it must be 0); many
    values, at least 90 % of the pixels within an eighth of the ends of the range, are soft edges and cut at half.
    Anything else is not binary.

    Args:
        path: The file.
        rule: ``auto``, ``nonzero`` or ``half``, see `sam_adapter.config.DataOptions`.

    Returns:
        ``(H, W)`` bool, and the name of the rule that applied.

    Raises:
        DataError: If the file cannot be read.
        NotBinaryError: If it is not binary under the rule.
    """
    values, largest = _mask_values(_open(Path(path)))
    if rule == "nonzero":
        return values != 0, "not zero"
    if rule == "half":
        return values > largest / 2, "above half"
    found = np.unique(values)
    if len(found) == 1:
        value = found[0]
        if value not in (0, 1, largest):
            raise NotBinaryError(f"{path}: mask has the single value {value}; expected 0, 1 or {largest:g}. {_CURE}")
        return values != 0, "empty" if value == 0 else "full"
    if len(found) == 2:
        low, high = found
        name = "two colours, the brighter" if largest == _COLOURS else f"two values {low:g}/{high:g}"
        return values == high, name
    edge = largest / 8
    extreme = np.mean((values < edge) | (values > largest - edge))
    if found[-1] > largest - edge and extreme >= GREY_EDGE_SHARE:
        return values > largest / 2, "grey edges, cut at half"
    shown = ", ".join(f"{value:g}" for value in found[:6]) + (", ..." if len(found) > 6 else "")
    raise NotBinaryError(f"{path}: mask is not binary, it has {len(found)} values ({shown}). {_CURE}")


_CURE = (
    "Save it with 0 and 255, or choose '--mask-rule nonzero' (all but 0 is foreground) or '--mask-rule half' "
    "(above half of the range is)."
)


_COLOURS = 255_000.0
"""Brightness of white where a mask is in colour; see `_mask_values`."""


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise DataError(
            f"{path}: has more than {limit} million pixels, Pillow's limit. Cut it into tiles or shrink it."
        ) from error
    except Exception as error:  # Pillow's readers raise many types on broken files
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a picture ({reason}). Replace the file.") from error


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(pixels.astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = values * 255
    elif pixels.dtype.kind != "f" and low >= 0 and high <= 65535:
        bits = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
        scaled = values * (255 / (2**bits - 1))
    else:
        scaled = (values - low) * (255 / max(high - low, 1e-12))
    return np.round(scaled).astype(np.uint8)


def _mask_values(image: Image.Image) -> tuple[np.ndarray, float]:
    """Brightness of a mask ``(H, W)`` and the largest value that its format holds."""
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8), 1
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return values, 65535 if values.max() > 255 else (255 if values.max() > 1 else 1)
    if image.mode == "L":
        return np.asarray(image), 255
    if image.mode == "LA":
        return np.asarray(image)[:, :, 0], 255
    colours = np.asarray(image.convert("RGB")).astype(np.uint16)
    if np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2]):
        return colours[..., 0], 255
    # Weights that keep different colours apart, unlike an 8-bit conversion to grey.
    brightness = colours @ np.array([299.0, 587.0, 114.0])
    return brightness, _COLOURS
