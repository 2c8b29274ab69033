"""Binary segmentation: one foreground mask an image, asked for by a prompt or without one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor

from ..batch import Annotation, Batch, Output, Query
from ..config.choices import AskedKind
from ..config.options import PromptOptions
from ..preprocessing import Preprocessing
from .base import Task
from .metrics import OverlapMetrics
from .prediction import Prediction
from .prompts import PromptMaker

FOREGROUND = 1
"""Label of the foreground."""


@dataclass(frozen=True, kw_only=True)
class BinaryTask(Task):
    """One mask an image.

    Training asks for the same mask several times, with prompts drawn at random; evaluation asks once with each kind.

    Attributes:
        prompts: How prompts are made from the mask.
        prompts_per_image: In training.
    """

    prompts: PromptMaker
    prompts_per_image: int = 1
    name = "binary"
    class_names = ("foreground",)

    @classmethod
    def from_options(cls, options: PromptOptions) -> Self:
        """See `Task.from_options`."""
        maker = PromptMaker(
            kind=options.prompt,
            box_scale=options.box_scale,
            box_jitter=options.box_jitter,
            positive_points=options.positive_points,
            negative_points=options.negative_points,
        )
        return cls(prompts=maker, prompts_per_image=options.training_prompts)

    def training_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.training_queries`."""
        mask, counted = _arrays(annotation)
        if counted is not None and not counted.any():
            return []
        prompts = self.prompts.drawn(mask, rng, counted, count=self.prompts_per_image)
        return [Query(prompt=prompt, label=FOREGROUND) for prompt in prompts]

    def evaluation_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.evaluation_queries`."""
        mask, counted = _arrays(annotation)
        if counted is not None and not counted.any():
            return []
        return [Query(prompt=prompt, label=FOREGROUND) for prompt in self.prompts.exact(mask, rng, counted)]

    def metrics(
        self, thresholds: Mapping[AskedKind, float], *, search: bool = False, curves: bool = False
    ) -> OverlapMetrics:
        """See `Task.metrics`."""
        return OverlapMetrics(thresholds, search=search, curves=curves)

    def mask_logits(self, output: Output) -> Tensor:
        """See `Task.mask_logits`."""
        return output.mask_logits[:, 0]

    def predictions(
        self, batch: Batch, output: Output, preprocessing: Preprocessing, thresholds: Mapping[AskedKind, float]
    ) -> list[Prediction]:
        """See `Task.predictions`; each query is about another image."""
        logits, scores = output.mask_logits.float().cpu(), output.iou_scores.float().cpu()
        return [
            Prediction(
                mask_logits=one,
                iou_scores=quality,
                original_size=size,
                preprocessing=preprocessing,
                threshold=thresholds[query.prompt.kind],
            )
            for query, one, quality, size in zip(
                batch.queries, logits, scores, batch.for_queries(batch.original_sizes), strict=True
            )
        ]


def _arrays(annotation: Annotation) -> tuple[np.ndarray, np.ndarray | None]:
    """Foreground ``(H, W)`` bool, and where the ground truth says something, or None for everywhere."""
    counted = annotation.counted()
    return annotation.target(FOREGROUND).numpy(), None if counted is None else counted.numpy()
