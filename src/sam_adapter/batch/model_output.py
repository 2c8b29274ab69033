"""What a model gives: `EncodedImage` from its image encoder, and `Output` from its mask decoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncodedImage:
    """What an image encoder gives for some images: named tensors, the images along their first dimension.

    Attributes:
        tensors: By name; SAM has ``image_embeddings`` ``(B, D, h, w)`` alone.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed."""
        return replace(self, tensors={name: change(tensor) for name, tensor in self.tensors.items()})

    def select(self, rows: Sequence[int]) -> Self:
        """The images at some positions, which may repeat."""
        if list(rows) == list(range(len(self))):
            return self
        return self.with_each(lambda tensor: tensor[rows])

    @classmethod
    def stack(cls, images: Sequence[Self]) -> Self:
        """Single images, without the first dimension, side by side."""
        return cls({name: torch.stack([one[name] for one in images]) for name in images[0].tensors})

    def unstack(self) -> list[Self]:
        """The images one by one, without the first dimension."""
        return [self.with_each(lambda tensor, at=at: tensor[at]) for at in range(len(self))]


class Output(NamedTuple):
    """The answers to some queries.

    Attributes:
        mask_logits: ``(Q, M, h, w)`` logits at the mask decoder's resolution, a quarter of the encoder's input for SAM;
            M is 1, or 3 with multimask output.
        iou_scores: ``(Q, M)`` predicted quality.
        object_scores: ``(Q,)`` logits of whether the object is there, from families that say so.
    """

    mask_logits: Tensor
    iou_scores: Tensor
    object_scores: Tensor | None = None
