"""Scores of separate objects over a set: average precision, F1, panoptic quality, aggregated Jaccard index, counts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...config.choices import AskedKind
from ...config.labels import FOREGROUND
from ...system.float64 import device_with_float64
from ..splitting import FoundObjects
from .average_precision import IOUS, average_precision
from .matching import ObjectCounts, Overlaps, count_objects, find_overlaps, object_scores
from .means import bootstrap_weights, with_interval
from .overlap import OverlapMetrics, joined

OVER_IMAGES = ("f1", "pq", "aji")
"""Scores that are also given as means over images, where a few pictures hold most objects."""


class ObjectMetrics(OverlapMetrics):
    """Scores of single answers, as `OverlapMetrics`, and of the objects that are found in whole images.

    Of each image the areas of its objects and their intersections are kept, no mask. The rows of an image follow one
    another in each state, and ``object_images`` says how many they are. The objects of a set may be found with
    several settings, which are numbered; scores are those of the setting with the best F1, and of the lowest number of
    those that are equally good.

    Args:
        thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        names: Of the classes; the label of the first is 1. Without classes there are none.
        **more: See `OverlapMetrics`.
    """

    object_images: list[Tensor]
    true_objects: list[Tensor]
    found_objects: list[Tensor]
    found_scores: list[Tensor]
    object_pairs: list[Tensor]

    def __init__(
        self, thresholds: Mapping[AskedKind, float] | None = None, *, names: Sequence[str] = (), **more: Any
    ) -> None:
        super().__init__(thresholds, **more)
        self.names = tuple(names)
        self.add_state("object_images", default=[], dist_reduce_fx="cat")
        self.add_state("true_objects", default=[], dist_reduce_fx="cat")
        self.add_state("found_objects", default=[], dist_reduce_fx="cat")
        self.add_state("found_scores", default=[], dist_reduce_fx="cat")
        self.add_state("object_pairs", default=[], dist_reduce_fx="cat")

    def add_objects(
        self,
        index: int,
        truth: np.ndarray,
        found: FoundObjects,
        *,
        true_classes: Mapping[int, int] | None = None,
        found_classes: Sequence[int] | None = None,
        crowd: Collection[int] = (),
        setting: int = 0,
    ) -> None:
        """Add the objects of one image; where they have classes, objects of different ones are never matched.

        Args:
            index: The image.
            truth: ``(H, W)`` int32 numbers of the true objects, 0 is background and `VOID` counts nowhere.
            found: At the same size.
            true_classes: Label of each true object by number, from 1.
            found_classes: Labels of the found objects 1..N.
            crowd: Numbers of the true objects that are regions of many: what is found in them is neither right nor
                wrong.
            setting: Number of the setting that they were found with.

        Raises:
            ValueError: If the maps differ in shape.
        """
        one = find_overlaps(
            truth,
            found.labels,
            scores=found.scores,
            true_classes=true_classes,
            found_classes=found_classes,
            crowd=crowd,
        )
        counts = np.array(
            [[index, setting, len(one.true_numbers), len(one.found_numbers), len(one.pairs)]], dtype=np.int64
        )
        true = np.stack([one.true_numbers, one.true_areas, one.true_classes, one.crowd.astype(np.int64)], axis=1)
        answered = np.stack([one.found_numbers, one.found_areas, one.found_void, one.found_classes], axis=1)
        self._append(counts, true, answered, one.scores, one.pairs)

    def collect_nothing(self) -> None:
        """See `OverlapMetrics.collect_nothing`."""
        super().collect_nothing()
        self._append(*(np.zeros((0, columns), np.int64) for columns in (5, 4, 4)), np.zeros(0), np.zeros((0, 3), int))

    def _append(self, *rows: np.ndarray) -> None:
        """Add rows to each state, and tell torchmetrics so, which counts calls of ``update`` alone."""
        self._computed = None
        self._update_count += 1
        states = (self.object_images, self.true_objects, self.found_objects, self.found_scores, self.object_pairs)
        for state, values in zip(states, rows, strict=True):
            state.append(torch.from_numpy(values).to(device_with_float64(self.device)))

    def by_image(self) -> dict[int, Overlaps]:
        """The objects of each image by index, found with the best setting."""
        settings = self._by_setting()
        return settings[self._best(settings)] if settings else {}

    def best_setting(self) -> int:
        """The number of the setting with the best F1 over the objects of all images; 0 where there are no images."""
        return self._best(self._by_setting())

    def _best(self, settings: Mapping[int, Mapping[int, Overlaps]]) -> int:
        """See `best_setting`."""
        if len(settings) < 2:
            return next(iter(settings), 0)
        f1 = {
            setting: np.nan_to_num(object_scores(self._counts(images).sum(axis=(0, 1)))["f1"])
            for setting, images in settings.items()
        }
        return max(sorted(f1), key=lambda setting: f1[setting])

    def _by_setting(self) -> dict[int, dict[int, Overlaps]]:
        """For each setting the objects of each image by index; an image that two processes saw counts once."""
        images, true, found, scores, pairs = (
            joined(state).cpu().numpy()
            for state in (
                self.object_images,
                self.true_objects,
                self.found_objects,
                self.found_scores,
                self.object_pairs,
            )
        )
        if not len(images):
            return {}
        starts = np.cumsum(images[:, 2:], axis=0) - images[:, 2:]
        result: dict[int, dict[int, Overlaps]] = {}
        for (index, setting, *counts), begins in zip(images.tolist(), starts.tolist(), strict=True):
            of_true, of_found, of_pairs = (
                slice(begin, begin + count) for begin, count in zip(begins, counts, strict=True)
            )
            true_numbers, true_areas, true_classes, crowd = true[of_true].T
            found_numbers, found_areas, found_void, found_classes = found[of_found].T
            result.setdefault(setting, {})[index] = Overlaps(
                true_numbers=true_numbers,
                true_areas=true_areas,
                true_classes=true_classes,
                crowd=crowd.astype(bool),
                found_numbers=found_numbers,
                found_areas=found_areas,
                found_void=found_void,
                found_classes=found_classes,
                scores=scores[of_found],
                pairs=pairs[of_pairs],
            )
        return {setting: dict(sorted(images.items())) for setting, images in result.items()}

    @property
    def labels(self) -> range:
        """Of the classes; one without classes."""
        return range(FOREGROUND, FOREGROUND + max(len(self.names), 1))

    def _counts(self, images: Mapping[int, Overlaps]) -> np.ndarray:
        """``(images, K, len(ObjectCounts._fields))`` float64."""
        rows = [[count_objects(image.of_class(label)) for label in self.labels] for image in images.values()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.labels), len(ObjectCounts._fields))

    def per_image_objects(self) -> dict[int, dict[str, float]]:
        """For each image by index the numbers of its objects, and scores of it.

        Returns:
            ``true``, ``found``, ``matched`` (IoU from 0.5), ``missed``, ``extra`` (found and not matched), ``merged``
            and ``split`` as `ObjectCounts` has them, ``count_error`` (found less true), ``f1``, ``pq``, ``aji``;
            scores are NaN where there is neither a true nor a found object.
        """
        images = self.by_image()
        sums = self._counts(images).sum(axis=1)
        scores = object_scores(sums)
        result: dict[int, dict[str, float]] = {}
        for at, index in enumerate(images):
            counts = ObjectCounts(*sums[at].tolist())
            result[index] = {name: getattr(counts, name) for name in ("true", "found", "matched", "merged", "split")}
            result[index] |= {
                "missed": counts.true - counts.matched,
                "extra": counts.found - counts.matched,
                "count_error": counts.found - counts.true,
            }
            result[index] |= {name: float(scores[name][at]) for name in OVER_IMAGES}
        return result

    def telling_wholes(self, count: int = 3) -> dict[int, str]:
        """The images with most missed objects, and of the others those with most that were merged or split.

        Args:
            count: How many of each.
        """
        images = self.per_image_objects()
        found: dict[int, str] = {}
        for words, names in (("most missed", ["missed"]), ("most merged or split", ["merged", "split"])):
            wrong = {at: sum(row[name] for name in names) for at, row in images.items() if at not in found}
            ranked = sorted((at for at in wrong if wrong[at]), key=lambda at: -wrong[at])
            found |= dict.fromkeys(ranked[:count], words)
        return found

    def compute(self) -> dict[str, float]:
        """Means over answers and images, see `OverlapMetrics.compute`, and scores of objects.

        Returns:
            Besides, for the objects of all images together: ``ap`` (COCO's, mean over IoUs from 0.5 to 0.95 and over
            the classes that have objects), ``ap50``, ``ap75``; ``f1``, ``precision_objects``, ``recall_objects``,
            ``matched_iou`` and ``aji`` at an IoU of 0.5; ``pq``, the mean over classes; and ``count_error`` and
            ``count_bias``, means over images of how many objects more or fewer were found than there are, without and
            with the sign. ``f1_images``, ``pq_images``, ``aji_images`` are means over the images that have objects. All
            but average precision with ``_low`` and ``_high``. With classes ``ap[NAME]``, ``f1[NAME]``, ``pq[NAME]`` of
            each. What is 0 / 0 is absent: F1, PQ and AJI where nothing is true and nothing found, AP and recall where
            nothing is true. Objects that are found where nothing is true count as false in the scores of the set (F1
            and PQ of a class with nothing else are 0), and in no mean over images.
        """
        images = self.by_image()
        result = super().compute() if len(joined(self.keys)) or not images else {}
        if not images:
            return result
        precision = average_precision(list(images.values()), self.labels)  # (K, IoUs)
        counts = self._counts(images)
        weights = bootstrap_weights(len(images))
        sums = np.tensordot(weights, counts, axes=1)  # (1 + samples, K, sums)
        of_classes = object_scores(sums)
        for name, values in _averaged(weights, counts, sums).items():
            result |= with_interval(name, values)
        for name, values in (("ap", precision.mean(1)), *((f"ap{at}", _at(precision, at)) for at in (50, 75))):
            result[name] = float(_mean(values))
        for at, name in enumerate(self.names):
            result[f"ap[{name}]"] = float(precision[at].mean())
            result |= {f"{score}[{name}]": float(of_classes[score][0, at]) for score in ("f1", "pq")}
        return {name: value for name, value in result.items() if np.isfinite(value)}


def _averaged(weights: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores under each of some weights of the images, ``(1 + samples,)`` each.

    Args:
        weights: ``(1 + samples, images)``.
        counts: ``(images, K, sums)`` of each image.
        sums: ``(1 + samples, K, sums)`` under the weights.
    """
    result = object_scores(sums.sum(axis=1))
    result["pq"] = _mean(object_scores(sums)["pq"])
    of_images = ObjectCounts(*counts.sum(axis=1).T)
    filled = np.asarray(of_images.true) > 0
    scores = object_scores(counts[filled].sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in OVER_IMAGES:
            result[f"{name}_images"] = weights[:, filled] @ scores[name] / weights[:, filled].sum(axis=1)
    error = np.asarray(of_images.found) - np.asarray(of_images.true)
    for name, values in (("count_error", np.abs(error)), ("count_bias", error)):
        result[name] = weights @ values / weights.sum(axis=1)
    return result


def _at(precision: np.ndarray, percent: int) -> np.ndarray:
    """Of each class at one IoU, ``(K,)``."""
    return precision[:, int(np.argmin(np.abs(np.array(IOUS) - percent / 100)))]


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last dimension of what is not NaN; NaN where all is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)
