"""The plainest alternatives to a network: the box as the mask, the mask as given, and Otsu's threshold on grey values.

Otsu: "A threshold selection method from gray-level histograms", IEEE Trans. Systems, Man, and Cybernetics, 1979.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

from ..batch import Query, Size
from ..config.labels import ALL_OBJECTS
from ..data.dataset import PairDataset
from ..tasks.metrics import AddedScores, FullSizeAnswer, OverlapMetrics, count_pixels, scores_of
from ..tasks.pixels import whole_target

BASELINES = {"fill_box": "fill the box", "otsu": "Otsu's threshold", "given_mask": "the mask as given"}
"""Names in files, and in words."""


def score_baselines(
    dataset: PairDataset, queries: Mapping[int, Sequence[Query]], added: AddedScores | None = None
) -> dict[str, OverlapMetrics]:
    """Score what needs no network, on the queries that a model was asked.

    Args:
        dataset: Images and ground truth.
        queries: By image, in pixels of the original.
        added: Scores beside those that every run has.

    Returns:
        By name in `BASELINES`: ``fill_box`` for images asked with a box, ``given_mask`` for those asked with a mask,
        ``otsu`` for those asked without a prompt; only what was asked at least once.
    """
    scores: dict[str, OverlapMetrics] = {}
    added = added or AddedScores()
    for index, asked in queries.items():
        image, annotation = dataset.pair(index)
        for query in asked:
            prompt = query.prompt
            if query.learned is not None and query.label != ALL_OBJECTS:  # they know of no classes, and no cores
                continue
            if prompt.mask is not None:
                name, answer = "given_mask", prompt.mask.whole()
            elif prompt.box is not None:
                name, answer = "fill_box", filled_box(prompt.box.tolist(), image.shape)
            elif prompt.points is None:
                name, answer = "otsu", otsu_mask(image)
            else:
                continue
            target, counted = whole_target(annotation, query.label, answer.shape)
            valid = None if counted is None else torch.from_numpy(counted)
            counts = count_pixels(torch.from_numpy(answer).float(), torch.from_numpy(target), valid=valid)
            more = added.of(counts[None], [FullSizeAnswer.of_mask(answer, target, counted, spacing=added.spacing)])
            metrics = scores.setdefault(name, dataset.task.plain_metrics(added))
            metrics.update(index, scores_of(counts), kind=prompt.kind, label=query.label, added=more[0])
            if query.label == ALL_OBJECTS:
                metrics.collect_mask(index, annotation, answer)
    return scores


def filled_box(box: Sequence[float], size: Size | tuple[int, ...]) -> np.ndarray:
    """The mask of all that a box holds.

    Args:
        box: XYXY pixels; the right and lower edges lie between pixels, as in `prompts.box_from_mask`.
        size: ``(H, W)`` of the picture.

    Returns:
        ``(H, W)`` bool.
    """
    left, top, right, bottom = box
    # A box is kept within the last pixel, which it then holds as well.
    rows, columns = np.arange(size[0]), np.arange(size[1])
    inside_rows = (rows >= np.floor(top)) & ((rows < bottom) | (bottom >= size[0] - 1))
    inside_columns = (columns >= np.floor(left)) & ((columns < right) | (right >= size[1] - 1))
    return inside_rows[:, None] & inside_columns[None, :]


def otsu_mask(image: np.ndarray) -> np.ndarray:
    """The smaller of the two parts into which Otsu's threshold cuts a picture's grey values.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.

    Returns:
        ``(H, W)`` bool.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright = bright.astype(bool)
    return bright if bright.mean() <= 0.5 else ~bright
