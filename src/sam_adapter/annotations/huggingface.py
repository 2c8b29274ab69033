"""Datasets of Hugging Face as a source, with a column of images and a column of masks.

Their pictures lie in Arrow files. They are written once into a folder of plain files, byte for byte, and paired there
as any other folders are.
"""

import hashlib
import io
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ConfigError
from .listing import Listing, Record
from .problems import AnnotationProblem

log = logging.getLogger(__name__)

CACHE = Path("~/.cache/sam-adapter/datasets")
"""Where pictures are kept unless ``--dataset-cache`` says otherwise."""
_SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes."""
_LAYOUT = 1
"""Raised when the same dataset would be written otherwise."""


def list_dataset(
    name: str,
    *,
    split: str | None = None,
    image_column: str = "image",
    mask_column: str = "mask",
    cache: Path | None = None,
) -> Listing:
    """Images and masks of a dataset.

    Args:
        name: A folder that ``save_to_disk`` wrote or that ``load_dataset`` reads, or an id on the hub.
        split: One of its splits, or several joined by ``+``; without it the dataset must not have several.
        image_column: Column of images.
        mask_column: Column of masks.
        cache: Folder for the pictures.

    Returns:
        A record for each row that has both pictures, named by its number and its image's former name.

    Raises:
        ConfigError: If the package datasets is not installed, or there is no such dataset, split or column.
    """
    rows = _rows(name, split, (image_column, mask_column))
    folder = Path(os.path.expanduser(cache or CACHE)) / _folder_name(
        name, split, image_column, mask_column, rows._fingerprint
    )
    if not folder.is_dir():
        _write(rows, folder, image_column, mask_column)
        log.info("The pictures of %s (%d rows) are kept in %s", name, len(rows), folder)
    images, masks = ({path.stem: path for path in (folder / kind).iterdir()} for kind in ("images", "masks"))
    listing = Listing()
    numbers = {int(stem[:6]): stem for stem in (*images, *masks)}
    for number in range(len(rows)):
        stem = numbers.get(number, "")
        if stem in images and stem in masks:
            listing.records.append(Record(stem, images[stem], masks[stem]))
        else:
            missing = " and no ".join(
                column for column, files in ((image_column, images), (mask_column, masks)) if stem not in files
            )
            text = f"row {number} has no {missing}"
            listing.problems.append(AnnotationProblem(Path(name), text, "fill it in, or leave the row out"))
    return listing


def _folder_name(name: str, *others: str | None) -> str:
    """A name to be recognised, and a digest of all that decides what is in the folder."""
    digest = hashlib.sha256(repr((_LAYOUT, name, *others)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', name)[-40:].strip('-')}-{digest[:16]}"


def _rows(name: str, split: str | None, columns: tuple[str, str]) -> Any:
    """The rows of a split, with pictures as bytes."""
    datasets = _library()
    loaded = _loaded(datasets, name)
    if isinstance(loaded, Mapping):
        known = ", ".join(f"{one} ({len(rows)})" for one, rows in loaded.items())
        if split is None and len(loaded) > 1:
            raise ConfigError(f"split: '{name}' has the splits {known}; choose one, or several as in 'train+test'.")
        wanted = [*loaded] if split is None else split.split("+")
        if unknown := [one for one in wanted if one not in loaded]:
            raise ConfigError(f"split: '{name}' has no split '{unknown[0]}'; it has {known}.")
        parts = [loaded[one] for one in wanted]
        loaded = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    elif split is not None:
        raise ConfigError(f"split: '{name}' has no splits; leave it out.")
    if missing := [column for column in columns if column not in loaded.column_names]:
        raise ConfigError(
            f"dataset: '{name}' has the columns {', '.join(loaded.column_names)} and no column "
            f"{' and no column '.join(missing)}. '--image-column' and '--mask-column' name others."
        )
    for column in columns:
        kind = loaded.features[column]
        if not isinstance(kind, datasets.Image) and getattr(kind, "dtype", "") != "string":
            raise ConfigError(
                f"dataset: the column {column} of '{name}' holds {kind}; expected pictures (datasets.Image), or their "
                "paths."
            )
        loaded = loaded.cast_column(column, datasets.Image(decode=False))
    return loaded


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "dataset: needs the package datasets. Install it with pip install 'sam-adapter[datasets]'."
        ) from error
    return datasets


def _loaded(datasets: Any, name: str) -> Any:
    """A dataset, or a mapping of split to dataset."""
    folder = Path(os.path.expanduser(name))
    try:
        if os.path.isdir(folder):
            saved = any((folder / one).is_file() for one in _SAVED)
            return datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(str(folder))
        if folder.is_absolute() or name.startswith((".", "~")):
            raise ConfigError(f"dataset: '{name}' is not a folder.")
        return datasets.load_dataset(name)
    except ConfigError:
        raise
    except Exception as error:  # of many libraries, and of the network
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise ConfigError(
            f"dataset: '{name}' is neither a folder nor can it be loaded by its id ({reason})."
        ) from error


def _write(rows: Iterable[Mapping[str, Any]], folder: Path, image_column: str, mask_column: str) -> None:
    """Write the pictures into a folder that is there with all of them or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    except OSError as error:
        raise ConfigError(f"dataset_cache: '{folder.parent}' cannot be written ({error.strerror}).") from error
    try:
        for kind in ("images", "masks"):
            (made / kind).mkdir()
        for number, row in enumerate(rows):
            former = row[image_column] or {}
            stem = re.sub(r"[^\w.-]+", "_", Path(former.get("path") or "").stem)[:80]
            stem = f"{number:06}_{stem}" if stem else f"{number:06}"
            for kind, column in (("images", image_column), ("masks", mask_column)):
                content = _bytes(row[column])
                if content is not None:
                    (made / kind / f"{stem}{_ending(content)}").write_bytes(content)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first
                raise
    finally:
        if made.exists():
            shutil.rmtree(made)


def _bytes(picture: Mapping[str, Any] | None) -> bytes | None:
    """A picture's file; None if there is none."""
    if not picture:
        return None
    if picture.get("bytes") is not None:
        return picture["bytes"]
    path = picture.get("path")
    return Path(path).read_bytes() if path and os.path.isfile(path) else None


def _ending(content: bytes) -> str:
    """The extension of a picture's format, so that the folder can be looked at; readers go by content."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return f".{(image.format or 'png').lower()}"
    except Exception:  # the data doctor says that it cannot be read
        return ".png"
