"""Numbers of one good pair, taken while its image and its label map are in memory."""

import cv2
import numpy as np

from ...annotations.listing import Record
from ...annotations.reading.classes import Classes
from ...annotations.reading.values import row_blocks
from ...config.labels import VOID
from .findings import PairLook
from .objects import ClassLook, Objects, objects_in
from .orientation import fit_of_raster


def look_at(
    record: Record,
    image: np.ndarray,
    labels: np.ndarray,
    classes: Classes | None,
    *,
    turned: int,
    objects: Objects | None = None,
) -> PairLook:
    """Numbers of a good pair.

    Args:
        record: The pair.
        image: ``(h, w, 3)`` uint8, upright; large ones are reduced.
        labels: ``(H, W)`` uint8 label map.
        classes: Of the set, if its pixels have classes.
        turned: EXIF orientation of the image that the mask lacks; 1 if there is none.
        objects: Those that the annotation tells apart; None takes the connected parts of the foreground.
    """
    void = int(np.count_nonzero(labels == VOID))
    mask = (labels != 0) & (labels != VOID)
    foreground = int(np.count_nonzero(mask))
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    annotated = None if record.objects is None else sum(not one.void for one in record.objects)
    return PairLook(
        size=(labels.shape[0], labels.shape[1]),
        foreground=foreground / max(labels.size - void, 1),
        void=void / labels.size,
        border=float(np.concatenate(edges).mean()),
        sides=sum(bool(edge.any()) for edge in edges),
        objects=_objects(mask, objects) if foreground else Objects(),
        raster_fit=fit_of_raster(image, mask, turned) if turned > 1 else None,
        classes=() if classes is None else _classes(record, labels, classes),
        annotated=annotated,
        overlap=0.0 if annotated is None else _overlap(record, foreground, (labels.shape[0], labels.shape[1])),
    )


def _objects(mask: np.ndarray, told_apart: Objects | None) -> Objects:
    return objects_in(mask) if told_apart is None else told_apart


def _classes(record: Record, labels: np.ndarray, classes: Classes) -> tuple[ClassLook, ...]:
    """What there is of each class."""
    pixels = np.zeros(256, np.int64)
    for rows in row_blocks(labels):  # NumPy counts in numbers of eight bytes
        pixels += np.bincount(labels[rows].ravel(), minlength=256)
    found = []
    for label, name in enumerate(classes.names, start=1):
        own = [one for one in record.objects or () if one.class_name == name and not one.void]
        if not pixels[label] and not own:
            continue
        if record.objects is None:
            count = cv2.connectedComponents((labels == label).view(np.uint8), connectivity=8)[0] - 1
        else:
            count = len(own)
        found.append(ClassLook(label, int(pixels[label]), count))
    return tuple(found)


def _overlap(record: Record, foreground: int, size: tuple[int, int]) -> float:
    """Share of the area of all objects that others cover too; of outlined ones alone."""
    outlined = [one for one in record.objects or () if not one.void and one.file is None]
    if len(outlined) < 2 or not foreground:
        return 0.0
    area = sum(int(one.region(size)[1].sum()) for one in outlined)
    return max(1 - foreground / area, 0.0) if area else 0.0
