"""Binary segmentation: one foreground mask an image, asked for by a prompt or without one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from torch import Tensor

from ..annotations.reading.classes import Classes
from ..batch import FOREGROUND, Annotation, Batch, Output, Prompt, Query
from ..config.choices import AskedKind
from ..config.options import PromptOptions
from ..preprocessing import Preprocessing
from ..tiling.sweep import Strip, joined
from .base import Task
from .metrics import AddedScores, OverlapMetrics
from .prediction import Prediction
from .prompts import PromptMaker, maker_of


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

    @classmethod
    def from_options(cls, options: PromptOptions, classes: Classes | None = None) -> Self:
        """See `Task.from_options`."""
        return cls(prompts=maker_of(options), prompts_per_image=options.training_prompts)

    def training_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.training_queries`."""
        return _queries(annotation, partial(self.prompts.drawn, rng=rng, count=self.prompts_per_image))

    def evaluation_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.evaluation_queries`."""
        return _queries(annotation, partial(self.prompts.exact, rng=rng))

    def prediction_queries(self, prompts: list[Prompt], labels: list[int] | None = None) -> list[Query]:
        """See `Task.prediction_queries`."""
        return [Query(prompt=prompt, label=FOREGROUND) for prompt in prompts or [Prompt()]]

    def metrics(
        self,
        thresholds: Mapping[AskedKind, float],
        *,
        search: bool = False,
        curves: bool = False,
        added: AddedScores | None = None,
    ) -> OverlapMetrics:
        """See `Task.metrics`."""
        return OverlapMetrics(thresholds, search=search, curves=curves, added=added)

    def mask_logits(self, output: Output) -> Tensor:
        """See `Task.mask_logits`."""
        return output.mask_logits[:, 0]

    def predictions(
        self, batch: Batch, output: Output, preprocessing: Preprocessing, thresholds: Mapping[AskedKind, float]
    ) -> list[Prediction]:
        """See `Task.predictions`."""
        logits, scores = output.mask_logits.float().cpu(), output.iou_scores.float().cpu()
        found = []
        for at, size in enumerate(batch.original_sizes):
            about = batch.queries_about(at)
            found.append(
                Prediction(
                    mask_logits=logits[about].flatten(0, 1),
                    iou_scores=scores[about].flatten(),
                    original_size=size,
                    preprocessing=preprocessing,
                    threshold=thresholds[batch.queries[about[0]].prompt.kind],
                )
            )
        return found

    def tiled_prediction(
        self,
        strips: Iterable[Strip],
        queries: Sequence[Query],
        thresholds: Mapping[AskedKind, float],
        *,
        keep: bool = False,
    ) -> Prediction:
        """See `Task.tiled_prediction`."""
        logits = joined(strips)
        return Prediction(
            mask_logits=logits,
            iou_scores=logits.iou_scores(),
            original_size=logits.size,
            preprocessing=logits.preprocessing,
            threshold=thresholds[queries[0].prompt.kind],
        )


def _queries(annotation: Annotation, make: Callable[..., list[Prompt]]) -> list[Query]:
    """A query for each prompt that is made from the foreground; none if the ground truth says nothing anywhere."""
    counted = annotation.counted_array()
    if counted is not None and not counted.any():
        return []
    prompts = make(annotation.target(FOREGROUND).numpy(), counted=counted)
    return [Query(prompt=prompt, label=FOREGROUND) for prompt in prompts]
