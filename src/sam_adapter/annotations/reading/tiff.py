"""TIFF files that Pillow does not read faithfully: deep colour, floating point, signed, several bands, planes."""

import logging
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tifffile import TiffFile

from ...errors import DataError
from .values import Storage

_GDAL_NODATA = 42113
_READ = (0, 1, 2, 6)
"""Kinds of colour that are read: grey, RGB and YCbCr."""
_ALPHA = (1, 2)
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_magic(file: BinaryIO) -> bool:
    """Whether a file begins as a TIFF does."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in _MAGIC


class TiffHeader(NamedTuple):
    """What a TIFF says about itself before its pixels are read."""

    size: tuple[int, int]
    """Stored ``(H, W)``."""
    pages: int
    """Their number; smaller copies of a page are none."""
    orientation: int
    unnamed_band: bool
    """Whether a last band, beside grey or three colours, is not declared as alpha."""


def tiff_header(file: BinaryIO) -> TiffHeader:
    """Read the header of a TIFF."""
    with _tiff(file) as tiff:
        pages = _pages(tiff)
        first = pages[0]
        orientation = int(first.tags.valueof(274, 1))
        unnamed = first.samplesperpixel in (2, 4) and int(first.photometric) in _READ and not _has_alpha(first)
        return TiffHeader((first.imagelength, first.imagewidth), len(pages), orientation, unnamed)


def is_plain(file: BinaryIO) -> bool:
    """Whether Pillow reads it as it is: one, three or four unsigned channels of up to 8 bits that it knows."""
    with _tiff(file) as tiff:
        page = _pages(tiff)[0]
        bands = page.samplesperpixel
        # Several bands of "grey", as GDAL writes them, and planes whose last one has no name, are unknown to it.
        known = bands == 1 or (int(page.photometric) > 1 and (bands == 3 or page.planarconfig == 1 or _has_alpha(page)))
        return (
            known
            and page.bitspersample <= 8
            and page.sampleformat in (None, 1, (1,))
            and bands in (1, 3, 4)
            and page.imagedepth == 1
        )


def decode_tiff(file: BinaryIO, page: int) -> tuple[np.ndarray, Storage, np.ndarray | None, float | None]:
    """Read one page.

    Returns:
        Values ``(H, W)`` or ``(H, W, 3)``, storage, alpha ``(H, W)`` or None, and the no-data value or None.

    Raises:
        DataError: If its channels mean nothing here.
    """
    with _tiff(file) as tiff:
        one = _pages(tiff)[page]
        axes, bands = one.axes, one.samplesperpixel
        if set(axes) - set("YXS"):
            raise DataError(f"has the axes {axes}; expected one flat picture a page. Save it slice by slice.")
        photometric = int(one.photometric)
        if photometric not in _READ or bands > 4 or (bands == 2 and not one.extrasamples):
            raise DataError(
                f"has {bands} channels ({getattr(one.photometric, 'name', photometric)}) of {one.bitspersample} bits; "
                "expected grey or RGB, with or without alpha. Write the one or three channels to use into a file."
            )
        pixels = np.asarray(one.asarray())
        declared = one.tags.valueof(_GDAL_NODATA)
    if pixels.dtype.kind not in "buif":
        raise DataError(f"holds {pixels.dtype} numbers; expected whole numbers or floating point.")
    if "S" in axes:
        pixels = np.moveaxis(pixels, axes.index("S"), -1)  # (H, W, C)
    if photometric == 0 and pixels.dtype.kind == "u":
        pixels = np.invert(pixels)  # 0 is white
    pixels, storage = _stored(pixels)
    no_data = _number(declared)
    if pixels.ndim == 2:
        return pixels, storage, None, no_data
    alpha = np.ascontiguousarray(pixels[:, :, -1]) if bands in (2, 4) else None
    if bands <= 2:
        return np.ascontiguousarray(pixels[:, :, 0]), storage, alpha, no_data
    return np.ascontiguousarray(pixels[:, :, :3]), "colour", alpha, no_data


def _stored(pixels: np.ndarray) -> tuple[np.ndarray, Storage]:
    """Pixels in a type that the rest of the package knows."""
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if kind == "b":
        return pixels.view(np.uint8), "1 bit"
    if kind == "f":
        with np.errstate(over="ignore"):
            return pixels.astype(np.float32, copy=False), "float"
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if size <= 2:
        return native, "8 bit" if size == 1 else "16 bit"
    if size == 4:
        return native, "32 bit"
    return native.astype(np.float32), "float"


def _has_alpha(page: Any) -> bool:
    """Whether the last band is declared as alpha."""
    return bool(page.extrasamples) and int(page.extrasamples[-1]) in _ALPHA


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def page_position(file: BinaryIO, page: int) -> int:
    """Where a page lies among all that the file holds, smaller copies counted."""
    with _tiff(file) as tiff:
        return _pages(tiff)[page].index


def _tiff(file: BinaryIO) -> Any:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it reports what it also raises
    file.seek(0)
    return TiffFile(file)


def _pages(tiff: Any) -> list[Any]:
    pages = [page for page in tiff.pages if not (page.is_reduced or page.is_mask)]
    return pages or list(tiff.pages)[:1]
