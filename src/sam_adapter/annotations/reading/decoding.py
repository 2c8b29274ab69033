"""Picture files to numbers as they are in the file: full depth, palette indices, alpha, page, upright.

Pillow reads what has 8 bits a channel and grey of 16; of deeper colour it keeps the high byte alone, so that tifffile
and imagecodecs read TIFFs and PNGs of that kind.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import DataError
from .raster import Raster, raster_of_channels
from .tiff import decode_tiff, is_plain, page_position, tiff_header, tiff_magic
from .upright import UprightImage
from .values import Storage

MOST_PIXELS = 200_000_000
"""Default of ``--max-pixels``."""
LONGEST_SIDE = 200_000
"""A side beyond this is no picture that a network can use, whatever the other side is."""

_ORIENTATION = 0x0112
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "TIFF", "FLI")
"""Formats whose frames are pictures of their own; those of others are previews or layers."""


_MAYBE_DEEP = ("JPEG2000", "PPM")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says about itself before its pixels are read.

    Attributes:
        size: ``(H, W)``, upright.
        pages: Pages or frames.
        orientation: EXIF orientation; 1 is upright.
        deep: Whether it may have more than 8 bits a channel.
        unnamed_band: Whether a second or fourth band is not declared as alpha; pictures are read without it.
    """

    size: tuple[int, int]
    pages: int = 1
    orientation: int = 1
    deep: bool = False
    unnamed_band: bool = False

    @property
    def turned(self) -> bool:
        """Whether its orientation changes it."""
        return 2 <= self.orientation <= 8


def read_header(path: Path) -> Header:
    """Size, pages and orientation, without reading pixels.

    Raises:
        DataError: If the file is not a picture.
    """
    with _readable(path), path.open("rb") as file:
        if (array := numpy_array(file)) is not None:
            return Header(size=(array.shape[0], array.shape[1]), deep=array.dtype.itemsize > 1)
        unnamed = False
        if tiff_magic(file):
            (height, width), pages, orientation, unnamed = tiff_header(file)
            deep = not is_plain(file)
        else:
            with _opened(file) as image:
                width, height = image.size
                orientation = image.getexif().get(_ORIENTATION, 1)
                deep = image.format in _MAYBE_DEEP or image.mode[0] in "IF" or _is_deep_png(file)
                pages = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
        size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
        return Header(size=size, pages=pages, orientation=orientation, deep=deep, unnamed_band=unnamed)
    raise AssertionError


def decode(path: Path, page: int = 0, *, max_pixels: int | None = MOST_PIXELS) -> Raster:
    """Read one page of a file.

    Args:
        path: The file; its content decides the format, not its extension.
        page: Counted from 0.
        max_pixels: Larger pictures are refused; None takes any.

    Raises:
        DataError: If the file cannot be read, is too large, or has channels that mean nothing here.
    """
    with _readable(path):
        decoded = _decoded(path, page, max_pixels)
        return decoded if isinstance(decoded, Raster) else decoded.raster()
    raise AssertionError


def decode_image(path: Path, page: int = 0, *, max_pixels: int | None = MOST_PIXELS) -> Raster | UprightImage:
    """Read one page of a file as `decode` does, but leave 8 bits a channel in Pillow's memory; see `decode`."""
    with _readable(path):
        decoded = _decoded(path, page, max_pixels)
        if isinstance(decoded, Raster):
            return decoded
        if decoded.deep:
            return decoded.raster()
        decoded.rows(0, 1)  # raises for channels that mean nothing here
        return decoded
    raise AssertionError


def _decoded(path: Path, page: int, max_pixels: int | None) -> Raster | UprightImage:
    with path.open("rb") as file:
        if (array := numpy_array(file)) is not None:
            require_size(path, (array.shape[0], array.shape[1]), max_pixels)
            return Raster(values=np.array(array), storage=_storage(array))
        if tiff_magic(file):
            size, _, orientation, _ = tiff_header(file)
            require_size(path, size, max_pixels)
            if not is_plain(file):
                values, storage, alpha, no_data = decode_tiff(file, page)
                raster = Raster(values=values, storage=storage, alpha=alpha, no_data=no_data)
                return raster.turned(orientation)
        with _opened(file) as image:
            require_size(path, (image.height, image.width), max_pixels)
            # Pillow turns TIFFs by itself.
            orientation = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
            deep = _deep_colour(image, file)
            if deep is not None:
                return deep.turned(orientation)
            if page:
                image.seek(page_position(file, page) if image.format == "TIFF" else page)
            image.load()
            return UprightImage(image, orientation)
    raise AssertionError


def numpy_array(file: BinaryIO) -> np.ndarray | None:
    """The array of a file that NumPy saved, of which no pixel is read yet; None of other files.

    Raises:
        DataError: If it is no array of numbers with rows and columns.
    """
    start = file.read(len(np.lib.format.MAGIC_PREFIX))
    file.seek(0)
    if start != np.lib.format.MAGIC_PREFIX:
        return None
    try:
        array = np.load(file.name, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read as an array of NumPy ({error}). Save it again with numpy.save.") from error
    if array.dtype == bool:
        array = array.view(np.uint8)
    if array.dtype.kind not in "uif" or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise DataError(
            f"holds an array of shape {array.shape} and type {array.dtype}; expected numbers as (H, W) or (H, W, 3)."
        )
    return array


def _storage(array: np.ndarray) -> Storage:
    if array.ndim == 3:
        return "colour"
    if array.dtype.kind == "f":
        return "float"
    if array.dtype.itemsize == 1:
        return "8 bit"
    return "16 bit" if array.dtype.itemsize == 2 else "32 bit"


def from_pillow(image: Image.Image) -> UprightImage:
    """A picture that Pillow has opened already, upright."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    return UprightImage(image, 1 if image.format == "TIFF" else orientation)


def require_size(path: Path, size: tuple[int, int], max_pixels: int | None) -> None:
    """Refuse pictures that would take the memory away.

    Raises:
        DataError: If the picture has too many pixels.
    """
    if max_pixels is None:
        return
    height, width = size
    if height * width > max_pixels or max(size) > LONGEST_SIDE:
        limit = f"{max_pixels:,}" if height * width > max_pixels else f"{LONGEST_SIDE:,} a side"
        raise DataError(
            f"{path}: has {width}x{height} pixels, more than {limit}. Cut it into tiles or shrink it; "
            "'--max-pixels' sets the limit of pixels."
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever the libraries raise on broken files, as one sentence with the file's name."""
    try:
        yield
    except DataError as error:
        text = str(error)
        raise (error if text.startswith(str(path)) else DataError(f"{path}: {text}")) from error
    except UnidentifiedImageError as error:
        start = _first_bytes(path)
        if start.startswith(b"version https://git-lfs"):
            raise DataError(f"{path}: stands for a file in Git LFS. Fetch it with 'git lfs pull'.") from error
        reason = "its format is not known" if start else "it is empty, 0 bytes"
        raise DataError(f"{path}: cannot be read as a picture ({reason}). Replace it.") from error
    except FileNotFoundError as error:
        what = f"links to {path.readlink()}, which is not there" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {what}.") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory. Cut it into tiles or shrink it.") from error
    except Exception as error:  # the readers raise many types
        reason = str(error).replace(repr(str(path)), "it").rstrip(".") or type(error).__name__
        raise DataError(f"{path}: cannot be read as a picture ({reason}). Replace the file.") from error


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


_limit = threading.Lock()


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """A file opened by Pillow, whose own limit of pixels is lifted meanwhile: ``--max-pixels`` stands for it."""
    file.seek(0)
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        yield image


def _deep_colour(image: Image.Image, file: BinaryIO) -> Raster | None:
    """Colour of more than 8 bits a channel, which Pillow would cut down; None if it is something else."""
    at = file.tell()
    try:
        if image.format == "PNG" and _is_deep_png(file):
            from imagecodecs import png_decode

            return raster_of_channels(np.asarray(png_decode(_whole(file))))
        if image.format == "JPEG2000" and image.mode in ("RGB", "RGBA", "LA"):
            from imagecodecs import jpeg2k_decode

            pixels = np.asarray(jpeg2k_decode(_whole(file)))
            return raster_of_channels(pixels) if pixels.dtype.itemsize > 1 else None
        if image.format == "PPM" and image.mode == "RGB" and _is_deep_ppm(file):
            import cv2

            image.load()  # Pillow says in words what is wrong with a cut file; OpenCV prints it
            pixels = cv2.imdecode(np.frombuffer(_whole(file), np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.dtype == np.uint16:
                return raster_of_channels(np.ascontiguousarray(pixels[:, :, ::-1]))
        return None
    finally:
        file.seek(at)  # Pillow goes on from where it was


def _is_deep_png(file: BinaryIO) -> bool:
    """Whether a PNG has 16 bits a channel and more than grey."""
    at = file.tell()
    file.seek(0)
    start = file.read(26)
    file.seek(at)
    return len(start) == 26 and start[24] == 16 and start[25] in (2, 4, 6)


def _is_deep_ppm(file: BinaryIO) -> bool:
    """Whether the largest number in a PPM's header, the fourth word without comments, is more than 255."""
    file.seek(0)
    words = re.sub(rb"#[^\n]*", b"", file.read(4096)).split(maxsplit=4)
    return len(words) > 3 and words[3].isdigit() and int(words[3]) > 255


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
