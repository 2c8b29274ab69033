"""Samples of a data set, and batches of them.

Images may be asked any number of queries, so a batch holds its queries one after another, with the position of each
one's image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from .annotation import Annotation
from .model_output import EncodedImage
from .query import Query
from .window import Size, Window

T = TypeVar("T")


class Sample(NamedTuple):
    """One image, or a window of it, as the data room hands it out.

    Attributes:
        index: Position in the data set.
        name: Relative path without extension.
        pixel_values: ``(3, S, S)`` normalised input, or None when the encoded image is given.
        annotation: The ground truth at original size, or None when there is none.
        queries: What is asked about the image, in pixels of the original.
        original_size: ``(H, W)`` of the image or the window, as augmented and before the encoder's resizing.
        encoded: What the encoder gave earlier, without the dimension of images, or None.
        weight: How much it counts in the loss, shared among its queries; 0 if it only fills up a process.
        window: The part of the picture that this is; None for all of it.
        picture: ``(H, W, 3)`` uint8 in place of the input, where it is to be seen tile by tile.
    """

    index: int
    name: str
    pixel_values: Tensor | None
    annotation: Annotation | None
    queries: list[Query]
    original_size: Size
    encoded: EncodedImage | None = None
    weight: float = 1.0
    window: Window | None = None
    picture: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples side by side; only what the model sees is stacked, as the originals differ in size.

    Attributes:
        indices: Of the samples.
        names: Of the samples.
        pixel_values: ``(B, 3, S, S)``, or None when ``encoded`` or ``pictures`` are given.
        annotations: Of the samples; None where there is no ground truth.
        queries: Those of all images one after another; Q in all, of any number for each image.
        original_sizes: Of the samples.
        encoded: The images as the encoder gave them earlier, or None.
        image_index: For each query the position of its image in the batch. Left out: one query an image, in order.
        weight: How much each query counts in the loss; those of an image sum to 1, or to 0. Left out: 1 each.
        pictures: ``(H, W, 3)`` uint8 of each sample on the CPU, to be seen tile by tile; empty otherwise.
    """

    indices: list[int]
    names: list[str]
    pixel_values: Tensor | None
    annotations: list[Annotation | None]
    queries: list[Query]
    original_sizes: list[Size]
    encoded: EncodedImage | None = None
    image_index: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    pictures: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_index", self.image_index or list(range(len(self.queries))))
        object.__setattr__(self, "weight", self.weight or [1.0] * len(self.queries))
        if not len(self.queries) == len(self.image_index) == len(self.weight):
            raise ValueError(
                f"a batch needs an image_index and a weight for each query: got {len(self.queries)} queries, "
                f"{len(self.image_index)} indices and {len(self.weight)} weights."
            )

    def __len__(self) -> int:
        return len(self.indices)

    def queries_about(self, image: int) -> list[int]:
        """Positions of the queries about the image at a position."""
        return [query for query, at in enumerate(self.image_index) if at == image]

    def for_queries(self, values: Sequence[T]) -> list[T]:
        """Values that belong to the images, repeated so that each query has its image's."""
        return [values[at] for at in self.image_index]

    @classmethod
    def collate(cls, samples: list[Sample]) -> Self:
        """Put samples side by side."""
        pixel_values = [sample.pixel_values for sample in samples if sample.pixel_values is not None]
        encoded = [sample.encoded for sample in samples if sample.encoded is not None]
        return cls(
            indices=[sample.index for sample in samples],
            names=[sample.name for sample in samples],
            pixel_values=torch.stack(pixel_values) if pixel_values else None,
            annotations=[sample.annotation for sample in samples],
            queries=[query for sample in samples for query in sample.queries],
            original_sizes=[sample.original_size for sample in samples],
            encoded=EncodedImage.stack(encoded) if encoded else None,
            image_index=[at for at, sample in enumerate(samples) for _ in sample.queries],
            weight=[weight for sample in samples for weight in _weights(sample)],
            pictures=[sample.picture for sample in samples if sample.picture is not None],
        )

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed, but for the prompts'."""
        return replace(
            self,
            pixel_values=None if self.pixel_values is None else change(self.pixel_values),
            encoded=None if self.encoded is None else self.encoded.with_each(change),
            annotations=[None if one is None else one.with_each(change) for one in self.annotations],
        )

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device; from pinned memory to a GPU without waiting for it."""
        non_blocking = torch.device(device).type == "cuda"
        queries = [replace(query, prompt=query.prompt.to(device)) for query in self.queries]
        return replace(self.with_each(lambda tensor: tensor.to(device, non_blocking=non_blocking)), queries=queries)

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, but for the small prompts; PyTorch's loaders ask for it by this name."""
        return self.with_each(Tensor.pin_memory)


def _weights(sample: Sample) -> list[float]:
    """How much each query of a sample counts; together as much as the sample."""
    every = sum(query.share for query in sample.queries)
    return [sample.weight * query.share / every for query in sample.queries]
