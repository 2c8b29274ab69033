"""IoU, Dice, mean absolute error and balanced error rate by kind of prompt, every image counted once for each.

Images without foreground are counted apart: their IoU can only be 0 or 1, and a mean with them in it says how many of
them there are, not how good the masks are.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from ...config.options import ASKED_KINDS, AskedKind
from ...system.float64 import with_float64
from .shapes import require_same_shape
from .thresholds import SMOOTHING, best_threshold

COLUMNS: tuple[str, ...] = ("iou", "dice", "mae", "tp", "fp", "fn", "tn")
"""What `score` gives for one image."""

MEANS = ("iou", "dice", "mae", "ber")
"""What `OverlapMetrics.compute` gives over images with foreground."""

RESAMPLES = 1000
"""Of the bootstrap; the ends of an interval then vary by a few percent of its length."""


def score(probabilities: Tensor, target: Tensor, threshold: float = 0.5, *, valid: Tensor | None = None) -> Tensor:
    """Score a mask at its original size, or several of one size.

    Args:
        probabilities: ``(..., H, W)`` from 0 to 1.
        target: ``(..., H, W)``, 0 or 1.
        threshold: Probability above which a pixel is foreground.
        valid: ``(..., H, W)`` bool, False at pixels that do not count; None counts all.

    Returns:
        ``(..., 7)`` float64 in the order of `COLUMNS`: IoU and Dice with smoothing 1e-3, the mean absolute difference
        between probability and target, and the four pixel counts. Where the ground truth is empty, IoU and Dice are
        1 for an empty mask and practically 0 for any other.

    Raises:
        ValueError: If shapes differ.
    """
    require_same_shape(probabilities, target, valid)
    probabilities, target = with_float64(probabilities), with_float64(target)
    counted = torch.ones_like(target, dtype=torch.bool) if valid is None else with_float64(valid).bool()
    truth = target.bool() & counted
    mask = (probabilities > threshold) & counted
    tp, marked, present, pixels = (one.sum((-2, -1)).double() for one in (mask & truth, mask, truth, counted))
    fp, fn = marked - tp, present - tp
    iou = (tp + SMOOTHING) / (tp + fp + fn + SMOOTHING)
    dice = (2 * tp + SMOOTHING) / (2 * tp + fp + fn + SMOOTHING)
    errors = (probabilities.float() - truth.float()).abs() * counted
    mae = errors.sum((-2, -1), dtype=torch.float64) / pixels.clamp(min=1)
    return torch.stack([iou, dice, mae, tp, fp, fn, pixels - tp - fp - fn], -1)


class OverlapMetrics(Metric):
    """Collects one row for each image and kind of prompt, in one process or many, and gives the means over the set.

    Rows carry the image's index, so an image that several processes saw (as a distributed sampler deals them out)
    counts once.
    """

    full_state_update = False
    keys: list[Tensor]
    rows: list[Tensor]
    ious: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("ious", default=[], dist_reduce_fx="cat")

    def update(
        self,
        index: int,
        row: Tensor,
        *,
        kind: AskedKind,
        loss: Tensor | None = None,
        ious: Tensor | None = None,
    ) -> None:
        """Add the `score` of one answer, and its loss where there is one.

        Args:
            index: The image.
            row: ``(7,)`` from `score`.
            kind: Of the prompt. It does not matter for an image without foreground.
            loss: A scalar.
            ious: ``(63,)`` from `threshold_ious`; given for all answers or for none.
        """
        if ious is not None:
            self.ious.append(ious[None])
        self.keys.append(torch.tensor([[index, ASKED_KINDS.index(kind)]], device=row.device))
        extra = row.new_full((1,), float("nan")) if loss is None else with_float64(loss.detach()).to(row)[None]
        self.rows.append(torch.cat([row, extra])[None])

    def per_prompt(self) -> dict[tuple[int, AskedKind], dict[str, float]]:
        """Scores of each answer by image and kind; ``ber`` in percent and ``loss`` (NaN without one) beside `COLUMNS`.

        Answers about an image of which no pixel counts are left out.
        """
        keys, rows = _joined(self.keys), _joined(self.rows)
        result: dict[tuple[int, AskedKind], dict[str, float]] = {}
        for (index, kind), row in sorted(zip(keys.tolist(), rows.tolist(), strict=True)):
            if sum(row[3:7]):
                scores = dict(zip((*COLUMNS, "loss"), row, strict=True))
                result[index, ASKED_KINDS[kind]] = scores | {"ber": balanced_error_rate(*row[3:7])}
        return result

    def per_image(self, kind: AskedKind | None = None) -> dict[int, dict[str, float]]:
        """Scores of each image by index, as in `per_prompt`.

        Args:
            kind: Of the prompt; None gives the mean over the kinds that the image was asked with.
        """
        answers: dict[int, list[dict[str, float]]] = {}
        for (index, asked), scores in self.per_prompt().items():
            if kind is None or asked == kind or is_empty(scores):
                answers.setdefault(index, []).append(scores)
        return {
            index: {name: sum(one[name] for one in several) / len(several) for name in several[0]}
            for index, several in answers.items()
        }

    def compute(self) -> dict[str, float]:
        """Means over images, with intervals.

        Returns:
            For each kind of prompt ``iou_box``, ``dice_box``, ``mae_box``, ``ber_box`` and so on over the images with
            foreground, and ``iou``, ``dice``, ``mae``, ``ber`` as means over the kinds; ``ber`` is in percent over all
            pixels of those images. Each with ``_low`` and ``_high``: the interval that holds the value in 95 % of
            samples of as many images drawn from these (bootstrap, the same every time). They are absent if no image
            has foreground. ``answered_empty_box`` is the share of images with foreground that were answered with
            nothing, ``answered_full_box`` that of images with background that were answered with everything.
            ``best_threshold_box`` is the threshold at which the mean IoU is best, if IoU at thresholds was given.
            ``images`` and ``empty`` count images, and ``empty_correct`` is the share of the empty ones
            that were answered with nothing, absent if there are none. ``loss``, where it was given, is the mean over
            all images of the mean over the kinds.

        Raises:
            ValueError: If there is no image; images of which no pixel counts are images, though not counted.
        """
        if not len(_joined(self.keys)):
            raise ValueError("no image was scored")
        answers = self.per_prompt()
        empty = [scores for scores in answers.values() if is_empty(scores)]
        images = self.per_image()
        result: dict[str, float] = {}
        if filled := {key: scores for key, scores in answers.items() if not is_empty(scores)}:
            result |= _means(filled) | _shares(filled) | self._best_thresholds(filled)
        result |= {"images": len(images), "empty": sum(map(is_empty, images.values()))}
        if empty:
            result["empty_correct"] = sum(not scores["fp"] for scores in empty) / len(empty)
        losses = [scores["loss"] for scores in images.values()]
        if not all(np.isnan(losses)):
            result["loss"] = sum(losses) / len(losses)
        return result

    def _best_thresholds(self, answers: Iterable[tuple[int, AskedKind]]) -> dict[str, float]:
        """See `compute`; of the answers about images with foreground."""
        ious = _joined(self.ious)
        if not len(ious):
            return {}
        keys = [(index, ASKED_KINDS[kind]) for index, kind in _joined(self.keys).tolist()]
        rows = dict(zip(keys, ious, strict=True))
        chosen: dict[str, list[Tensor]] = {}
        for index, kind in answers:
            chosen.setdefault(kind, []).append(rows[index, kind])
        return {f"best_threshold_{kind}": best_threshold(torch.stack(some).mean(0)) for kind, some in chosen.items()}


def is_empty(scores: Mapping[str, float]) -> bool:
    """Whether the ground truth of an answer has no foreground."""
    return not scores["tp"] + scores["fn"]


def balanced_error_rate(tp: float, fp: float, fn: float, tn: float) -> float:
    """Mean of the error rates of foreground and background in percent; a side without pixels is left out."""
    errors = [wrong / (right + wrong) for right, wrong in ((tp, fn), (tn, fp)) if right + wrong > 0]
    return 100 * sum(errors) / len(errors)


def _shares(answers: Mapping[tuple[int, AskedKind], Mapping[str, float]]) -> dict[str, float]:
    """How often nothing or everything was answered, by kind; see `OverlapMetrics.compute`."""
    result = {}
    for kind in ASKED_KINDS:
        rows = [scores for (_, asked), scores in answers.items() if asked == kind]
        nothing = [not row["tp"] + row["fp"] for row in rows]
        everything = [not row["fn"] + row["tn"] for row in rows if row["tn"] + row["fp"]]
        for name, found in (("empty", nothing), ("full", everything)):
            if found:
                result[f"answered_{name}_{kind}"] = sum(found) / len(found)
    return result


def _means(answers: Mapping[tuple[int, AskedKind], Mapping[str, float]]) -> dict[str, float]:
    """See `OverlapMetrics.compute`, for images with foreground."""
    images = {index: at for at, index in enumerate(sorted({index for index, _ in answers}))}
    kinds = [kind for kind in ASKED_KINDS if any(asked == kind for _, asked in answers)]
    values = np.zeros((len(kinds), len(images), len(COLUMNS) + 1))  # the last column: 1 where there is an answer
    for (index, kind), scores in answers.items():
        values[kinds.index(kind), images[index]] = [*(scores[name] for name in COLUMNS), 1]
    draws = np.random.default_rng(0).multinomial(
        len(images), np.full(len(images), 1 / len(images)), size=RESAMPLES if len(images) > 1 else 1
    )
    weights = np.vstack([np.ones(len(images)), draws])  # the first row: the set itself
    by_kind = _weighted_means(weights, values)  # (kinds, 1 + samples, means)
    tables = {f"_{kind}": table for kind, table in zip(kinds, by_kind, strict=True)} | {"": by_kind.mean(0)}
    result: dict[str, float] = {}
    for suffix, table in tables.items():
        low, high = np.nanpercentile(table[1:], [2.5, 97.5], axis=0)
        for at, name in enumerate(MEANS):
            result[f"{name}{suffix}"] = float(table[0, at])
            result |= {f"{name}{suffix}_low": float(low[at]), f"{name}{suffix}_high": float(high[at])}
    return result


def _weighted_means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`MEANS` under several weights of the images.

    Args:
        weights: ``(samples, images)``.
        values: ``(kinds, images, columns)``, see `_means`.

    Returns:
        ``(kinds, samples, means)``; NaN where a sample has no image that was asked with the kind.
    """
    sums = weights @ values  # (kinds, samples, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[..., :3] / sums[..., -1:]
        tp, fp, fn, tn = np.moveaxis(sums[..., 3:7], -1, 0)
        sides = np.stack([fn / (tp + fn), fp / (tn + fp)])
    # A side without pixels is left out: full masks have no background.
    found = ~np.isnan(sides)
    ber = 100 * np.where(found, sides, 0).sum(0) / np.maximum(found.sum(0), 1)
    return np.concatenate([means, ber[..., None]], -1)


def _joined(states: list[Tensor] | Tensor) -> Tensor:
    """A list state is one tensor once it was gathered."""
    if isinstance(states, Tensor):
        return states
    return torch.cat(states) if states else torch.empty(0)
