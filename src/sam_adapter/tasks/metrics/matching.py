"""True and found objects of one image: which overlap, which belong together, and the sums that scores are made of.

F1 at an IoU as Caicedo et al., *Evaluation of deep learning strategies for nucleus segmentation*, Cytometry A 2019;
panoptic quality as Kirillov et al., *Panoptic segmentation*, CVPR 2019; aggregated Jaccard index as Kumar et al., *A
dataset and a technique for generalized nuclear segmentation*, IEEE TMI 2017.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from ...config.labels import FOREGROUND, VOID

MATCHED = 0.5
"""IoU from which a found object is a true one; no two objects have more with a third."""
_BAND_PIXELS = 1 << 22


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlaps:
    """The objects of one image, T true and F found ones, and the P pairs of them that have pixels in common.

    Areas and intersections are pixels that are not void; void is no object.

    Attributes:
        true_numbers: ``(T,)`` int64, rising.
        true_areas: ``(T,)`` int64.
        true_classes: ``(T,)`` int64 labels; `FOREGROUND` without classes.
        crowd: ``(T,)`` bool, whether it is a region of many objects that were not told apart.
        found_numbers: ``(F,)`` int64, rising.
        found_areas: ``(F,)`` int64.
        found_void: ``(F,)`` int64 pixels of each that lie in void.
        found_classes: ``(F,)`` int64 labels.
        scores: ``(F,)`` float64 that rank them.
        pairs: ``(P, 3)`` int64: true number, found number, intersection.
    """

    true_numbers: np.ndarray
    true_areas: np.ndarray
    true_classes: np.ndarray
    crowd: np.ndarray
    found_numbers: np.ndarray
    found_areas: np.ndarray
    found_void: np.ndarray
    found_classes: np.ndarray
    scores: np.ndarray
    pairs: np.ndarray

    @cached_property
    def true_at(self) -> np.ndarray:
        """Position of each pair's true object, ``(P,)``."""
        return np.searchsorted(self.true_numbers, self.pairs[:, 0])

    @cached_property
    def found_at(self) -> np.ndarray:
        """Position of each pair's found object, ``(P,)``."""
        return np.searchsorted(self.found_numbers, self.pairs[:, 1])

    @cached_property
    def ious(self) -> np.ndarray:
        """IoU of each pair, ``(P,)`` float64."""
        both = self.true_areas[self.true_at] + self.found_areas[self.found_at] - self.pairs[:, 2]
        return self.pairs[:, 2] / both

    def keep(self, *, true: np.ndarray, found: np.ndarray) -> Self:
        """Some of the objects, and the pairs of those.

        Args:
            true: ``(T,)`` bool.
            found: ``(F,)`` bool.
        """
        return replace(
            self,
            true_numbers=self.true_numbers[true],
            true_areas=self.true_areas[true],
            true_classes=self.true_classes[true],
            crowd=self.crowd[true],
            found_numbers=self.found_numbers[found],
            found_areas=self.found_areas[found],
            found_void=self.found_void[found],
            found_classes=self.found_classes[found],
            scores=self.scores[found],
            pairs=self.pairs[true[self.true_at] & found[self.found_at]],
        )

    def of_class(self, label: int) -> Self:
        """The objects of one class."""
        return self.keep(true=self.true_classes == label, found=self.found_classes == label)

    def without_crowd(self) -> Self:
        """True objects that are one each, without the found ones most of whose pixels lie in crowds or in void.

        What lies in crowds fits no true object; what lies in void stays if it fits one in its other pixels.
        """
        kept = self.found_void <= self.found_areas
        kept[self.found_at[self.ious >= MATCHED]] = True
        in_crowd = np.zeros(len(self.found_numbers), dtype=np.int64)
        pairs = self.crowd[self.true_at]
        np.add.at(in_crowd, self.found_at[pairs], self.pairs[pairs, 2])
        return self.keep(true=~self.crowd, found=kept & (2 * in_crowd <= self.found_areas))


def find_overlaps(
    truth: np.ndarray,
    found: np.ndarray,
    *,
    scores: Sequence[float] | np.ndarray | None = None,
    true_classes: Mapping[int, int] | None = None,
    found_classes: Sequence[int] | None = None,
    crowd: Collection[int] = (),
) -> Overlaps:
    """Count the pixels that true and found objects have in common, in one pass over the runs of equal pixels.

    Args:
        truth: ``(H, W)`` int32 numbers of the true objects, 0 is background and `VOID` void.
        found: ``(H, W)`` int32 numbers of the found objects, 0 is background.
        scores: Of the found objects 1, 2, ...; None gives each 1.
        true_classes: Label of each true object by number; None gives each `FOREGROUND`.
        found_classes: Labels of the found objects 1, 2, ...; None gives each `FOREGROUND`.
        crowd: Numbers of the true objects that are crowds.

    Raises:
        ValueError: If the maps differ in shape.
    """
    if truth.shape != found.shape:
        raise ValueError(f"'truth' and 'found' must have the same shape, got {truth.shape} and {found.shape}.")
    true, answered, pixels = _common_pixels(truth, found).T
    known = true != VOID
    true_numbers, true_areas = _sums(true[known], pixels[known])
    found_numbers, whole_areas = _sums(answered, pixels)
    found_areas = np.zeros_like(whole_areas)
    inside = known & (answered > 0)
    np.add.at(found_areas, np.searchsorted(found_numbers, answered[inside]), pixels[inside])
    pairs = inside & (true > 0)
    classes = dict.fromkeys(true_numbers.tolist(), FOREGROUND) if true_classes is None else true_classes
    labels = None if found_classes is None else np.asarray(found_classes, dtype=np.int64)
    return Overlaps(
        true_numbers=true_numbers,
        true_areas=true_areas,
        true_classes=np.array([classes[number] for number in true_numbers.tolist()], dtype=np.int64),
        crowd=np.isin(true_numbers, list(crowd)),
        found_numbers=found_numbers,
        found_areas=found_areas,
        found_void=whole_areas - found_areas,
        found_classes=np.full_like(found_numbers, FOREGROUND) if labels is None else labels[found_numbers - 1],
        scores=np.ones(len(found_numbers)) if scores is None else np.asarray(scores, np.float64)[found_numbers - 1],
        pairs=np.stack([true, answered, pixels], axis=1)[pairs],
    )


def match(overlaps: Overlaps, threshold: float = MATCHED) -> np.ndarray:
    """Give each object at most one of the others, the pairs with the largest IoU first.

    Args:
        overlaps: Of one image.
        threshold: Least IoU of a pair.

    Returns:
        Positions of the chosen pairs, ``(M,)`` int64; of pairs that are equally good the one with the lower numbers.
    """
    some = np.flatnonzero(overlaps.ious >= threshold)
    order = some[np.lexsort((overlaps.found_at[some], overlaps.true_at[some], -overlaps.ious[some]))]
    chosen: list[int] = []
    true_taken: set[int] = set()
    found_taken: set[int] = set()
    for at, true, found in zip(
        order.tolist(), overlaps.true_at[order].tolist(), overlaps.found_at[order].tolist(), strict=True
    ):
        if true not in true_taken and found not in found_taken:
            true_taken.add(true)
            found_taken.add(found)
            chosen.append(at)
    return np.array(chosen, dtype=np.int64)


class ObjectCounts(NamedTuple):
    """Sums over objects, which add up over images; see `object_scores`.

    Attributes:
        true: Number of true objects.
        found: Number of found objects.
        matched: Pairs that `match` chooses.
        iou: Sum of their IoUs.
        sure_iou: Sum of the IoUs above `MATCHED`, which panoptic quality asks for.
        common: Pixels that true objects share with the found one that fits each best.
        joint: Pixels of the unions of those pairs, of true objects without one, and of found ones that fit none best.
        merged: Found objects that hold more than half of each of several true ones.
        split: True objects that hold more than half of each of several found ones.
    """

    true: float
    found: float
    matched: float
    iou: float
    sure_iou: float
    common: float
    joint: float
    merged: float
    split: float


def count_objects(overlaps: Overlaps) -> ObjectCounts:
    """The sums of one image, or of one class in it; crowds and void are left out."""
    overlaps = overlaps.without_crowd()
    chosen = overlaps.ious[match(overlaps)]
    common, joint = _aggregated(overlaps)
    merged, split = merged_and_split(overlaps)
    return ObjectCounts(
        true=len(overlaps.true_numbers),
        found=len(overlaps.found_numbers),
        matched=len(chosen),
        iou=float(chosen.sum()),
        sure_iou=float(chosen[chosen > MATCHED].sum()),
        common=common,
        joint=joint,
        merged=len(merged),
        split=len(split),
    )


def merged_and_split(overlaps: Overlaps) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the found objects that have merged several, and of the true ones that were split.

    Returns:
        ``(m,)`` and ``(s,)`` int64, see `ObjectCounts`.
    """
    common = overlaps.pairs[:, 2]
    in_found = overlaps.found_at[2 * common > overlaps.true_areas[overlaps.true_at]]
    in_true = overlaps.true_at[2 * common > overlaps.found_areas[overlaps.found_at]]
    return np.flatnonzero(np.bincount(in_found) > 1), np.flatnonzero(np.bincount(in_true) > 1)


def object_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores from sums over any number of images.

    Args:
        counts: ``(..., len(ObjectCounts._fields))``.

    Returns:
        ``f1``, ``precision_objects``, ``recall_objects``, ``matched_iou``, ``pq`` and ``aji``, ``(...)`` each; NaN for
        0 / 0: without true objects there is no recall, without found ones no precision, without both no F1.
    """
    columns = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    sums = dict(zip(ObjectCounts._fields, columns, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "f1": 2 * sums["matched"] / (sums["true"] + sums["found"]),
            "precision_objects": sums["matched"] / sums["found"],
            "recall_objects": sums["matched"] / sums["true"],
            "matched_iou": sums["iou"] / sums["matched"],
            "pq": 2 * sums["sure_iou"] / (sums["true"] + sums["found"]),
            "aji": sums["common"] / sums["joint"],
        }


def _aggregated(overlaps: Overlaps) -> tuple[int, int]:
    """Intersection and union of the aggregated Jaccard index; several true objects may fit one found one best."""
    order = np.lexsort((overlaps.found_at, -overlaps.ious, overlaps.true_at))
    true, first = np.unique(overlaps.true_at[order], return_index=True)
    best = order[first]
    common = int(overlaps.pairs[best, 2].sum())
    alone = np.ones(len(overlaps.true_numbers), dtype=bool)
    alone[true] = False
    unused = np.ones(len(overlaps.found_numbers), dtype=bool)
    unused[overlaps.found_at[best]] = False
    joint = overlaps.true_areas[true].sum() + overlaps.found_areas[overlaps.found_at[best]].sum() - common
    return common, int(joint + overlaps.true_areas[alone].sum() + overlaps.found_areas[unused].sum())


def _common_pixels(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Pixels of each pair of values that occurs, ``(n, 3)`` int64: true, found, pixels; a band of rows at a time."""
    base = int(found.max(initial=0)) + 1
    rows = max(_BAND_PIXELS // max(truth.shape[1], 1), 1)
    keys, pixels = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for top in range(0, truth.shape[0], rows):
        both = (truth[top : top + rows].astype(np.int64) * base + found[top : top + rows]).ravel()
        starts = np.flatnonzero(np.concatenate([[True], both[1:] != both[:-1]])) if len(both) else both
        lengths = np.diff(starts, append=len(both))
        keys, pixels = _sums(np.concatenate([keys, both[starts]]), np.concatenate([pixels, lengths]), background=True)
    return np.stack([keys // base, keys % base, pixels], axis=1)


def _sums(keys: np.ndarray, values: np.ndarray, *, background: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Each key that occurs, and the sum of its values, ``(n,)`` int64 both; key 0 only with ``background``."""
    found, at = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(found), dtype=np.int64)
    np.add.at(sums, at, values)
    first = 0 if background else int(np.searchsorted(found, 1))
    return found[first:], sums[first:]
