"""The size of an image beside the size that its annotation says it has."""

from pathlib import Path
from typing import Any

from ..errors import DataError
from .problems import EntryError
from .reading.decoding import read_header


def image_size_of(image: Path, *, height: Any = None, width: Any = None) -> tuple[int, int] | None:
    """Height and width of an image as it is shown, from its header; None if it cannot be read.

    Args:
        image: The file.
        height: What its annotation says; None if it says nothing.
        width: The same.

    Raises:
        EntryError: If the annotation says another size.
    """
    try:
        header = read_header(image)
    except DataError:  # the data doctor says so of the image
        return None
    said = (height, width)
    if None in said or said == header.size:
        return header.size
    text = f"says {width!s:.20}x{height!s:.20} pixels, and the image has {header.size[1]}x{header.size[0]}"
    if header.orientation in (5, 6, 7, 8) and said == header.size[::-1]:
        raise EntryError(
            f"{text} as it is shown (EXIF orientation {header.orientation})",
            "turn its annotations as the image is turned, or remove the orientation from the image",
        )
    raise EntryError(text, "put the image back at the size that it was annotated at, or annotate it anew")
