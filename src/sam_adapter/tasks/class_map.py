"""The answers to one query a class → one class for every pixel, a band of rows at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import Size
from ..preprocessing import MaskLogits, Preprocessing
from .pixels import bands


def class_map(
    mask_logits: MaskLogits,
    labels: Sequence[int],
    size: Size,
    preprocessing: Preprocessing,
    *,
    threshold: float | None,
    rows: slice | None = None,
) -> Tensor:
    """The class with the largest probability at each pixel.

    Args:
        mask_logits: ``(K, h, w)``, one answer for each of K labels.
        labels: Of the answers.
        size: ``(H, W)`` of the picture.
        preprocessing: How logits come to original size.
        threshold: A pixel whose largest probability is not above it is background, 0; None leaves no pixel without a
            class, for sets that are labelled everywhere.
        rows: Of the picture; None gives all, with memory for K times the picture.

    Returns:
        ``(rows, W)`` uint8 labels.
    """
    if not len(labels):
        height = size[0] if rows is None else rows.stop - rows.start
        return torch.zeros(height, size[1], dtype=torch.uint8, device=mask_logits.device)
    logits = preprocessing.to_original_size(mask_logits, size, rows)  # (K, rows, W)
    highest, at = logits.max(0)
    found = torch.tensor(labels, dtype=torch.uint8, device=logits.device)[at]
    if threshold is not None:
        found[highest.sigmoid() <= threshold] = 0
    return found


def whole_class_map(
    mask_logits: MaskLogits, labels: Sequence[int], size: Size, preprocessing: Preprocessing, *, threshold: float | None
) -> Tensor:
    """`class_map` of all rows, ``(H, W)`` uint8, in memory for one band of K answers and the map."""
    found = torch.empty(size, dtype=torch.uint8, device=mask_logits.device)
    for rows in bands(size, answers=len(labels)):
        which = rows or slice(None)
        found[which] = class_map(mask_logits, labels, size, preprocessing, threshold=threshold, rows=rows)
    return found
