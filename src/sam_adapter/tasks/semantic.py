"""Semantic segmentation: a class for every pixel, asked for class by class, with a prompt or by its learned prompt."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, Unpack

import numpy as np
import torch
from torch import Tensor

from ..annotations.reading.classes import Classes
from ..batch import Annotation, Prompt, Query
from ..config.choices import AskedKind, asked_kinds
from ..config.options import PromptOptions
from ..tiling.sweep import Strip, joined
from .base import Answers, Task, says_nothing, threshold_of
from .class_map import class_map
from .metrics import AddedScores
from .metrics.classes import ClassMetrics
from .pixels import bands
from .prediction import ClassPrediction
from .prompts import PromptMaker, maker_of

MOST_ASKED = 8
"""Classes that one picture is asked for in a step of training: of those that it has, and of those that it has not."""


@dataclass(frozen=True, kw_only=True)
class SemanticTask(Task[ClassPrediction]):
    """A query a class.

    Training asks for classes that a picture has with prompts drawn at random, and by their learned prompts; for some of
    those that it has not by their learned prompts alone, whose answer is an empty mask. Evaluation asks for the classes
    that are there with prompts, and for every class by its learned prompt.

    Attributes:
        prompts: How prompts are made from the mask of a class.
        classes: Of the set.
        prompts_per_image: Prompts for each class in a step of training.
        with_class: Whether a box or points come with the learned prompt of their class.
    """

    prompts: PromptMaker
    classes: Classes
    prompts_per_image: int = 1
    with_class: str = "auto"
    name = "semantic"
    asked_for = "class"

    def asked_name(self, label: int) -> str:
        """See `Task.asked_name`."""
        return self.classes.names[label - 1]

    @classmethod
    def from_options(cls, options: PromptOptions, classes: Classes | None = None) -> Self:
        """See `Task.from_options`."""
        assert classes is not None
        return cls(
            prompts=maker_of(options),
            classes=classes,
            prompts_per_image=options.training_prompts,
            with_class=options.with_class,
        )

    def training_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.training_queries`."""
        present, absent = self._present(annotation)
        counted = annotation.counted_array()
        queries: list[Query] = []
        for label in rng.permutation(present)[:MOST_ASKED].tolist():
            mask = annotation.target(label).numpy()
            for prompt in self.prompts.drawn(mask, rng, counted, count=self.prompts_per_image):
                half = bool(rng.integers(2))
                told = half if self.with_class == "auto" else self.with_class == "always"
                queries.append(_query(prompt, label, told=told))
        if "none" in asked_kinds(self.prompts.kind) and not says_nothing(annotation):
            most = min(max(len(present), 1), MOST_ASKED)
            queries += [_query(Prompt(), label, told=True) for label in rng.permutation(absent)[:most].tolist()]
        return queries

    def evaluation_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.evaluation_queries`."""
        if says_nothing(annotation):
            return []
        counted = annotation.counted_array()
        present, absent = self._present(annotation)
        queries: list[Query] = []
        for label in present:
            prompts = self.prompts.exact(annotation.target(label).numpy(), rng, counted)
            queries += [_query(prompt, label, told=self.with_class == "always") for prompt in prompts]
        if "none" in asked_kinds(self.prompts.kind):
            queries += [_query(Prompt(), label, told=True) for label in absent]
        return sorted(queries, key=lambda query: query.label)

    def prediction_queries(self, prompts: list[Prompt], labels: list[int] | None = None) -> list[Query]:
        """See `Task.prediction_queries`; without prompts every class is asked for by its learned prompt."""
        if not prompts:
            return [_query(Prompt(), label, told=True) for label in range(1, len(self.classes.names) + 1)]
        assert labels is not None
        told = self.with_class == "always"
        return [_query(prompt, label, told=told) for prompt, label in zip(prompts, labels, strict=True)]

    def metrics(
        self,
        thresholds: Mapping[AskedKind, float],
        *,
        search: bool = False,
        curves: bool = False,
        added: AddedScores | None = None,
    ) -> ClassMetrics:
        """See `Task.metrics`."""
        names, background = self.classes.names, self.classes.has_background
        return ClassMetrics(
            thresholds, names=names, has_background=background, search=search, curves=curves, added=added
        )

    def prediction(self, queries: Sequence[Query], **answers: Unpack[Answers]) -> ClassPrediction:
        """See `Task.prediction`."""
        labels = tuple(query.label for query in queries)
        return ClassPrediction(labels=labels, classes=self.classes, **answers)

    def tiled_prediction(
        self,
        strips: Iterable[Strip],
        queries: Sequence[Query],
        thresholds: Mapping[AskedKind, float],
        *,
        keep: bool = False,
    ) -> ClassPrediction:
        """See `Task.tiled_prediction`; without ``keep`` no more than the class map and one strip of answers is held."""
        labels = tuple(query.label for query in queries)
        threshold = threshold_of(queries, thresholds)
        found: list[Tensor] = []

        def mapped() -> Iterator[Strip]:
            for strip in strips:
                logits, own = strip.mask_logits, threshold if self.classes.has_background else None
                found.extend(
                    class_map(logits, labels, logits.size, logits.preprocessing, threshold=own, rows=rows).cpu()
                    for rows in bands(logits.size, answers=len(labels), within=strip.rows)
                )
                yield strip

        logits = joined(mapped(), keep=keep)
        return ClassPrediction(
            mask_logits=logits if keep else None,
            iou_scores=logits.iou_scores(),
            labels=labels,
            classes=self.classes,
            original_size=logits.size,
            preprocessing=logits.preprocessing,
            threshold=threshold,
            known_map=torch.cat(found),
        )

    def _present(self, annotation: Annotation) -> tuple[list[int], list[int]]:
        """Labels of the classes that an annotation has, and of those that it has not."""
        held = set(annotation.labels.unique().tolist())
        every = range(1, len(self.classes.names) + 1)
        return [label for label in every if label in held], [label for label in every if label not in held]


def _query(prompt: Prompt, label: int, *, told: bool) -> Query:
    """A query for a class; without a prompt its learned prompt is all that asks."""
    return Query(prompt=prompt, label=label, learned=label - 1 if told or prompt.kind == "none" else None)
