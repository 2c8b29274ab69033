"""Masks in a file of prompts: the name of a picture of the mask, or COCO's run lengths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations.objects import AnnotatedObject
from ..annotations.problems import EntryError
from ..annotations.reading.decoding import decode
from ..annotations.reading.files import image_size, mask_meanings
from ..annotations.reading.mask_values import counted
from ..annotations.reading.table import decide
from ..annotations.reading.values import FOREGROUND, shown
from ..annotations.run_lengths import checked
from ..batch import Size
from ..config.ranges import shortened
from ..errors import DataError


def named_mask(value: Any, folder: Path, size: Size) -> np.ndarray:
    """The mask that an entry of a file of prompts means, ``(H, W)`` bool.

    Args:
        value: A file name, or ``{"size": [H, W], "counts": text or list}``.
        folder: That file names are below.
        size: ``(H, W)`` of the picture.

    Raises:
        DataError: If it is neither, has another size than the picture, or its values cannot be told.
    """
    if isinstance(value, Mapping):
        try:
            lengths = checked(dict(value), size)
        except EntryError as error:
            raise DataError(f"mask: {error.text}. What helps: {error.cure}.") from error
        return AnnotatedObject(class_name="", run_lengths=lengths).mask(size)
    if not isinstance(value, str):
        raise DataError(
            "mask: expected the name of a file, or COCO's run lengths {'size': [height, width], 'counts': ...}, got "
            f"{shortened(value)}."
        )
    path = folder / value
    if not path.is_file():
        raise DataError(f"mask: there is no file '{path}'; names are below the folder of the file of prompts.")
    own = image_size(path)
    if own != size:
        raise DataError(
            f"mask: '{path}' is {own[1]}x{own[0]}, and the picture {size[1]}x{size[0]}; masks must match, and are "
            "brought to the model's size with the picture."
        )
    raster = decode(path)
    found = counted(path, raster)
    decision = decide([found])
    if decision.troubles:
        values = [shown(tuple(one)) for one in found.visible.tolist()]
        listed = ", ".join(values[:8]) + (f" and {len(values) - 8} more" if len(values) > 8 else "")
        raise DataError(
            f"mask: '{path}' has the values {listed}; expected a mask of one object, with 0 and 255. What "
            "helps: of numbered objects or classes save one (map == 3), of probabilities those above a threshold "
            "(map > 0.5)."
        )
    return mask_meanings(path, raster, decision.table) == FOREGROUND
