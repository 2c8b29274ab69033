"""Scores of an instance task: of answers about single objects, and of objects that are found without prompts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...batch import Annotation, Batch, Query
from ...config.choices import ASKED_KINDS, AskedKind
from ...config.labels import ALL_OBJECTS, objects_of_class
from ...config.registry import TASKS
from ...preprocessing import MaskLogits, Preprocessing
from ..object_prediction import ObjectPrediction, class_of_objects
from ..splitting import TRIED_RISES, FoundObjects, split_objects
from .means import Answer, is_empty
from .objects import ObjectMetrics

SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, float("inf")),
}
"""Areas in pixels of the picture, from and below, as COCO has them."""


ENDS = ("", "_low", "_high")
"""Of a score's name, and of those of its interval."""


class ObjectAnswers(ObjectMetrics):
    """Scores of each object asked for by its own prompt, and of the map of all objects and what it is split into.

    The rows of `OverlapMetrics` are the answers about objects, with box and points, and for the kind 'none' the
    foreground of all objects; the other maps have no rows of their own.

    Args:
        thresholds: See `OverlapMetrics`.
        prompt_free: Whether objects are to be found without prompts; pictures without objects are asked for the maps
            all the same.
        **more: See `ObjectMetrics`.
    """

    def __init__(
        self, thresholds: Mapping[AskedKind, float] | None = None, *, prompt_free: bool = True, **more: Any
    ) -> None:
        super().__init__(thresholds, **more)
        self.prompt_free = prompt_free

    @property
    def needs_whole(self) -> bool:
        """Objects are split in whole pictures."""
        return True

    def has_row(self, query: Query) -> bool:
        """Whether a query's answer has a row of its own."""
        return query.label >= ALL_OBJECTS

    def collect_whole(self, batch: Batch, mask_logits: MaskLogits, preprocessing: Preprocessing) -> None:
        """Split the maps of a batch's images into objects and compare them with the true ones."""
        for at, (index, annotation) in enumerate(zip(batch.indices, batch.annotations, strict=True)):
            assert annotation is not None
            about = batch.queries_about(at)
            labels = tuple(batch.queries[one].label for one in about)
            if ALL_OBJECTS not in labels or not self.prompt_free:
                continue
            maps = ObjectPrediction(
                mask_logits=mask_logits[about],
                iou_scores=torch.ones(len(about)),  # split objects have scores of their own
                labels=labels,
                original_size=batch.original_sizes[at],
                preprocessing=preprocessing,
                threshold=self.thresholds["none"],
            )
            truth = annotation.labels.cpu().numpy()
            of_classes = [maps.map_of(objects_of_class(one + 1)) for one in range(len(self.names))]
            for setting, found in enumerate(self._found(maps, batch, at)):
                kinds = class_of_objects(found, of_classes)
                self.add_objects(
                    index,
                    truth,
                    found,
                    true_classes=annotation.object_classes if self.names else None,
                    found_classes=kinds if self.names else None,
                    setting=setting,
                )

    def _found(self, maps: ObjectPrediction, batch: Batch, at: int) -> Iterator[FoundObjects]:
        """The objects of one image: as `finder` gives them, or with each of `TRIED_RISES` where `search` is on."""
        if self.finder is not None:
            yield self.finder(batch, at, maps.split)
            return
        for rise in TRIED_RISES if self.search else (None,):
            yield maps.split(rise)

    def collect_mask(self, index: int, annotation: Annotation, mask: np.ndarray) -> None:
        """Split a mask ``(H, W)`` bool by its shape alone, and compare the objects with the true ones."""
        found = split_objects(mask.astype(np.float32), None)
        self.add_objects(index, annotation.labels.cpu().numpy(), found)

    def compute(self) -> dict[str, float]:
        """Besides what `ObjectMetrics.compute` gives, for box and points the mean IoU over all objects of the set.

        Returns:
            ``object_iou_box``, ``object_iou_box_small`` and so on by COCO's sizes, absent where there are no such
            objects. ``empty_correct`` is the share of images without objects in which no object is found without
            prompts: a speck that is too small for an object is none. Where `search` is on,
            ``best_core_rise`` is the best of `TRIED_RISES`, with which the objects of all these scores are split; it is
            absent if that is None.
        """
        result = super().compute()
        if self.search and (rise := TRIED_RISES[self.best_setting()]) is not None:
            result["best_core_rise"] = rise
        if "empty_correct" in result:
            empty = [row["found"] for row in self.per_image_objects().values() if not row["true"]]
            if empty:
                result["empty_correct"] = sum(not found for found in empty) / len(empty)
        for name in TASKS["instance"].scores:  # found without prompts
            result |= {f"{name}_none{end}": result[f"{name}{end}"] for end in ENDS if f"{name}{end}" in result}
        return {**result, **self._means_over_objects()}

    def _means_over_objects(self) -> dict[str, float]:
        rows = self.per_prompt()
        result: dict[str, float] = {}
        for kind in ASKED_KINDS:
            own = [
                one for answer, one in rows.items() if answer.kind == kind and answer.label > 0 and not is_empty(one)
            ]
            if not own:
                continue
            result[f"object_iou_{kind}"] = _mean([one["iou"] for one in own])
            pictures = [[one["iou"] for one in some] for some in _by_picture(rows, kind)]
            result[f"object_iou_{kind}_images"] = _mean([_mean(some) for some in pictures])
            for name, (least, most) in SIZES.items():
                some = [one["iou"] for one in own if least <= one["tp"] + one["fn"] < most]
                if some:
                    result[f"object_iou_{kind}_{name}"] = _mean(some)
        return result


def _by_picture(rows: Mapping[Answer, Mapping[str, float]], kind: AskedKind) -> Iterable[list[Mapping[str, float]]]:
    """The scores of the objects of each picture that were asked for with a kind of prompt."""
    found: dict[int, list[Mapping[str, float]]] = {}
    for answer, row in rows.items():
        if answer.kind == kind and answer.label > 0 and not is_empty(row):
            found.setdefault(answer.index, []).append(row)
    return found.values()


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())
