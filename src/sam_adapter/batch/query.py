"""One question about one image: a `Query` with its `Prompt`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ..config.choices import AskedKind
from ..config.labels import FOREGROUND
from .given_mask import GivenMask
from .window import Window


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What SAM is told about one image; all fields empty means no prompt.

    Attributes:
        box: ``(4,)`` XYXY pixels.
        points: ``(P, 2)`` XY pixels.
        point_labels: ``(P,)``, 1 foreground, 0 background, -1 padding.
        mask_input: ``(1, h, w)`` mask logits of an earlier answer, at the side of the model's mask input.
        mask: In pixels of the image; `Preprocessing.prompt_to_input` makes a mask input of it, if there is no other.
    """

    box: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    mask_input: Tensor | None = None
    mask: GivenMask | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """What a model takes, in order: the fields but for the mask."""
        return self.box, self.points, self.point_labels, self.mask_input

    @property
    def kind(self) -> AskedKind:
        """What it says most exactly: the mask, the box, points, or nothing of these."""
        if self.mask is not None:
            return "mask"
        if self.box is not None:
            return "box"
        return "none" if self.points is None else "points"

    @property
    def structure(self) -> tuple[Any, ...]:
        """Equal for prompts without a mask that can be decoded in one batch."""
        return tuple(None if value is None else tuple(value.shape) for value in self.tensors)

    def boxed(self) -> Self:
        """The same, with the mask's own box where a mask has neither box nor points beside it.

        SAM was trained with masks beside a box or points, and answers next to nothing to one alone.
        """
        if self.mask is None or self.box is not None or self.points is not None:
            return self
        return replace(self, box=self.mask.box)

    def scaled(self, x: float, y: float) -> Self:
        """The same without a mask in an image whose width is ``x`` and height ``y`` times as large."""
        box = None if self.box is None else self.box * self.box.new_tensor([x, y, x, y])
        points = None if self.points is None else self.points * self.points.new_tensor([x, y])
        return replace(self, box=box, points=points, mask=None)

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with each of `tensors` changed."""
        changed = [None if value is None else change(value) for value in self.tensors]
        names = ("box", "points", "point_labels", "mask_input")
        return replace(self, **dict(zip(names, changed, strict=True)))

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self.with_each(lambda tensor: tensor.to(device)), mask=mask)


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
