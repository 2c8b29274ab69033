"""Image-level AUROC: whether pictures with foreground are told from those without, as sets of defects are scored."""

import numpy as np
import torch

from .full_size_answer import FullSizeAnswer


def highest_probability(answer: FullSizeAnswer) -> float:
    """The score of a picture: the highest probability of its answer, void left out; 0 if nothing counts.

    In float64, where probabilities that are all 1 in float32 still differ.
    """
    logits = answer.logits if answer.counted is None else answer.logits[torch.from_numpy(answer.counted)]
    known = logits.nan_to_num(-torch.inf, torch.inf, -torch.inf)  # nothing is marked where it is not a number
    return float(known.max().double().sigmoid()) if known.numel() else 0.0


def auroc(values: np.ndarray, present: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: how often a picture with foreground has a higher value than one without.

    Equal values count half.

    Args:
        values: ``(N,)``, of each picture.
        present: ``(N,)`` bool, whether it has foreground.
        weights: ``(samples, N)``, how often each picture is in each sample of them.

    Returns:
        ``(samples,)`` from 0 to 1; NaN where a sample has pictures of one sort alone.
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    positive, negative = (
        np.add.reduceat(np.where(some, weights, 0)[:, order].astype(np.float64), starts, axis=1)
        for some in (present, ~present)
    )  # (samples, values that differ) each
    below = np.cumsum(negative, 1) - negative / 2
    with np.errstate(invalid="ignore"):
        return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))
