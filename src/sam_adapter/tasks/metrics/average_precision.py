"""COCO's average precision from counted pixels in place of masks.

Sorting, interpolation and means are those of ``pycocotools``. It compares all true objects of a picture with all found
ones, mask by mask, which for thousands of objects takes hours; here only pairs that overlap are looked at. Void is
what it is in COCO's files: a crowd, of every class.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from .matching import Overlaps

IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Thresholds of `average_precision`, as COCO has them."""
_Candidates = list[list[tuple[int, float]]]


def average_precision(images: Sequence[Overlaps], labels: Sequence[int]) -> np.ndarray:
    """Average precision of each class at each of `IOUS`, with no limit to the number of found objects.

    Args:
        images: Objects of each image; a crowd, or void, is neither missed nor wrong to find.
        labels: Of the classes.

    Returns:
        ``(K, 10)`` float64, NaN for classes without a true object.
    """
    evaluation = _CountedPixels(images, labels)
    with redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # (10, recalls, K)
    means = precision.mean(axis=1).T
    return np.where(means < 0, np.nan, means)


class _CountedPixels(COCOeval):
    """COCO's evaluation of objects whose intersections are known."""

    def __init__(self, images: Sequence[Overlaps], labels: Sequence[int]) -> None:
        super().__init__(iouType="segm")
        self.images = images
        self.params.imgIds = list(range(len(images)))
        self.params.catIds = list(labels)
        self.params.iouThrs = np.array(IOUS)
        self.params.areaRng = [[0, 1e10]]
        self.params.areaRngLbl = ["all"]
        self.params.maxDets = [max((len(image.found_numbers) for image in images), default=0) + 1]
        self.objects: dict[tuple[int, int], Overlaps] = {}

    def _prepare(self) -> None:
        """The objects of each image and class, true ones with crowds last and found ones by falling score."""
        for at, image in enumerate(self.images):
            for label in self.params.catIds:
                self.objects[at, label] = image.of_class(label)

    def computeIoU(self, imgId: int, catId: int) -> _Candidates:  # noqa: N802, N803
        """For each found object by falling score, the true ones with an IoU that counts, crowds and then void last.

        In a crowd the IoU is the share of the found object that lies in it. All of its pixels count, also in void.
        """
        one = self.objects[imgId, catId]
        true_rank = np.empty(len(one.true_numbers), dtype=np.int64)
        true_rank[np.argsort(one.crowd, kind="stable")] = np.arange(len(true_rank))
        found_rank = np.empty(len(one.found_numbers), dtype=np.int64)
        found_rank[np.argsort(-one.scores, kind="stable")] = np.arange(len(found_rank))
        common, areas = one.pairs[:, 2], one.found_areas + one.found_void
        unions = one.true_areas[one.true_at] + areas[one.found_at] - common
        ious = common / np.where(one.crowd[one.true_at], areas[one.found_at], unions)
        candidates: _Candidates = [[] for _ in found_rank]
        order = np.argsort(true_rank[one.true_at], kind="stable")
        for at in order[ious[order] >= IOUS[0]].tolist():
            candidates[found_rank[one.found_at[at]]].append((int(true_rank[one.true_at[at]]), float(ious[at])))
        for at in np.flatnonzero(one.found_void >= IOUS[0] * areas).tolist():
            candidates[found_rank[at]].append((len(true_rank), float(one.found_void[at] / areas[at])))
        return candidates

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:  # noqa: N802, N803
        """The same as the library's, from the candidates alone."""
        one = self.objects[imgId, catId]
        every: Any = self.ious[imgId, catId]
        crowd = np.append(np.sort(one.crowd), True)  # void is the last one
        matches = np.zeros((len(IOUS), len(one.found_numbers)))
        ignored = np.zeros(matches.shape, dtype=bool)
        if not len(one.crowd) and not matches.shape[1]:
            return None
        for row, threshold in enumerate(self.params.iouThrs.tolist()):
            taken: set[int] = set()
            for column, candidates in enumerate(every):
                best, chosen = min(threshold, 1 - 1e-10), -1
                for true, iou in candidates:
                    if true in taken and not crowd[true]:
                        continue
                    if chosen >= 0 and not crowd[chosen] and crowd[true]:
                        break
                    if iou >= best:
                        best, chosen = iou, true
                if chosen >= 0:
                    taken.add(chosen)
                    matches[row, column] = chosen + 1
                    ignored[row, column] = crowd[chosen]
        return {
            "dtMatches": matches,
            "dtScores": np.sort(-one.scores, kind="stable") * -1,
            "gtIgnore": crowd.astype(np.int64),
            "dtIgnore": ignored,
        }
