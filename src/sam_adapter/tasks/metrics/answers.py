"""Scores of an instance task: of answers about single objects, and of objects that are found without prompts."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...batch import Annotation, Batch, Query
from ...config.choices import ASKED_KINDS
from ...config.labels import ALL_OBJECTS, CORES, objects_of_class
from ...config.registry import TASKS
from ...preprocessing import Preprocessing
from ..object_prediction import class_of_objects
from ..splitting import split_objects
from .means import is_empty
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
    """

    def has_row(self, query: Query) -> bool:
        """Whether a query's answer has a row of its own."""
        return query.label >= ALL_OBJECTS

    def collect_whole(self, batch: Batch, mask_logits: Tensor, preprocessing: Preprocessing) -> None:
        """Split the maps of a batch's images into objects and compare them with the true ones."""
        for at, (index, annotation) in enumerate(zip(batch.indices, batch.annotations, strict=True)):
            assert annotation is not None
            logits = {batch.queries[one].label: mask_logits[one : one + 1] for one in batch.queries_about(at)}
            if ALL_OBJECTS not in logits:
                continue
            size = batch.original_sizes[at]

            def full(label: int, logits: dict[int, Tensor] = logits, size: tuple[int, int] = size) -> np.ndarray | None:
                if label not in logits:
                    return None
                return preprocessing.to_original_size(logits[label], size)[0].float().sigmoid().cpu().numpy()

            foreground = full(ALL_OBJECTS)
            assert foreground is not None
            found = split_objects(foreground, full(CORES), threshold=self.thresholds["none"])
            kinds = class_of_objects(found, [full(objects_of_class(one + 1)) for one in range(len(self.names))])
            self.add_objects(
                index,
                annotation.labels.cpu().numpy(),
                found,
                true_classes=annotation.object_classes if self.names else None,
                found_classes=kinds if self.names else None,
            )

    def collect_mask(self, index: int, annotation: Annotation, mask: np.ndarray) -> None:
        """Split a mask ``(H, W)`` bool by its shape alone, and compare the objects with the true ones."""
        found = split_objects(mask.astype(np.float32), None)
        self.add_objects(index, annotation.labels.cpu().numpy(), found)

    def compute(self) -> dict[str, float]:
        """Besides what `ObjectMetrics.compute` gives, for box and points the mean IoU over all objects of the set.

        Returns:
            ``object_iou_box``, ``object_iou_box_small`` and so on by COCO's sizes, absent where there are no such
            objects.
        """
        result = super().compute()
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
            for name, (least, most) in SIZES.items():
                some = [one["iou"] for one in own if least <= one["tp"] + one["fn"] < most]
                if some:
                    result[f"object_iou_{kind}_{name}"] = _mean(some)
        return result


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())
