"""What travels between rooms: one image's `Prompt` and `Sample`, a `Batch` of them, and the model's answer."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from .config.options import AskedKind

T = TypeVar("T")

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What SAM is told about one image; all fields empty means no prompt.

    The leading dimension ``N`` counts the masks that are asked for, one for each box or group of points.

    Attributes:
        boxes: ``(N, 4)`` XYXY pixels.
        points: ``(N, P, 2)`` XY pixels.
        point_labels: ``(N, P)``, 1 foreground, 0 background, -1 padding.
        mask_inputs: ``(N, 1, h, w)`` mask logits of an earlier answer, at a quarter of the encoder's input side.
    """

    boxes: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    mask_inputs: Tensor | None = None

    def __len__(self) -> int:
        given = next((value for value in self.tensors if value is not None), None)
        return 1 if given is None else given.shape[0]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The four fields in order."""
        return self.boxes, self.points, self.point_labels, self.mask_inputs

    @property
    def kind(self) -> AskedKind:
        """What it says most exactly: the box, points, or nothing of the two."""
        if self.boxes is not None:
            return "box"
        return "none" if self.points is None else "points"

    @property
    def structure(self) -> tuple[Any, ...]:
        """Equal for prompts that can be decoded in one batch."""
        return tuple(None if value is None else tuple(value.shape) for value in self.tensors)

    def scaled(self, x: float, y: float) -> Self:
        """The same prompt in an image whose width is ``x`` and height ``y`` times as large."""
        boxes = None if self.boxes is None else self.boxes * self.boxes.new_tensor([x, y, x, y])
        points = None if self.points is None else self.points * self.points.new_tensor([x, y])
        return replace(self, boxes=boxes, points=points)

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed."""
        changed = [None if value is None else change(value) for value in self.tensors]
        names = ("boxes", "points", "point_labels", "mask_inputs")
        return replace(self, **dict(zip(names, changed, strict=True)))

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        return self.with_each(lambda tensor: tensor.to(device))


class Sample(NamedTuple):
    """One image as the data room hands it out.

    Attributes:
        index: Position in the data set.
        name: Relative path without extension.
        pixel_values: ``(3, S, S)`` normalised input, or None when the embedding is given.
        target: ``(K, H, W)`` bool ground truth at original size, or None when there is none.
        prompts: What is asked about the image, in pixels of the original.
        original_size: ``(H, W)``.
        image_embedding: ``(D, h, w)`` of an earlier encoding, or None.
        valid: ``(1, H, W)`` bool, False where the ground truth says nothing (void); None if every pixel counts.
        weight: How much it counts in the loss, shared among its prompts; 0 if it only fills up a process.
    """

    index: int
    name: str
    pixel_values: Tensor | None
    target: Tensor | None
    prompts: list[Prompt]
    original_size: Size
    image_embedding: Tensor | None = None
    valid: Tensor | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Samples side by side; only what the model sees is stacked, as the originals differ in size.

    Either ``pixel_values`` ``(B, 3, S, S)`` or ``image_embeddings`` ``(B, D, h, w)`` is given. ``valid`` holds for each
    image where its ground truth counts, ``(1, H, W)`` bool, or None for everywhere.

    ``prompts`` holds the prompts of all images one after another; images may have different numbers of them. For each
    prompt ``image_index`` is the position of its image in the batch (left out: one prompt an image, in order) and
    ``weight`` how much it counts in the loss (left out: 1 each); those of an image sum to 1, or to 0.
    """

    indices: list[int]
    names: list[str]
    pixel_values: Tensor | None
    targets: list[Tensor]
    prompts: list[Prompt]
    original_sizes: list[Size]
    image_embeddings: Tensor | None = None
    valid: list[Tensor | None] = field(default_factory=list)
    image_index: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "valid", self.valid or [None] * len(self.targets))
        object.__setattr__(self, "image_index", self.image_index or list(range(len(self.prompts))))
        object.__setattr__(self, "weight", self.weight or [1.0] * len(self.prompts))
        if not len(self.prompts) == len(self.image_index) == len(self.weight):
            raise ValueError(
                f"a batch needs an image_index and a weight for each prompt: got {len(self.prompts)} prompts, "
                f"{len(self.image_index)} indices and {len(self.weight)} weights."
            )

    def __len__(self) -> int:
        return len(self.indices)

    def for_prompts(self, values: Sequence[T]) -> list[T]:
        """Values that belong to the images, repeated so that each prompt has its image's."""
        return [values[at] for at in self.image_index]

    @classmethod
    def collate(cls, samples: list[Sample]) -> Self:
        """Stack samples; targets stay a list, empty where there is no ground truth."""
        return cls(
            indices=[sample.index for sample in samples],
            names=[sample.name for sample in samples],
            pixel_values=_stacked([sample.pixel_values for sample in samples]),
            targets=[sample.target for sample in samples if sample.target is not None],
            prompts=[prompt for sample in samples for prompt in sample.prompts],
            original_sizes=[sample.original_size for sample in samples],
            image_embeddings=_stacked([sample.image_embedding for sample in samples]),
            valid=[sample.valid for sample in samples if sample.target is not None],
            image_index=[at for at, sample in enumerate(samples) for _ in sample.prompts],
            weight=[sample.weight / len(sample.prompts) for sample in samples for _ in sample.prompts],
        )

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with every tensor changed."""
        return replace(
            self,
            pixel_values=None if self.pixel_values is None else change(self.pixel_values),
            image_embeddings=None if self.image_embeddings is None else change(self.image_embeddings),
            targets=[change(target) for target in self.targets],
            prompts=[prompt.with_each(change) for prompt in self.prompts],
            valid=[None if valid is None else change(valid) for valid in self.valid],
        )

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device; from pinned memory to a GPU without waiting for it."""
        non_blocking = torch.device(device).type == "cuda"
        return self.with_each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, but for the small prompts; PyTorch's loaders ask for it by this name."""
        pinned = replace(self, prompts=[], image_index=[], weight=[]).with_each(Tensor.pin_memory)
        return replace(pinned, prompts=self.prompts, image_index=self.image_index, weight=self.weight)


def by_group(keys: Iterable[Hashable], compute: Callable[[list[int]], Iterable[T]]) -> list[T]:
    """Compute what has equal keys side by side.

    Args:
        keys: One for each thing.
        compute: Gets the positions of things with one key, and gives a result for each.

    Returns:
        The results in the order of the keys.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    results = {at: value for group in groups.values() for at, value in zip(group, compute(group), strict=True)}
    return [results[at] for at in range(len(results))]


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    given = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(given) if given else None


class Output(NamedTuple):
    """SAM's answer.

    Attributes:
        mask_logits: For each image ``(N, h, w)`` low-resolution logits (``(N * 3, h, w)`` with multimask output).
        iou_scores: For each image the predicted quality, ``(N,)`` (or ``(N * 3,)``).
    """

    mask_logits: list[Tensor]
    iou_scores: list[Tensor]


@dataclass(frozen=True)
class Prediction:
    """Masks for one image at its original size.

    Attributes:
        masks: ``(N, H, W)`` bool.
        probabilities: ``(N, H, W)`` float32 from 0 to 1.
        iou_scores: ``(N,)`` predicted quality of each mask.
        mask_logits: ``(N, h, w)`` low-resolution logits, usable as `Prompt.mask_inputs`.
    """

    masks: Tensor
    probabilities: Tensor
    iou_scores: Tensor
    mask_logits: Tensor
