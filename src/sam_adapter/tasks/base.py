"""The contract of a task: how an annotation becomes queries, how answers are scored, and what a prediction is.

A task is one file with a subclass of `Task`, and a line in `sam_adapter.config.registry.TASKS`. Training, evaluation,
prediction and reports ask the task, and know none by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from ..annotations.reading.classes import Classes
from ..batch import Annotation, Batch, Output, Prompt, Query
from ..config.choices import AskedKind
from ..config.options import PromptOptions
from ..preprocessing import Preprocessing
from ..tiling.sweep import Strip
from .metrics import AddedScores, OverlapMetrics
from .object_prediction import ObjectPrediction
from .prediction import ClassPrediction, Prediction


class Task(ABC):
    """What is asked of pictures."""

    name: ClassVar[str]
    asked_for: ClassVar[str | None] = None
    """What tables call that which an answer is about; None if there is nothing to tell apart."""

    def asked_name(self, label: int) -> str:
        """What tables call the label of a query."""
        return str(label)

    def telling_queries(self, asked: Sequence[Query], scores: Callable[[Query], Mapping[str, float]]) -> list[Query]:
        """Those queries about an image whose answers are worth a picture in a report.

        Args:
            asked: All about one image that have scores.
            scores: Of the answer to a query.
        """
        if self.asked_for is None:
            return list(asked)
        return [query for query in asked if (row := scores(query))["tp"] + row["fn"] + row["fp"]]

    @classmethod
    @abstractmethod
    def from_options(cls, options: PromptOptions, classes: Classes | None = None) -> Self:
        """The task as a command's options mean it.

        Args:
            options: Of a command.
            classes: Of the set, or of the adapter; for tasks with classes.
        """

    @abstractmethod
    def training_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """What is asked about an image in one step of training, drawn at random; nothing if all of it is void."""

    @abstractmethod
    def evaluation_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """All that is asked about an image for scores; nothing if all of it is void."""

    @abstractmethod
    def prediction_queries(self, prompts: list[Prompt], labels: list[int] | None = None) -> list[Query]:
        """What is asked about a picture without ground truth.

        Args:
            prompts: Given by the user, in pixels of the picture; there may be none.
            labels: What each of them asks for, of a task with classes.
        """

    @abstractmethod
    def metrics(
        self,
        thresholds: Mapping[AskedKind, float],
        *,
        search: bool = False,
        curves: bool = False,
        added: AddedScores | None = None,
    ) -> OverlapMetrics:
        """What collects the scores of answers; for the arguments see `OverlapMetrics`."""

    def plain_metrics(self, added: AddedScores) -> OverlapMetrics:
        """What collects the scores of answers that know of no classes and are one mask each."""
        return OverlapMetrics(added=added)

    @abstractmethod
    def mask_logits(self, output: Output) -> Tensor:
        """The logits of each query's answer, ``(Q, h, w)``."""

    @abstractmethod
    def predictions(
        self, batch: Batch, output: Output, preprocessing: Preprocessing, thresholds: Mapping[AskedKind, float]
    ) -> Sequence[Prediction | ClassPrediction | ObjectPrediction]:
        """The prediction for each image of a batch, in their order.

        Args:
            batch: What was asked.
            output: The answers.
            preprocessing: How logits come to original size.
            thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        """

    @abstractmethod
    def tiled_prediction(
        self,
        strips: Iterable[Strip],
        queries: Sequence[Query],
        thresholds: Mapping[AskedKind, float],
        *,
        keep: bool = False,
    ) -> Prediction | ClassPrediction:
        """The prediction for one picture that is seen tile by tile.

        Args:
            strips: The answers, from the picture's top to its bottom.
            queries: What was asked.
            thresholds: See `predictions`.
            keep: Whether probabilities will be asked for, where that takes more memory than the prediction.
        """
