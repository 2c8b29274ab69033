"""Where the pairs of a data set come from: the table of the sources of annotations, and the choice between them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config.options import DataOptions, SourceOption
from ..errors import ConfigError
from .coco import list_coco
from .folders import list_pairs, walk
from .huggingface import list_dataset
from .known import list_known
from .labelme import labelme_files, list_labelme
from .listing import Listing
from .mask_layouts import list_folder_per_class, list_folder_per_image
from .table import list_table
from .yolo import described_by, list_yolo


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of annotation.

    Attributes:
        option: That names it.
        text: What lies there, for errors.
        fits: Whether options that name a source by that option mean this one.
        listing: Reads the records that they name.
    """

    option: SourceOption
    text: str
    fits: Callable[[DataOptions], bool]
    listing: Callable[[DataOptions], Listing]


SOURCES: tuple[Source, ...] = (
    Source(
        option="masks",
        text="masks, one file an image",
        fits=lambda options: options.mask_layout == "file",
        listing=lambda options: list_pairs(options.image_folder, options.place, options.mask_pattern),
    ),
    Source(
        option="masks",
        text="masks in a folder a class",
        fits=lambda options: options.mask_layout == "folder_per_class",
        listing=lambda options: list_folder_per_class(options.image_folder, options.place, options.mask_pattern),
    ),
    Source(
        option="masks",
        text="masks in a folder an image",
        fits=lambda options: options.mask_layout == "folder_per_image",
        listing=lambda options: list_folder_per_image(options.image_folder, options.place, options.mask_pattern),
    ),
    Source(
        option="annotations",
        text="a COCO file (.json)",
        fits=lambda options: options.place.suffix.lower() == ".json",
        listing=lambda options: list_coco(options.image_folder, options.place),
    ),
    Source(
        option="annotations",
        text="a folder of YOLO's text files with their data.yaml",
        fits=lambda options: described_by(options.place) is not None,
        listing=lambda options: list_yolo(options.image_folder, options.place),
    ),
    Source(
        option="annotations",
        text="a folder of labelme's JSON files",
        fits=lambda options: bool(labelme_files(options.place)),
        listing=lambda options: list_labelme(options.image_folder, options.place),
    ),
    Source(
        option="table",
        text="a table (.csv)",
        fits=lambda options: True,
        listing=lambda options: list_table(
            options.place,
            split=options.split,
            image_column=options.image_column,
            mask_column=options.mask_column,
        ),
    ),
    Source(
        option="dataset",
        text="a dataset of Hugging Face",
        fits=lambda options: True,
        listing=lambda options: list_dataset(
            options.dataset or "",
            split=options.split,
            image_column=options.image_column,
            mask_column=options.mask_column,
            cache=options.dataset_cache,
        ),
    ),
    Source(
        option="known",
        text="a copy of a known data set",
        fits=lambda options: True,
        listing=lambda options: list_known(options.known or "", options.place),
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
        if source.option == options.source and source.fits(options):
            return source.listing(options)
    raise ConfigError(_unknown(options.source, options.place))


def _unknown(option: str, place: Path) -> str:
    """What a path is that no source reads."""
    if not place.exists():
        return f"{option}: '{place}' is not there."
    if place.is_dir():
        endings = Counter(path.suffix.lower() for path in walk(place, []))
        got = ", ".join(f"{count} {ending or 'without extension'}" for ending, count in endings.most_common(5))
        got = f"a folder of other files ({got})" if got else "an empty folder"
        hint = ". YOLO's text files need their data.yaml" if ".txt" in endings else ""
    else:
        got, hint = f"a file {place.suffix}", ""
    wanted = ", or ".join(source.text for source in SOURCES if source.option == option)
    return f"{option}: '{place}' is {got}; expected {wanted}{hint}."
