"""IoU, Dice, mean absolute error and balanced error rate, over the whole set, every image counted once."""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

SMOOTHING = 1e-3

COLUMNS: tuple[str, ...] = ("iou", "dice", "mae", "tp", "fp", "fn", "tn")
"""What `score` gives for one image."""


def score(probabilities: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    """Score a mask at its original size, or several of one size.

    Args:
        probabilities: ``(..., H, W)`` from 0 to 1.
        target: ``(..., H, W)``, 0 or 1.
        threshold: Probability above which a pixel is foreground.

    Returns:
        ``(..., 7)`` float64 in the order of `COLUMNS`: IoU and Dice with smoothing 1e-3, the mean absolute difference
        between probability and target, and the four pixel counts. Where the ground truth is empty, IoU and Dice are
        1 for an empty mask and practically 0 for any other.
    """
    truth = target.bool()
    mask = probabilities > threshold
    tp, marked, present = (pixels.sum((-2, -1)).double() for pixels in (mask & truth, mask, truth))
    fp, fn = marked - tp, present - tp
    tn = truth.shape[-2] * truth.shape[-1] - tp - fp - fn
    iou = (tp + SMOOTHING) / (tp + fp + fn + SMOOTHING)
    dice = (2 * tp + SMOOTHING) / (2 * tp + fp + fn + SMOOTHING)
    mae = (probabilities.float() - truth.float()).abs().mean((-2, -1), dtype=torch.float64)
    return torch.stack([iou, dice, mae, tp, fp, fn, tn], -1)


class OverlapMetrics(Metric):
    """Collects one row an image, in one process or many, and gives the means over the set.

    Rows carry the image's index, so an image that several processes saw (as a distributed sampler deals them out)
    counts once.
    """

    full_state_update = False
    indices: list[Tensor]
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("indices", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, index: int, row: Tensor, loss: Tensor | None = None) -> None:
        """Add the `score` of one image, and its loss where there is one."""
        self.indices.append(torch.tensor([index], device=row.device))
        extra = row.new_full((1,), float("nan")) if loss is None else loss.detach().to(row)[None]
        self.rows.append(torch.cat([row, extra])[None])

    def per_image(self) -> dict[int, dict[str, float]]:
        """Scores of each image by index; ``ber`` in percent and ``loss`` (NaN without one) beside `COLUMNS`."""
        indices, rows = _joined(self.indices), _joined(self.rows)
        result: dict[int, dict[str, float]] = {}
        for index, row in sorted(zip(indices.tolist(), rows.tolist(), strict=True)):
            scores = dict(zip((*COLUMNS, "loss"), row, strict=True))
            scores["ber"] = _balanced_error_rate(*row[3:7])
            result[index] = scores
        return result

    def compute(self) -> dict[str, float]:
        """Means over images of ``iou``, ``dice``, ``mae`` and, where it was given, ``loss``.

        ``ber`` is in percent over all pixels of the set.

        Raises:
            ValueError: If there is no image.
        """
        images = self.per_image()
        if not images:
            raise ValueError("no image was scored")
        rows = torch.tensor([[scores[name] for name in COLUMNS] for scores in images.values()], dtype=torch.float64)
        means = rows.mean(0).tolist()
        result = dict(zip(COLUMNS[:3], means[:3], strict=True))
        result["ber"] = _balanced_error_rate(*rows[:, 3:].sum(0).tolist())
        losses = [scores["loss"] for scores in images.values()]
        if not all(math.isnan(loss) for loss in losses):
            result["loss"] = sum(losses) / len(losses)
        return result


def _joined(states: list[Tensor] | Tensor) -> Tensor:
    """A list state is one tensor once it was gathered."""
    if isinstance(states, Tensor):
        return states
    return torch.cat(states) if states else torch.empty(0)


def _balanced_error_rate(tp: float, fp: float, fn: float, tn: float) -> float:
    """Mean of the error rates of foreground and background in percent; a side without pixels is left out."""
    errors = [wrong / (right + wrong) for right, wrong in ((tp, fn), (tn, fp)) if right + wrong > 0]
    return 100 * sum(errors) / len(errors)
