"""Means of scores over images and kinds of prompt, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...batch import FOREGROUND
from ...config.choices import ASKED_KINDS, AskedKind
from ...config.registry import METRICS
from ...config.scores import HEADINGS

COLUMNS: tuple[str, ...] = (*METRICS, "tp", "fp", "fn", "tn")
"""What `score` gives for one image."""
MEANS: tuple[str, ...] = tuple(HEADINGS)
"""What `OverlapMetrics.compute` gives over images with foreground."""
RESAMPLES = 1000
"""Of the bootstrap; the ends of an interval then vary by a few percent of its length."""


class Answer(NamedTuple):
    """Which answer: about which image, asked with which kind of prompt, for which label."""

    index: int
    kind: AskedKind
    label: int = FOREGROUND


def is_empty(scores: Mapping[str, float]) -> bool:
    """Whether the ground truth of an answer has no foreground."""
    return not scores["tp"] + scores["fn"]


def balanced_error_rate(tp: float, fp: float, fn: float, tn: float) -> float:
    """Mean of the error rates of foreground and background in percent; a side without pixels is left out."""
    errors = [wrong / (right + wrong) for right, wrong in ((tp, fn), (tn, fp)) if right + wrong > 0]
    return 100 * sum(errors) / len(errors)


def shares_of_answers(answers: Mapping[Answer, Mapping[str, float]]) -> dict[str, float]:
    """How often nothing or everything was answered, by kind; see `OverlapMetrics.compute`."""
    result = {}
    for kind in ASKED_KINDS:
        rows = [scores for answer, scores in answers.items() if answer.kind == kind]
        nothing = [not row["tp"] + row["fp"] for row in rows]
        everything = [not row["fn"] + row["tn"] for row in rows if row["tn"] + row["fp"]]
        for name, found in (("empty", nothing), ("full", everything)):
            if found:
                result[f"answered_{name}_{kind}"] = sum(found) / len(found)
    return result


def means_of_image(kinds: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """The scores of one image: of each the mean over kinds of prompt of the mean over their answers.

    Args:
        kinds: Rows of all answers about it, a list for each kind. Those without foreground count in the loss, and else
            where there are no others.
    """
    filled = [own for rows in kinds if (own := [row for row in rows if not is_empty(row)])] or kinds
    result = {name: _mean([_mean([row[name] for row in rows]) for rows in filled]) for name in kinds[0][0]}
    return {**result, "loss": _mean([_mean([row["loss"] for row in rows]) for rows in kinds])}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def means_over_images(answers: Mapping[Answer, Mapping[str, float]], added: Sequence[str] = ()) -> dict[str, float]:
    """See `OverlapMetrics.compute`, for images with foreground.

    Args:
        answers: Rows of them.
        added: Names of further values in the rows.
    """
    columns = (*COLUMNS, *added)
    images = {index: at for at, index in enumerate(sorted({answer.index for answer in answers}))}
    kinds = [kind for kind in ASKED_KINDS if any(answer.kind == kind for answer in answers)]
    values = np.zeros((len(kinds), len(images), len(columns) + 1))  # the last column counts the answers
    for answer, scores in answers.items():
        values[kinds.index(answer.kind), images[answer.index]] += [*(scores[name] for name in columns), 1]
    by_kind = _weighted_means(bootstrap_weights(len(images)), values)  # (kinds, 1 + samples, means)
    tables = {f"_{kind}": table for kind, table in zip(kinds, by_kind, strict=True)} | {"": by_kind.mean(0)}
    result: dict[str, float] = {}
    for suffix, table in tables.items():
        for at, name in enumerate((*MEANS, *added)):
            result |= with_interval(f"{name}{suffix}", table[:, at])
    return result


def bootstrap_weights(images: int) -> np.ndarray:
    """How often each image is in a sample, ``(1 + samples, images)``; the first row is the set itself.

    One image has no samples: it says nothing about others.
    """
    draws = np.random.default_rng(0).multinomial(
        images, np.full(images, 1 / images), size=RESAMPLES if images > 1 else 0
    )
    return np.vstack([np.ones(images), draws])


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """A score and its 95 % interval.

    Args:
        name: Of the score.
        values: ``(1 + samples,)`` under the weights of `bootstrap_weights`.

    Returns:
        The value by its name, and the ends of the interval by the name with ``_low`` and ``_high``; they are absent if
        there is no finite sample.
    """
    result = {name: float(values[0])}
    known = values[1:][np.isfinite(values[1:])]
    if len(known):
        low, high = np.percentile(known, [2.5, 97.5])
        result |= {f"{name}_low": float(low), f"{name}_high": float(high)}
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
