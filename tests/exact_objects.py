"""A model that knows the objects of a picture: their numbers are the picture's red channel."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sam_adapter.batch import Batch, EncodedImage, Output
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.windows import RunningModel, SeenPicture
from sam_adapter.tiling.grid import Tiling

SIDE = 64


def picture_of(labels: np.ndarray) -> Tensor:
    """``(H, W, 3)`` uint8 of a label map with numbers up to 255."""
    return torch.from_numpy(np.repeat(labels.astype(np.uint8)[..., None], 3, 2))


@dataclass
class ExactModel:
    """Answers a point by the object below it and a box by the one that fills most of it, at the window's own pixels.

    Attributes:
        quality: Predicted quality of the answer about an object, by its number.
        slope: Largest logit of an answer, by the number of its object; a small one is unstable.
        asked: Prompts of each call.
    """

    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(image_size=SIDE))
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    core_rise: float | None = None
    quality: Callable[[int], float] = lambda number: 0.95
    slope: Callable[[int], float] = lambda number: 8.0
    asked: list[int] = field(default_factory=list)

    def encode(self, pixel_values: Tensor, *, frozen: bool = False) -> EncodedImage:
        mean, std = self.preprocessing.mean[0], self.preprocessing.std[0]
        return EncodedImage({"numbers": (pixel_values[:, 0] * std + mean).round()})

    def __call__(self, batch: Batch, *, multimask: bool = False, frozen: bool = False) -> Output:
        assert batch.encoded is not None
        self.asked.append(len(batch.queries))
        logits, scores = [], []
        for at, query in zip(batch.image_index, batch.queries, strict=True):
            numbers = batch.encoded["numbers"][at]
            number = self._meant(numbers, query.prompt.box, query.prompt.points)
            inside = (numbers == number) & (number > 0)
            slope = self.slope(number)
            one = torch.where(inside, slope, -slope)
            logits.append(torch.stack([one, one, -torch.ones_like(one)]) if multimask else one[None])
            scores.append(torch.full((3 if multimask else 1,), self.quality(number)))
        return Output(torch.stack(logits), torch.stack(scores))

    def _meant(self, numbers: Tensor, box: Tensor | None, points: Tensor | None) -> int:
        if box is not None:
            left, top, right, bottom = box.long().tolist()
            part = numbers[top : bottom + 1, left : right + 1].long().ravel()
            return int(torch.bincount(part[part > 0], minlength=1).argmax())
        assert points is not None
        column, row = points[0].long().tolist()
        return int(numbers[row, column])


def seen(labels: np.ndarray, model: ExactModel, *, tile: int | None = SIDE, overlap: int = 24) -> SeenPicture:
    """A picture with these objects; whole, it must not be larger than the model's input."""
    size = (labels.shape[0], labels.shape[1])
    batch = Batch(
        indices=[0],
        names=[""],
        pixel_values=None,
        annotations=[None],
        queries=[],
        original_sizes=[size],
        encoded=model.encode(model.preprocessing.pixel_values(picture_of(labels).numpy())[None]) if not tile else None,
        pictures=[picture_of(labels)] if tile else [],
    )
    tiling = Tiling(tile=tile, overlap=overlap) if tile else None
    machine = Machine.choose(device="cpu", precision="32")
    return SeenPicture.of(batch, 0, RunningModel(model=model, machine=machine, tiling=tiling, batch_size=3))
