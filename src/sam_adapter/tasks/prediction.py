"""Masks of one image, made at its original size when they are asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..annotations.reading.classes import Classes
from ..batch import Size
from ..errors import amount
from ..preprocessing import MaskLogits, Preprocessing
from .class_map import whole_class_map
from .parts import MaskPart, part_of


class Kind(NamedTuple):
    """How regions of one kind are drawn.

    Attributes:
        label: Of their pixels.
        name: For a legend; empty for none.
        colour: RGB; None takes one that is seen on the picture.
    """

    label: int
    name: str = ""
    colour: tuple[int, int, int] | None = None


class Regions(NamedTuple):
    """What is drawn on a picture.

    Attributes:
        labels: ``(H, W)`` uint8, 0 where nothing is drawn.
        kinds: What the numbers from 1 on mean.
        outline: Pixels of an outline; None makes it fit the picture.
    """

    labels: np.ndarray
    kinds: tuple[Kind, ...]
    outline: int | None = None

    @property
    def shown(self) -> list[Kind]:
        """The kinds that have a pixel."""
        there = np.zeros(256, bool)
        for row in self.labels:
            there[row] = True
        return [kind for kind in self.kinds if there[kind.label]]


class PngValues(NamedTuple):
    """A picture of values.

    Attributes:
        pixels: ``(H, W)`` uint8 or uint16, or ``(H, W, 3)`` uint8.
        palette: ``(256, 3)`` uint8 colours of the values, if they have some.
    """

    pixels: np.ndarray
    palette: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Answers to some queries about one image, on the CPU. Only what is asked for is brought to original size.

    Attributes:
        mask_logits: ``(N, h, w)`` float32 low-resolution logits, usable as `Prompt.mask_input`; of a picture that was
            seen tile by tile those of its tiles, which are not.
        iou_scores: ``(N,)`` predicted quality of each mask.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
        threshold: Probability above which a pixel is foreground.
    """

    mask_logits: MaskLogits
    iou_scores: Tensor
    original_size: Size
    preprocessing: Preprocessing
    threshold: float

    def __len__(self) -> int:
        return len(self.mask_logits)

    def probability(self, index: int = 0) -> Tensor:
        """Probabilities of one mask, ``(H, W)`` float32 from 0 to 1."""
        return self._first if index == 0 else self._probability(index)

    @cached_property
    def _first(self) -> Tensor:
        """The first mask's probabilities, which all that is written of it has in common."""
        return self._probability(0)

    def _probability(self, index: int) -> Tensor:
        return self.preprocessing.to_original_size(self._logits(index), self.original_size)[0].sigmoid_()

    def _logits(self, index: int) -> MaskLogits:
        """Those of one mask, ``(1, h, w)``; as in a list, -1 is the last one."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {amount(len(self), 'mask')}, from 0 on, got {index}.")
        at = index % len(self)
        return self.mask_logits[at : at + 1]

    def mask(self, index: int = 0) -> Tensor:
        """One mask, ``(H, W)`` bool."""
        return self.probability(index) > self.threshold

    def part(self, index: int = 0) -> MaskPart | None:
        """The part of the picture in which a mask lies, without the rest in memory; None if it is empty."""
        return part_of(self._logits(index), self.original_size, self.preprocessing, self.threshold)

    def regions(self) -> Regions:
        """What is drawn on the picture."""
        return Regions(self.mask().numpy().view(np.uint8), (Kind(1),))

    def values(self) -> PngValues:
        """The mask as a picture of values: 255 is foreground."""
        return PngValues(self.mask().numpy().astype(np.uint8) * 255)

    def probability_maps(self) -> dict[str, Tensor]:
        """Probabilities ``(H, W)`` by name; the name is empty where there is one."""
        return {"": self.probability()}

    @cached_property
    def probabilities(self) -> Tensor:
        """All masks' probabilities, ``(N, H, W)`` float32 from 0 to 1; of many, ask `probability` one by one."""
        return torch.stack([self.probability(index) for index in range(len(self))])

    @cached_property
    def masks(self) -> Tensor:
        """All masks, ``(N, H, W)`` bool; of many masks of a large picture, ask `part` or `mask` one by one."""
        return torch.stack([self.mask(index) for index in range(len(self))])


@dataclass(frozen=True, kw_only=True)
class ClassPrediction:
    """Answers to a query a class about one image, on the CPU, as one class for every pixel.

    Attributes:
        mask_logits: ``(Q, h, w)`` float32 low-resolution logits; None where only the class map was kept.
        iou_scores: ``(Q,)`` predicted quality of each answer.
        labels: Of the answers; the first class is 1.
        classes: All of them.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
        threshold: A pixel whose largest probability is not above it is background.
        known_map: The class map, where it was made already.
    """

    mask_logits: MaskLogits | None
    iou_scores: Tensor
    labels: tuple[int, ...]
    classes: Classes
    original_size: Size
    preprocessing: Preprocessing
    threshold: float
    known_map: Tensor | None = None

    @cached_property
    def class_map(self) -> Tensor:
        """The label of each pixel, ``(H, W)`` uint8; 0 is background, which fully labelled sets do not have."""
        if self.known_map is not None:
            return self.known_map
        assert self.mask_logits is not None
        threshold = self.threshold if self.classes.has_background else None
        return whole_class_map(
            self.mask_logits, self.labels, self.original_size, self.preprocessing, threshold=threshold
        )

    def probability(self, label: int) -> Tensor:
        """Probabilities of one class, ``(H, W)`` float32 from 0 to 1; the largest of its answers."""
        own = [at for at, one in enumerate(self.labels) if one == label]
        if not own:
            return torch.zeros(self.original_size)
        assert self.mask_logits is not None
        logits = self.mask_logits[own]
        return self.preprocessing.to_original_size(logits, self.original_size).amax(0).sigmoid()

    def regions(self) -> Regions:
        """What is drawn on the picture: the classes."""
        return Regions(self.class_map.numpy(), kinds_of(self.classes))

    def values(self) -> PngValues:
        """The class map with the values, or colours, that the masks had which the classes come from."""
        labels, classes = self.class_map.numpy(), self.classes
        colours = np.zeros((256, 3), np.uint8)
        if classes.in_colour:
            ground = classes.background[0] if classes.background else (0, 0, 0)
            for label, value in enumerate((ground, *classes.values)):
                colours[label] = [int(one) for one in (value * 3 if len(value) == 1 else value)]
            return PngValues(colours[labels])
        own = [int(value[0]) for value in classes.values] or list(range(1, len(classes.names) + 1))
        ground = int(classes.background[0][0]) if classes.background else 0
        table = np.zeros(256, np.uint16 if max(*own, ground) > 255 else np.uint8)
        table[: len(own) + 1] = [ground, *own]
        if table.dtype != np.uint8:
            return PngValues(table[labels])
        for value, colour in zip(own, classes.colours, strict=True):
            colours[value] = colour
        return PngValues(table[labels], colours)

    def probability_maps(self) -> dict[str, Tensor]:
        """Probabilities ``(H, W)`` of each class that was asked for, by its name."""
        return {self.classes.names[label - 1]: self.probability(label) for label in dict.fromkeys(self.labels)}


def kinds_of(classes: Classes) -> tuple[Kind, ...]:
    """Classes as they are drawn."""
    named = zip(classes.names, classes.colours, strict=True)
    return tuple(Kind(label, name, colour) for label, (name, colour) in enumerate(named, start=1))
