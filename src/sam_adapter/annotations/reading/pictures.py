"""Pictures without masks: their pages, and one brightness for all of them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...config.choices import Pages
from ...errors import ConfigError, DataError, amount
from .brightness import Brightness, Depth, depth_of, scale_of
from .decoding import decode, read_header
from .rules import ReadingRules

log = logging.getLogger(__name__)


class Picture(NamedTuple):
    """One page of a file, with the name its results get."""

    path: Path
    name: str
    page: int = 0
    deep: bool = False
    """Whether it has more than 8 bits a channel."""


def list_pages(found: Sequence[tuple[Path, str]], pages: Pages) -> list[Picture]:
    """One picture for each page that is read; a file that cannot be opened counts as one.

    Args:
        found: Files with the names of their results.
        pages: The first of each file, or all.

    Raises:
        ConfigError: If two pages would get the same name.
    """
    pictures: list[Picture] = []
    several = unnamed = 0
    for path, name in found:
        try:
            header = read_header(path)
        except DataError:  # said when it is read
            pictures.append(Picture(path, name))
            continue
        several += header.pages > 1
        unnamed += header.unnamed_band
        count = header.pages if pages == "all" else 1
        for page in range(count):
            pictures.append(Picture(path, page_name(name, page), page, header.deep))
    if several and pages == "first":
        log.warning(
            "%s several pages, of which only the first is read; '--pages all' reads all.",
            amount(several, "file", "have"),
        )
    if unnamed:
        log.warning(
            "%s a second or fourth band that is not declared as alpha; it is left out, and the bands before it are "
            "read as grey or as red, green and blue. Write the bands to use into a file if others are meant.",
            amount(unnamed, "file", "have"),
        )
    names: dict[str, Path] = {}
    for one in pictures:
        if (other := names.setdefault(one.name, one.path)) is not one.path:
            raise ConfigError(f"input: '{other}' and '{one.path}' both give '{one.name}.png'; rename one.")
    return pictures


def page_name(name: str, page: int) -> str:
    """Name of a page's results: that of the file, with a number behind it from the second page on."""
    return name if page == 0 else f"{name}_page{page + 1}"


def brightness_for(pictures: Sequence[Picture], reading: ReadingRules | None) -> Brightness | None:
    """The scale of deep pictures: the adapter's, or one that is made from these pictures, and then said.

    Args:
        pictures: From `list_pages`.
        reading: How the adapter's own data were read, if it was trained here.
    """
    own = None if reading is None else reading.brightness
    deep = [one for one in pictures if one.deep]
    if not deep or (own is not None and own.integer is not None and own.floating is not None):
        return own
    depths: list[Depth] = []
    for one in deep:
        try:
            raster = decode(one.path, one.page, max_pixels=None)
        except DataError:  # said when it is read for good
            continue
        if (depth := depth_of(raster.values, raster.no_data)) is not None:
            depths.append(depth)
    made = scale_of(depths)
    missing = made is not None and (
        own is None or (made.integer and not own.integer) or (made.floating and not own.floating)
    )
    if made is not None and missing:
        log.warning("The adapter was trained without pictures of this depth, so they set it. %s", made.described())
    return made if own is None else own.completed_by(made)
