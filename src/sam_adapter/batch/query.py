"""One question about one image: a `Query` with its `Prompt`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from ..config.choices import AskedKind
from ..config.labels import FOREGROUND

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What SAM is told about one image; all fields empty means no prompt.

    Attributes:
        box: ``(4,)`` XYXY pixels.
        points: ``(P, 2)`` XY pixels.
        point_labels: ``(P,)``, 1 foreground, 0 background, -1 padding.
        mask_input: ``(1, h, w)`` mask logits of an earlier answer, at the side of the model's mask input.
    """

    box: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    mask_input: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The four fields in order."""
        return self.box, self.points, self.point_labels, self.mask_input

    @property
    def kind(self) -> AskedKind:
        """What it says most exactly: the box, points, or nothing of the two."""
        if self.box is not None:
            return "box"
        return "none" if self.points is None else "points"

    @property
    def structure(self) -> tuple[Any, ...]:
        """Equal for prompts that can be decoded in one batch."""
        return tuple(None if value is None else tuple(value.shape) for value in self.tensors)

    def scaled(self, x: float, y: float) -> Self:
        """The same prompt in an image whose width is ``x`` and height ``y`` times as large."""
        box = None if self.box is None else self.box * self.box.new_tensor([x, y, x, y])
        points = None if self.points is None else self.points * self.points.new_tensor([x, y])
        return replace(self, box=box, points=points)

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed."""
        changed = [None if value is None else change(value) for value in self.tensors]
        names = ("box", "points", "point_labels", "mask_input")
        return replace(self, **dict(zip(names, changed, strict=True)))

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        return self.with_each(lambda tensor: tensor.to(device))


class Window(NamedTuple):
    """The part of a picture such as the one that a sample shows, in pixels of the picture."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question about one image, which one mask answers.

    Attributes:
        prompt: What the model is told, in pixels of the image.
        label: Value in the label map of what is asked for; or `ALL_OBJECTS`, `CORES` or `objects_of_class`.
        learned: Which learned prompt asks too, counted from 0; None for no one.
        share: How much it counts beside the other queries about its image in the loss.
        region: Part of the image in which a mean of the loss over pixels is taken; None takes all of it.
    """

    prompt: Prompt = Prompt()
    label: int = FOREGROUND
    learned: int | None = None
    share: float = 1.0
    region: Window | None = None
