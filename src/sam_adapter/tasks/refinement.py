"""Objects of the watershed with outlines of the mask decoder: each is asked for again by its box."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..batch import Prompt, Window
from .label_maps import boxes_of
from .parts import logit
from .splitting import LEAST_AREA, FoundObjects
from .windows import KeptMask, SeenPicture

LEAST_IOU = 0.5
"""IoU of an answer with the object that was asked for, below which it is another thing and the object stays."""

UNKNOWN = 0.5
"""Stands for the predicted quality of an object that could not be asked for."""


def refine_objects(seen: SeenPicture, found: FoundObjects, threshold: float, *, outlines: bool = True) -> FoundObjects:
    """Ask for objects by their boxes: the predicted quality multiplies their scores, and they become the answers.

    An object is asked for in the window that shows most around it. One that no window shows as a whole stays as it is,
    and so does one whose answer is another thing. A pixel that several answers claim goes to the most certain one.

    Args:
        seen: The picture.
        found: Its objects.
        threshold: Probability above which a pixel is foreground.
        outlines: Whether objects become the answers; else their scores alone change.

    Returns:
        The objects; one that keeps fewer than `LEAST_AREA` pixels is left out.
    """
    boxes = boxes_of(found.labels, void=None)
    answers: dict[int, KeptMask] = {}
    asked = _windows_of(boxes, seen.windows)
    for at, encoded in seen.encode(sorted(asked)):
        window, numbers = seen.windows[at], asked[at]
        prompts = [Prompt(box=_box_in(window, *boxes[number])) for number in numbers]
        for start, logits, scores in seen.answers(encoded, window, prompts):
            rows, columns = seen.filled(window, (logits.shape[-2], logits.shape[-1]))
            for number, one, score in zip(numbers[start:], logits[:, 0], scores[:, 0].tolist(), strict=False):
                if (one[:rows, :columns] > logit(threshold)).any():
                    answers[number] = KeptMask.of(one, logit(threshold), window=window, score=score)
    quality = [answers[number].score if number in answers else UNKNOWN for number in range(1, len(found) + 1)]
    scores = (found.scores * np.array(quality, np.float32)).clip(0, 1)
    ranked = FoundObjects(found.labels, scores)
    return _replaced(ranked, boxes, answers, seen, threshold) if outlines else ranked


def _replaced(
    found: FoundObjects,
    boxes: Mapping[int, tuple[slice, slice]],
    answers: Mapping[int, KeptMask],
    seen: SeenPicture,
    threshold: float,
) -> FoundObjects:
    labels = np.zeros_like(found.labels)
    certain = np.zeros(found.labels.shape, np.float16)
    for number, box in boxes.items():
        part = answers[number].part(seen.model.preprocessing, threshold) if number in answers else None
        own = found.labels[box] == number
        if part is not None:
            both = int((found.labels[part.rows, part.columns][part.mask] == number).sum())
            if both < LEAST_IOU * (int(own.sum()) + int(part.mask.sum()) - both):
                part = None
        place, mask = (box, own) if part is None else ((part.rows, part.columns), part.mask)
        values = np.ones(1, np.float16) if part is None else part.probabilities.astype(np.float16)
        mask = mask & (values > certain[place])
        labels[place][mask] = number
        certain[place][mask] = np.broadcast_to(values, mask.shape)[mask]
    areas = np.bincount(labels.ravel(), minlength=len(found) + 1)
    kept = np.flatnonzero(areas[1:] >= LEAST_AREA) + 1
    numbers = np.zeros(len(found) + 1, np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return FoundObjects(numbers[labels], found.scores[kept - 1])


def _windows_of(boxes: Mapping[int, tuple[slice, slice]], windows: Sequence[Window]) -> dict[int, list[int]]:
    """Position of a window to the numbers of the objects that are asked for in it; windows lie on a regular grid."""
    lines: list[dict[int, int]] = [{}, {}]
    for axis in range(2):
        starts = np.array(sorted({window[axis] for window in windows}))
        side = windows[0][2 + axis]
        whole = int(starts[-1]) + side
        before = np.where(starts == 0, whole, 0)
        behind = np.where(starts + side == whole, whole, 0)  # beyond the border of the picture nothing is missed
        for number, box in boxes.items():
            first, last = box[axis].start - starts, starts + side - box[axis].stop
            seen = (first >= 0) & (last >= 0)
            margin = np.where(seen, np.minimum(first + before, last + behind), -1)
            best = int(margin.argmax())
            if margin[best] >= 0:
                lines[axis][number] = int(starts[best])
    position = {(window.top, window.left): at for at, window in enumerate(windows)}
    asked: dict[int, list[int]] = {}
    for number in boxes:
        if number in lines[0] and number in lines[1]:
            asked.setdefault(position[lines[0][number], lines[1][number]], []).append(number)
    return asked


def _box_in(window: Window, rows: slice, columns: slice) -> torch.Tensor:
    left, top = columns.start - window.left, rows.start - window.top
    right, bottom = columns.stop - 1 - window.left, rows.stop - 1 - window.top
    return torch.tensor([left, top, right, bottom], dtype=torch.float32)
