"""The contract of a task: how an annotation becomes queries, how answers are scored, and what a prediction is.

A task is one file with a subclass of `Task`, and a line in `sam_adapter.config.registry.TASKS`. Training, evaluation,
prediction and reports ask the task, and know none by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Generic, Self, TypedDict, TypeVar, Unpack

import numpy as np
from torch import Tensor

from ..annotations.reading.classes import Classes
from ..batch import Annotation, Batch, Output, Prompt, Query, Size
from ..config.choices import AskedKind
from ..config.object_options import ObjectOptions
from ..config.options import PromptOptions
from ..errors import ConfigError
from ..preprocessing import MaskLogits, Preprocessing
from ..tiling.sweep import Strip, joined
from .metrics import AddedScores, OverlapMetrics
from .object_finder import ObjectFinder
from .object_prediction import ObjectPrediction
from .prediction import ClassPrediction, Prediction
from .windows import RunningModel

AnyPrediction = Prediction | ClassPrediction | ObjectPrediction
P = TypeVar("P", bound=AnyPrediction)
"""What a task predicts for an image."""


class Answers(TypedDict):
    """The answers to all queries about one image, on the CPU, as every prediction holds them.

    Attributes:
        mask_logits: ``(N, h, w)`` float32 low-resolution logits, or those of tiles.
        iou_scores: ``(N,)`` predicted quality of each.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
        threshold: Probability above which a pixel is foreground.
    """

    mask_logits: MaskLogits
    iou_scores: Tensor
    original_size: Size
    preprocessing: Preprocessing
    threshold: float


class Task(ABC, Generic[P]):
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

    def finder(
        self, options: ObjectOptions, running: RunningModel, thresholds: Mapping[AskedKind, float]
    ) -> ObjectFinder | None:
        """What finds objects as options and the model ask for it; None where maps are split at cores that do not touch.

        Args:
            options: Of a command.
            running: The model that is asked.
            thresholds: Probability above which a pixel is foreground, for each kind of prompt.

        Raises:
            ConfigError: If the task has no objects, and options ask for them.
        """
        for name in options.finding:
            raise ConfigError(
                f"{name}: the task '{self.name}' has no objects; leave it out, or give an adapter of '--task instance'."
            )
        return None

    def with_found(self, prediction: P, batch: Batch, at: int, finder: ObjectFinder) -> P:
        """A prediction with what a finder gives where objects are to be found without prompts; here as it is.

        Args:
            prediction: About one picture.
            batch: With the picture, or with what the encoder gave for it.
            at: Position of the picture.
            finder: From `finder`.
        """
        return prediction

    def mask_logits(self, output: Output) -> Tensor:
        """The logits of each query's answer, ``(Q, h, w)``."""
        return output.mask_logits[:, 0]

    @abstractmethod
    def prediction(self, queries: Sequence[Query], **answers: Unpack[Answers]) -> P:
        """The prediction for one image.

        Args:
            queries: What was asked about it.
            **answers: To them.
        """

    def predictions(
        self, batch: Batch, output: Output, preprocessing: Preprocessing, thresholds: Mapping[AskedKind, float]
    ) -> list[P]:
        """The prediction for each image of a batch, in their order.

        Args:
            batch: What was asked.
            output: The answers; one or three masks each.
            preprocessing: How logits come to original size.
            thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        """
        logits, scores = output.mask_logits.float().cpu(), output.iou_scores.float().cpu()
        found: list[P] = []
        for at, size in enumerate(batch.original_sizes):
            about = batch.queries_about(at)
            queries = [batch.queries[query] for query in about]
            found.append(
                self.prediction(
                    queries,
                    mask_logits=logits[about].flatten(0, 1),
                    iou_scores=scores[about].flatten(),
                    original_size=size,
                    preprocessing=preprocessing,
                    threshold=threshold_of(queries, thresholds),
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
    ) -> P:
        """The prediction for one picture that is seen tile by tile.

        Args:
            strips: The answers, from the picture's top to its bottom.
            queries: What was asked.
            thresholds: See `predictions`.
            keep: Whether probabilities will be asked for, where that takes more memory than the prediction.
        """
        logits = joined(strips)
        return self.prediction(
            queries,
            mask_logits=logits,
            iou_scores=logits.iou_scores(),
            original_size=logits.size,
            preprocessing=logits.preprocessing,
            threshold=threshold_of(queries, thresholds),
        )


def threshold_of(queries: Sequence[Query], thresholds: Mapping[AskedKind, float]) -> float:
    """The threshold of answers about one image: that of the kind of prompt of its first query."""
    return thresholds[queries[0].prompt.kind] if queries else 0.5


def says_nothing(annotation: Annotation) -> bool:
    """Whether the ground truth is void everywhere."""
    counted = annotation.counted_array()
    return counted is not None and not counted.any()
