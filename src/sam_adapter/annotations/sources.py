"""Where the pairs of a data set come from: the table of the sources of annotations, and the choice between them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config.options import DataOptions
from ..errors import ConfigError
from .coco import list_coco
from .folders import list_pairs
from .listing import Listing
from .mask_layouts import list_folder_per_class, list_folder_per_image


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of annotation.

    Attributes:
        text: What lies there, for errors.
        fits: Whether options mean it.
        listing: Reads the records that they name.
    """

    text: str
    fits: Callable[[DataOptions], bool]
    listing: Callable[[DataOptions], Listing]


SOURCES: tuple[Source, ...] = (
    Source(
        text="masks, one file an image",
        fits=lambda options: options.source == "masks" and options.mask_layout == "file",
        listing=lambda options: list_pairs(options.image_folder, options.place, options.mask_pattern),
    ),
    Source(
        text="masks in a folder a class",
        fits=lambda options: options.source == "masks" and options.mask_layout == "folder_per_class",
        listing=lambda options: list_folder_per_class(options.image_folder, options.place, options.mask_pattern),
    ),
    Source(
        text="masks in a folder an image",
        fits=lambda options: options.source == "masks" and options.mask_layout == "folder_per_image",
        listing=lambda options: list_folder_per_image(options.image_folder, options.place, options.mask_pattern),
    ),
    Source(
        text="a COCO file (.json)",
        fits=lambda options: options.source == "annotations" and options.place.suffix.lower() == ".json",
        listing=lambda options: list_coco(options.image_folder, options.place),
    ),
)
"""Kinds of annotation; the first that fits is read."""


def listing_of(options: DataOptions) -> Listing:
    """The pairs that a command's options name, read from the source that they mean.

    A source is a function that gives a `Listing`. What follows (the data doctor, training, scores) sees its records and
    their files alone.

    Args:
        options: Of any command that reads images and their annotations.

    Returns:
        The pairs, and all that has no partner or more than one.

    Raises:
        ConfigError: If there is no such source, or it is empty.
    """
    for source in SOURCES:
        if source.fits(options):
            return source.listing(options)
    raise ConfigError(_unknown(options.source, options.place))


def _unknown(option: str, place: Path) -> str:
    return f"{option}: '{place}' is not there." if not place.exists() else f"{option}: '{place}' is no COCO file."
