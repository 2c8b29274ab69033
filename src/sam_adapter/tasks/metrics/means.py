"""Means of scores over images and kinds of prompt, with bootstrap intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...config.choices import ASKED_KINDS, AskedKind
from ...config.registry import METRICS
from ...config.scores import HEADINGS

COLUMNS: tuple[str, ...] = (*METRICS, "tp", "fp", "fn", "tn")
"""What `score` gives for one image."""
MEANS: tuple[str, ...] = tuple(HEADINGS)
"""What `OverlapMetrics.compute` gives over images with foreground."""
RESAMPLES = 1000
"""Of the bootstrap; the ends of an interval then vary by a few percent of its length."""


def is_empty(scores: Mapping[str, float]) -> bool:
    """Whether the ground truth of an answer has no foreground."""
    return not scores["tp"] + scores["fn"]


def balanced_error_rate(tp: float, fp: float, fn: float, tn: float) -> float:
    """Mean of the error rates of foreground and background in percent; a side without pixels is left out."""
    errors = [wrong / (right + wrong) for right, wrong in ((tp, fn), (tn, fp)) if right + wrong > 0]
    return 100 * sum(errors) / len(errors)


def shares_of_answers(answers: Mapping[tuple[int, AskedKind], Mapping[str, float]]) -> dict[str, float]:
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


def resampled(images: int) -> np.ndarray:
    """How often each image is in the set itself, the first row, and in samples of as many drawn from it.

    Returns:
        ``(1 + samples, images)``, the same every time.
    """
    draws = np.random.default_rng(0).multinomial(
        images, np.full(images, 1 / images), size=RESAMPLES if images > 1 else 1
    )
    return np.vstack([np.ones(images), draws])


def interval(table: np.ndarray) -> np.ndarray:
    """Between which scores 95 % of the samples of `resampled` lie: from ``(1 + samples, ...)`` to ``(2, ...)``."""
    return np.nanpercentile(table[1:], [2.5, 97.5], axis=0)


def means_over_images(
    answers: Mapping[tuple[int, AskedKind], Mapping[str, float]], added: Sequence[str] = ()
) -> dict[str, float]:
    """See `OverlapMetrics.compute`, for images with foreground.

    Args:
        answers: Rows by image and kind of prompt.
        added: Names of further values in them.
    """
    columns = (*COLUMNS, *added)
    images = {index: at for at, index in enumerate(sorted({index for index, _ in answers}))}
    kinds = [kind for kind in ASKED_KINDS if any(asked == kind for _, asked in answers)]
    values = np.zeros((len(kinds), len(images), len(columns) + 1))  # the last column: 1 where there is an answer
    for (index, kind), scores in answers.items():
        values[kinds.index(kind), images[index]] = [*(scores[name] for name in columns), 1]
    by_kind = _weighted_means(resampled(len(images)), values)  # (kinds, 1 + samples, means)
    tables = {f"_{kind}": table for kind, table in zip(kinds, by_kind, strict=True)} | {"": by_kind.mean(0)}
    result: dict[str, float] = {}
    for suffix, table in tables.items():
        low, high = interval(table)
        for at, name in enumerate((*MEANS, *added)):
            result[f"{name}{suffix}"] = float(table[0, at])
            result |= {f"{name}{suffix}_low": float(low[at]), f"{name}{suffix}_high": float(high[at])}
    return result


def _weighted_means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`MEANS`, and those of added values, under several weights of the images.

    Args:
        weights: ``(samples, images)``.
        values: ``(kinds, images, columns)``, see `means_over_images`.

    Returns:
        ``(kinds, samples, means)``; NaN where a sample has no image that was asked with the kind.
    """
    sums = weights @ values  # (kinds, samples, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[..., :-1] / sums[..., -1:]
        tp, fp, fn, tn = np.moveaxis(sums[..., len(METRICS) : len(COLUMNS)], -1, 0)
        sides = np.stack([fn / (tp + fn), fp / (tn + fp)])
    # A side without pixels is left out: full masks have no background.
    found = ~np.isnan(sides)
    ber = 100 * np.where(found, sides, 0).sum(0) / np.maximum(found.sum(0), 1)
    return np.concatenate([means[..., : len(METRICS)], ber[..., None], means[..., len(COLUMNS) :]], -1)
