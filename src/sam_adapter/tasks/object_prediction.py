"""The objects of one image, found without prompts or asked for one by one, at the image's original size."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from ..annotations.reading.classes import COLOURS, Classes
from ..annotations.reading.values import looked_up
from ..batch import Size
from ..config.labels import ALL_OBJECTS, CORES, objects_of_class
from ..preprocessing import MaskLogits, Preprocessing
from .label_maps import bands_of
from .parts import MaskPart, part_of, probability_map
from .prediction import Kind, PngValues, Regions, kinds_of
from .splitting import CORE_SMOOTHING, FoundObjects, split_objects

NEAR = 2
"""Pixels between objects that are drawn in different colours."""


@dataclass(frozen=True, kw_only=True)
class ObjectPrediction:
    """Answers about one image, on the CPU, as objects; nothing is brought to original size before it is asked for.

    Attributes:
        mask_logits: ``(Q, h, w)`` float32 low-resolution logits, or those of tiles.
        iou_scores: ``(Q,)`` predicted quality of each answer.
        labels: Of the answers: `ALL_OBJECTS`, `CORES` and `objects_of_class`, whose maps are split into objects; or
            that of the class of each object that was asked for.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
        threshold: Probability above which a pixel is foreground.
        classes: Of the objects; None if they have none.
        known_objects: The objects, where an `ObjectFinder` found them.
    """

    mask_logits: MaskLogits
    iou_scores: Tensor
    labels: tuple[int, ...]
    original_size: Size
    preprocessing: Preprocessing
    threshold: float
    classes: Classes | None = None
    known_objects: FoundObjects | None = None

    def __len__(self) -> int:
        return len(self.objects.scores)

    def _probability(self, at: int) -> np.ndarray:
        """Probabilities of one answer, ``(H, W)`` float32."""
        return probability_map(self.mask_logits[at : at + 1], self.original_size, self.preprocessing)

    def map_of(self, label: int) -> np.ndarray | None:
        """Probabilities of the answer that has a label, ``(H, W)`` float32; None if it was not asked for."""
        return self._probability(self.labels.index(label)) if label in self.labels else None

    @property
    def asked_for(self) -> bool:
        """Whether each object is the answer to a prompt of its own, so that objects may overlap."""
        return ALL_OBJECTS not in self.labels and self.known_objects is None

    @cached_property
    def objects(self) -> FoundObjects:
        """The objects: label map ``(H, W)`` int32, numbered from 1, and a score each."""
        if self.known_objects is not None:
            return self.known_objects
        if ALL_OBJECTS in self.labels:
            return self.split()
        labels = np.zeros(self.original_size, np.int32)
        scores = self.iou_scores.numpy().clip(0, 1)
        for at in np.argsort(scores, kind="stable"):  # the best one last, over all others
            part = self.part(int(at))
            if part is not None:
                labels[part.rows, part.columns][part.mask] = at + 1
        return FoundObjects(labels, scores)

    def split(self, core_rise: float | None = None) -> FoundObjects:
        """The maps split into objects.

        Args:
            core_rise: See `split_objects`.
        """
        foreground = self.map_of(ALL_OBJECTS)
        assert foreground is not None
        smoothing = CORE_SMOOTHING * self.preprocessing.pixels_each(self.mask_logits, self.original_size)
        return split_objects(
            foreground, self.map_of(CORES), threshold=self.threshold, core_rise=core_rise, smoothing=smoothing
        )

    def part(self, at: int) -> MaskPart | None:
        """The part of the picture in which one answer's mask lies; None if it is empty."""
        return part_of(self.mask_logits[at : at + 1], self.original_size, self.preprocessing, self.threshold)

    @cached_property
    def object_labels(self) -> tuple[int, ...]:
        """The label of each object's class: the one whose learned prompt answers most inside it; 1 without classes."""
        if self.asked_for:
            return self.labels
        return class_of_objects(self.objects, [self.map_of(label) for label in self._class_maps])

    @property
    def _class_maps(self) -> list[int]:
        names = () if self.classes is None else self.classes.names
        return [label for at in range(1, len(names) + 1) if (label := objects_of_class(at)) in self.labels]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each object's class."""
        names = ("object",) if self.classes is None else self.classes.names
        return tuple(names[label - 1] for label in self.object_labels)

    def values(self) -> PngValues:
        """The label map as a picture of values, 0 where there is no object."""
        labels = self.objects.labels
        few = len(self) <= np.iinfo(np.uint16).max
        return PngValues(labels.astype(np.uint16) if few else labels)

    def regions(self) -> Regions:
        """What is drawn on the picture: objects in a few colours, those that touch in different ones if they can be."""
        labels = self.objects.labels
        if self.classes is not None and len(self.classes.names) > 1:
            kinds, colours = kinds_of(self.classes), np.array(self.object_labels)
        else:
            kinds = tuple(Kind(at, colour=colour) for at, colour in enumerate(COLOURS, start=1))
            colours = 1 + colours_apart(labels, len(COLOURS))
        table = np.zeros(len(self) + 1, np.uint8)
        table[1 : len(colours) + 1] = colours
        return Regions(looked_up(table, labels), kinds, self._outline)

    @cached_property
    def _outline(self) -> int:
        """Pixels of outlines: as in other pictures of this size, but no more than a twentieth of the mean object."""
        across = (np.count_nonzero(self.objects.labels) / max(len(self), 1)) ** 0.5
        return max(min(round(max(self.original_size) / 400), round(across / 20)), 1)

    def probability_maps(self) -> dict[str, Tensor]:
        """Probabilities ``(H, W)`` of the maps by name, or of each object that was asked for by its number."""
        names = {ALL_OBJECTS: "foreground", CORES: "cores"}
        if self.classes is not None:
            names |= {objects_of_class(at): name for at, name in enumerate(self.classes.names, start=1)}
        return {
            names.get(label, str(at + 1)): torch.from_numpy(self._probability(at))
            for at, label in enumerate(self.labels)
        }


def class_of_objects(objects: FoundObjects, maps: list[np.ndarray | None]) -> tuple[int, ...]:
    """The label of each object's class from maps of the classes ``(H, W)``; 1 if there are none."""
    count = len(objects.scores)
    known = [one for one in maps if one is not None]
    if not known or not count:
        return (1,) * count
    flat = objects.labels.ravel()
    sums = [np.bincount(flat, weights=one.ravel(), minlength=count + 1)[1:] for one in known]
    return tuple((1 + np.argmax(sums, axis=0)).tolist())


def colours_apart(labels: np.ndarray, count: int) -> np.ndarray:
    """A colour from 0 for each object, so that neighbours differ while there are colours left.

    Args:
        labels: ``(H, W)`` int32, objects numbered from 1.
        count: Colours that there are.

    Returns:
        ``(N,)`` int64.
    """
    most = int(labels.max(initial=0))
    neighbours: dict[int, set[int]] = {}
    for band in bands_of(labels.shape):
        for one, other in _near_pairs(labels[max(band.start - NEAR, 0) : band.stop + NEAR]):
            neighbours.setdefault(one, set()).add(other)
            neighbours.setdefault(other, set()).add(one)
    colours = np.zeros(most, np.int64)
    given: dict[int, int] = {}
    for number in range(1, most + 1):
        taken = {given[other] for other in neighbours.get(number, ()) if other in given}
        free = [colour for colour in range(count) if colour not in taken]
        given[number] = free[number % len(free)] if free else number % count
        colours[number - 1] = given[number]
    return colours


def _near_pairs(labels: np.ndarray) -> list[list[int]]:
    """Pairs of objects of a label map ``(h, w)`` that are at most `NEAR` pixels apart, one in a pixel of the other."""
    square = np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)
    wide = cv2.dilate(labels.astype(np.float32), square).astype(np.int32)
    touching = (wide != labels) & (labels > 0)
    return np.unique(np.stack([labels[touching], wide[touching]], 1), axis=0).tolist()
