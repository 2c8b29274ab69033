"""Instance segmentation: a mask for each object, asked for by its own prompt, or all objects without any.

Without prompts two learned prompts ask for maps of the whole picture: the foreground of all objects, and their cores,
which keep those apart that touch. The objects are then split by a watershed, as the best tools for cells do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, Unpack

import numpy as np

from ..annotations.reading.classes import Classes
from ..batch import Annotation, Batch, Prompt, Query, Size, Window
from ..config.choices import AskedKind, asked_kinds
from ..config.labels import ALL_OBJECTS, CORES, FOREGROUND, VOID, objects_of_class
from ..config.object_options import ObjectOptions
from ..config.options import PromptOptions
from .base import Answers, Task, says_nothing
from .label_maps import boxes_of
from .metrics import AddedScores
from .metrics.answers import ObjectAnswers
from .object_finder import ObjectFinder, finder_asked
from .object_prediction import ObjectPrediction
from .prompts import PromptMaker, maker_of
from .windows import RunningModel

MAPS = (ALL_OBJECTS, CORES)
"""What is asked about a whole picture, in the order of the task's questions."""
MARGIN = 8
"""Pixels around an object in which points outside of it are drawn."""
REACH = 0.5
"""Part of an object's longer side by which the region of its loss reaches beyond its box."""


Box = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True, kw_only=True)
class InstanceTask(Task[ObjectPrediction]):
    """A query an object, and queries for maps of the whole picture.

    Training asks for some objects of a picture, drawn evenly by size, with prompts drawn at random; evaluation asks for
    all of them with each kind of prompt. The kind 'none' stands for the learned prompts.

    Attributes:
        prompts: How prompts are made from the mask of an object.
        classes: Of the objects; None if they have none.
        objects_per_image: That are asked for in a step of training.
    """

    prompts: PromptMaker
    classes: Classes | None = None
    objects_per_image: int = 8
    name = "instance"
    asked_for = "object"

    def asked_name(self, label: int) -> str:
        """See `Task.asked_name`."""
        return "all" if label == ALL_OBJECTS else str(label)

    def telling_queries(self, asked: Sequence[Query], scores: Callable[[Query], Mapping[str, float]]) -> list[Query]:
        """See `Task.telling_queries`: all objects together, and of each kind of prompt the worst object."""
        together = [query for query in asked if query.label == ALL_OBJECTS]
        kinds = {query.prompt.kind for query in asked if query.label != ALL_OBJECTS}
        for kind in sorted(kinds):
            own = [query for query in asked if query.prompt.kind == kind and query.label != ALL_OBJECTS]
            together.append(min(own, key=lambda query: scores(query)["iou"]))
        return together

    @classmethod
    def from_options(cls, options: PromptOptions, classes: Classes | None = None) -> Self:
        """See `Task.from_options`."""
        return cls(prompts=maker_of(options), classes=classes, objects_per_image=options.objects_per_image)

    def training_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.training_queries`."""
        if says_nothing(annotation):
            return []
        kinds: list[AskedKind] = [kind for kind in asked_kinds(self.prompts.kind) if kind != "none"]
        queries: list[Query] = []
        boxes = boxes_of(annotation.labels.numpy())
        for number in _drawn(annotation, list(boxes), self.objects_per_image, rng) if kinds else ():
            kind = kinds[int(rng.integers(len(kinds)))]
            queries.append(self._about(annotation, number, boxes[number], kind, rng))
        if "none" in asked_kinds(self.prompts.kind):
            maps = self._maps()
            share = max(len(queries), 1) / len(maps)  # all maps together count as much as all objects
            queries += [replace(query, share=share) for query in maps]
        return queries

    def evaluation_queries(self, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        """See `Task.evaluation_queries`."""
        if says_nothing(annotation):
            return []
        kinds = asked_kinds(self.prompts.kind)
        queries: list[Query] = []
        for number, box in boxes_of(annotation.labels.numpy()).items():
            about: list[AskedKind] = [kind for kind in kinds if kind != "none"]
            queries += [self._about(annotation, number, box, kind, rng, exact=True) for kind in about]
        return [*queries, *(self._maps() if "none" in kinds or not queries else ())]

    def _about(
        self,
        annotation: Annotation,
        number: int,
        box: Box,
        kind: AskedKind,
        rng: np.random.Generator,
        *,
        exact: bool = False,
    ) -> Query:
        """A query for one object, from the part of the picture around it."""
        height, width = annotation.labels.shape
        rows = slice(max(box[0].start - MARGIN, 0), min(box[0].stop + MARGIN, height))
        columns = slice(max(box[1].start - MARGIN, 0), min(box[1].stop + MARGIN, width))
        part = annotation.labels[rows, columns].numpy()
        prompt = self.prompts.of_part(
            kind,
            part == number,
            rng,
            place=(columns.start, rows.start),
            size=(height, width),
            counted=part != VOID,
            exact=exact,
        )
        return Query(prompt=prompt, label=number, region=_around(box, (height, width)))

    def prediction_queries(self, prompts: list[Prompt], labels: list[int] | None = None) -> list[Query]:
        """See `Task.prediction_queries`; without prompts the maps are asked for, and split into objects."""
        if prompts:
            given = labels or [FOREGROUND] * len(prompts)
            return [Query(prompt=prompt, label=label) for prompt, label in zip(prompts, given, strict=True)]
        return self._maps()

    def _maps(self) -> list[Query]:
        """The queries for the maps, and for those of the classes where there are several."""
        names = () if self.classes is None else self.classes.names
        labels = [*MAPS, *(objects_of_class(at) for at in range(1, len(names) + 1) if len(names) > 1)]
        return [Query(label=label, learned=at) for at, label in enumerate(labels)]

    def metrics(
        self,
        thresholds: Mapping[AskedKind, float],
        *,
        search: bool = False,
        curves: bool = False,
        added: AddedScores | None = None,
    ) -> ObjectAnswers:
        """See `Task.metrics`."""
        names = () if self.classes is None else self.classes.names
        prompt_free = "none" in asked_kinds(self.prompts.kind)
        return ObjectAnswers(
            thresholds, prompt_free=prompt_free, names=names, search=search, curves=curves, added=added
        )

    def plain_metrics(self, added: AddedScores) -> ObjectAnswers:
        """See `Task.plain_metrics`."""
        return ObjectAnswers(added=added)

    def finder(
        self, options: ObjectOptions, running: RunningModel, thresholds: Mapping[AskedKind, float]
    ) -> ObjectFinder | None:
        """See `Task.finder`."""
        return finder_asked(options, running, thresholds)

    def with_found(self, prediction: ObjectPrediction, batch: Batch, at: int, finder: ObjectFinder) -> ObjectPrediction:
        """See `Task.with_found`."""
        if prediction.asked_for:
            return prediction
        return replace(prediction, known_objects=finder(batch, at, prediction.split))

    def prediction(self, queries: Sequence[Query], **answers: Unpack[Answers]) -> ObjectPrediction:
        """See `Task.prediction`; objects are split in the whole picture when they are asked for."""
        labels = tuple(query.label for query in queries)
        return ObjectPrediction(labels=labels, classes=self.classes, **answers)


def _around(box: Box, size: Size) -> Window:
    """The part of a picture that reaches beyond an object's box by `REACH` of its longer side, or by `MARGIN`."""
    margin = max(MARGIN, round(REACH * max(side.stop - side.start for side in box)))
    top, left = (max(side.start - margin, 0) for side in box)
    bottom, right = (min(side.stop + margin, whole) for side, whole in zip(box, size, strict=True))
    return Window(top, left, bottom - top, right - left)


def _drawn(annotation: Annotation, numbers: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Some objects of all sizes: in turns small, middle and large ones, so that the few are not drowned by the many.

    The range of the logarithm of their areas is cut into three; a size that has no more objects is passed over.
    """
    if len(numbers) <= count:
        return numbers
    areas = np.log(np.bincount(annotation.labels.ravel().numpy(), minlength=max(numbers) + 1)[numbers])
    sizes = np.digitize(areas, np.linspace(areas.min(), areas.max(), 4)[1:3])
    ranks = np.empty(len(numbers))
    for size in range(3):
        own = np.flatnonzero(sizes == size)
        ranks[own] = rng.permutation(len(own)) + rng.random(len(own))  # its turn, and a random place within it
    return [numbers[at] for at in np.argsort(ranks)[:count]]
