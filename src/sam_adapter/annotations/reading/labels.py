"""The annotation of an image as a label map, from whichever kind of file holds it."""

from collections.abc import Iterable

import numpy as np

from ...config.labels import FOREGROUND, VOID
from ...errors import DataError
from ..listing import Record
from ..objects import AnnotatedObject
from . import values
from .decoding import MOST_PIXELS, decode, read_header
from .files import mask_meanings, read_mask
from .raster import Raster
from .rules import ReadingRules


class UnknownClassError(DataError):
    """An annotation names a class that the set does not have."""


def read_labels(record: Record, rules: ReadingRules, *, max_pixels: int | None = MOST_PIXELS) -> np.ndarray:
    """Read the annotation of an image.

    Args:
        record: Which one.
        rules: What mask values mean, and the classes of the set; without a table a mask is judged alone.
        max_pixels: Larger masks are refused; None takes any.

    Returns:
        ``(H, W)`` uint8: 0 is background, `FOREGROUND` or the labels of `Classes` are what is annotated, and `VOID`
        says nothing.

    Raises:
        DataError: If a file cannot be read, has a value that the rules do not know, or another size than the image.
    """
    if record.objects is not None:
        return labels_of_objects(record, read_header(record.image).size, rules)
    raster = decode(record.mask, record.page, max_pixels=max_pixels)
    return labels_of_raster(record, raster, rules)


def labels_of_raster(record: Record, raster: Raster, rules: ReadingRules) -> np.ndarray:
    """The label map of a mask that was decoded; see `read_labels`."""
    if rules.classes is not None:
        return rules.classes.of_raster(record.mask, raster)
    labels = mask_meanings(record.mask, raster, rules.masks)
    labels[labels == values.VOID] = VOID  # background and foreground are 0 and 1 in both
    return labels


def labels_of_objects(record: Record, size: tuple[int, int], rules: ReadingRules) -> np.ndarray:
    """Paint the objects of an image one over another, in their order.

    Args:
        record: With objects.
        size: ``(H, W)`` of the image.
        rules: The classes, and what the values of mask files mean.

    Raises:
        DataError: If an object has another size than the image, or a class that the set does not have.
    """
    values = (VOID if one.void else class_label(one, record, rules) for one in record.objects or ())
    return paint(np.zeros(size, np.uint8), record, rules, values)


def paint(labels: np.ndarray, record: Record, rules: ReadingRules, values: Iterable[int]) -> np.ndarray:
    """Paint the objects of an image into a label map, each with a value of its own, later ones over earlier ones.

    Args:
        labels: ``(H, W)`` zeros, of the image's size; changed in place.
        record: With objects.
        rules: What the values of mask files mean.
        values: For each object; `VOID` for those that are void.

    Returns:
        The label map.

    Raises:
        DataError: If an object has another size than the image.
    """
    size = labels.shape[:2]
    for one, label in zip(record.objects or (), values, strict=True):
        if one.file is None:
            window, inside = one.region(size)
            labels[window][inside] = label
            continue
        foreground, valid = read_mask(one.file, rules.masks, max_pixels=None)
        if foreground.shape != size:
            had, wanted = (f"{shape[1]}x{shape[0]}" for shape in (foreground.shape, size))
            raise DataError(f"{one.file}: mask is {had} but its image {record.image} is {wanted}; masks must match.")
        if valid is not None:
            labels[~valid & (labels == 0)] = VOID
        labels[foreground] = label
    return labels


def class_label(one: AnnotatedObject, record: Record, rules: ReadingRules) -> int:
    """The label of an annotated object's class.

    Raises:
        UnknownClassError: If the set does not have the class.
    """
    if rules.classes is None:
        return FOREGROUND
    label = rules.classes.label_of(one.class_name)
    if label is None:
        known = ", ".join(rules.classes.names)
        raise UnknownClassError(f"{record.mask}: {one.entry} has the class '{one.class_name}'; known are {known}.")
    return label
