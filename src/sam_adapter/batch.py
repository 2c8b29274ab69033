"""What travels between rooms: a `Query` about an image, a `Sample`, a `Batch` of them, and the model's `Output`.

Everything between the files and the scores is a list of queries: one question about one image each. Images may be asked
any number of them, so a batch holds its queries one after another, with the position of each one's image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from .config.choices import AskedKind
from .config.labels import ALL_OBJECTS, CORES, FOREGROUND, VOID, objects_of_class

T = TypeVar("T")

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


@dataclass(frozen=True)
class Annotation:
    """The ground truth of one image as a label map.

    A query's target is made when it is asked for, in as many rows as are asked for: no stack of full-size masks is
    ever held.

    Attributes:
        labels: ``(H, W)`` uint8, or int32 where each object has a number; 0 is background and `VOID` says nothing.
        has_void: Whether any pixel is void.
        cores: ``(H, W)`` bool, the inner parts of all objects; None where there are no objects apart.
        class_labels: ``(H, W)`` uint8, the label of the class of each object's pixels; None where no object has one.
        object_classes: Number of each object to the label of its class; empty where objects have none.
    """

    labels: Tensor
    has_void: bool
    cores: Tensor | None = None
    class_labels: Tensor | None = None
    object_classes: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Tensor, **objects: Any) -> Self:
        """The annotation that a label map ``(H, W)`` means, with the attributes of objects if it has them."""
        return cls(labels, bool((labels == VOID).any()), **objects)

    def target(self, label: int, rows: slice = slice(None)) -> Tensor:
        """Where a label is: ``(rows, W)`` bool."""
        if label == CORES:
            assert self.cores is not None
            return self.cores[rows]
        if label == ALL_OBJECTS:
            return (self.labels[rows] != 0) & (self.labels[rows] != VOID)
        if label < CORES:
            if self.class_labels is None:  # a picture without objects
                return torch.zeros_like(self.labels[rows], dtype=torch.bool)
            return self.class_labels[rows] == objects_of_class(label)
        return self.labels[rows] == label

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed."""
        cores, kinds = (None if one is None else change(one) for one in (self.cores, self.class_labels))
        return replace(self, labels=change(self.labels), cores=cores, class_labels=kinds)

    def counted(self, rows: slice = slice(None)) -> Tensor | None:
        """Where the ground truth says something: ``(rows, W)`` bool, or None for everywhere."""
        return self.labels[rows] != VOID if self.has_void else None

    def counted_array(self) -> np.ndarray | None:
        """`counted` of all rows as an array."""
        counted = self.counted()
        return None if counted is None else counted.numpy()


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
