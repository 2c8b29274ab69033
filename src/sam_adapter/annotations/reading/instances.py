"""The objects of an image as a label map, from whichever kind of file holds them.

Mask files have the number of an object in each pixel, with gaps and in any depth, or a colour an object; or they have
foreground alone, or classes, whose connected parts are the objects.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ...config.labels import FOREGROUND, VOID
from ..listing import Record
from .decoding import decode, read_header
from .labels import class_label, labels_of_raster, paint
from .raster import Raster
from .rules import ReadingRules
from .values import Value, looked_up, row_blocks


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects of one image.

    Attributes:
        labels: ``(H, W)`` int32: 0 is background, `VOID` says nothing, every other number is an object.
        classes: Number of each object to the label of its class; empty where objects have none.
    """

    labels: np.ndarray
    classes: dict[int, int]

    def class_labels(self) -> np.ndarray:
        """The class, or `FOREGROUND`, of each pixel: ``(H, W)`` uint8 with `VOID`."""
        meant = np.full(max(int(self.labels.max(initial=0)), VOID) + 1, FOREGROUND, np.uint8)
        meant[0], meant[VOID] = 0, VOID
        for number, label in self.classes.items():
            if number < len(meant):
                meant[number] = label
        return looked_up(meant, self.labels)


def read_instances(record: Record, rules: ReadingRules, *, max_pixels: int | None = None) -> Instances:
    """Read the objects of an image.

    Args:
        record: Which one.
        rules: With ``objects``.
        max_pixels: Larger masks are refused; None takes any.

    Returns:
        Objects numbered from 1, without the number `VOID`.

    Raises:
        DataError: If a file cannot be read, or an object has another size than the image, or an unknown class.
    """
    if record.objects is not None:
        return instances_of_objects(record, read_header(record.image).size, rules)
    return instances_of_raster(record, decode(record.mask, record.page, max_pixels=max_pixels), rules)


def instances_of_raster(record: Record, raster: Raster, rules: ReadingRules) -> Instances:
    """The objects of a mask that was decoded; see `read_instances`."""
    if rules.objects == "numbers":
        return Instances(_numbered(raster.values, rules.void_numbers), {})
    kinds = labels_of_raster(record, raster, rules)
    if rules.classes is not None:
        return _parts_of_classes(kinds, len(rules.classes.names))
    labels = number_parts(kinds == FOREGROUND)
    labels[kinds == VOID] = VOID
    return Instances(labels, {})


def instances_of_objects(record: Record, size: tuple[int, int], rules: ReadingRules) -> Instances:
    """Paint the objects of an image one over another, in their order; see `read_instances`."""
    classes: dict[int, int] = {}
    values: list[int] = []
    number = 0
    for one in record.objects or ():
        if one.void:
            values.append(VOID)
            continue
        number = following(number)
        values.append(number)
        if rules.classes is not None:
            classes[number] = class_label(one, record, rules)
    return Instances(paint(np.zeros(size, np.int32), record, rules, values), classes)


def following(number: int) -> int:
    """The number after an object's."""
    return number + 1 + (number + 1 == VOID)


def number_parts(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask ``(H, W)`` bool, over corners too, as ``(H, W)`` int32 numbers."""
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]
    labels[labels >= VOID] += 1
    return labels


def _parts_of_classes(labels: np.ndarray, classes: int) -> Instances:
    """The connected parts of each class of a label map ``(H, W)`` uint8."""
    numbered = np.zeros(labels.shape, np.int32)
    numbered[labels == VOID] = VOID
    kinds: dict[int, int] = {}
    last = 0
    for label in range(1, classes + 1):
        count, parts = cv2.connectedComponents((labels == label).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        numbers = np.zeros(count, np.int32)
        for part in range(1, count):
            numbers[part] = last = following(last)
            kinds[last] = label
        numbered[parts > 0] = numbers[parts[parts > 0]]
    return Instances(numbered, kinds)


def _numbers(values: np.ndarray) -> np.ndarray:
    """The number in each pixel ``(h, w)`` int64: a palette's index, a grey, or the three bytes of a colour."""
    if values.ndim == 3:
        return values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return values.astype(np.int64)


def _numbered(values: np.ndarray, void: tuple[Value, ...]) -> np.ndarray:
    """Numbers with gaps, or colours, ``(H, W)`` or ``(H, W, 3)``, as ``(H, W)`` int32: from 1 on, 0 and `VOID`."""
    blocks = row_blocks(values)
    own = np.unique(np.concatenate([np.unique(_numbers(values[rows])) for rows in blocks]))
    unknown = {int(value[0]) if len(value) == 1 else int(np.dot(value, [1 << 16, 1 << 8, 1])) for value in void}
    meant = np.zeros(len(own), np.int32)
    last = 0
    for at, number in enumerate(own.tolist()):
        if number in unknown or number < 0:
            meant[at] = VOID
        elif number:
            last = following(last)
            meant[at] = last
    labels = np.empty(values.shape[:2], np.int32)
    for rows in blocks:
        labels[rows] = meant[np.searchsorted(own, _numbers(values[rows]))]
    return labels
