"""Binary segmentation: one foreground mask an image, asked for by a prompt or without one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self, Unpack

import numpy as np

from ..annotations.reading.classes import Classes
from ..batch import FOREGROUND, Annotation, Prompt, Query
from ..config.choices import AskedKind
from ..config.options import PromptOptions
from .base import Answers, Task, says_nothing
from .metrics import AddedScores, OverlapMetrics
from .prediction import Prediction
from .prompts import PromptMaker, maker_of


@dataclass(frozen=True, kw_only=True)
class BinaryTask(Task[Prediction]):
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

    def prediction(self, queries: Sequence[Query], **answers: Unpack[Answers]) -> Prediction:
        """See `Task.prediction`."""
        return Prediction(**answers)


def _queries(annotation: Annotation, make: Callable[..., list[Prompt]]) -> list[Query]:
    """A query for each prompt that is made from the foreground; none if the ground truth says nothing anywhere."""
    if says_nothing(annotation):
        return []
    prompts = make(annotation.target(FOREGROUND).numpy(), counted=annotation.counted_array())
    return [Query(prompt=prompt, label=FOREGROUND) for prompt in prompts]
