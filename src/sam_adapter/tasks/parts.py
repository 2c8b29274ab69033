"""Masks as the parts of their pictures in which they lie, so that no mask is held at a whole picture's size."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..batch import Size
from ..preprocessing import MaskLogits, Preprocessing

BAND_PIXELS = 1 << 22
"""Pixels of the rows of a large picture that are made at once."""


class MaskPart(NamedTuple):
    """A mask inside a box.

    Attributes:
        rows: Of the picture.
        columns: Of the picture.
        mask: ``(rows, columns)`` bool; outside of them there is nothing.
        probabilities: ``(rows, columns)`` float32.
    """

    rows: slice
    columns: slice
    mask: np.ndarray
    probabilities: np.ndarray


def part_of(
    mask_logits: MaskLogits, original_size: Size, preprocessing: Preprocessing, threshold: float
) -> MaskPart | None:
    """The part of a picture in which an answer has foreground, at original size.

    Args:
        mask_logits: Of one answer, ``(1, h, w)`` or stored otherwise.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
        threshold: Probability above which a pixel is foreground.

    Returns:
        The box around the foreground; None if there is none.
    """
    reach = preprocessing.reach(mask_logits, original_size, logit(threshold) - 1e-3)  # rounding loses no pixel
    if reach is None:
        return None
    probabilities = preprocessing.to_original_size(mask_logits, original_size, *reach)[0].sigmoid_().cpu()
    mask = probabilities > threshold
    across, down = mask.any(0).nonzero(), mask.any(1).nonzero()
    if not len(across):
        return None
    rows = slice(int(down[0]), int(down[-1]) + 1)
    columns = slice(int(across[0]), int(across[-1]) + 1)
    return MaskPart(
        slice(reach.rows.start + rows.start, reach.rows.start + rows.stop),
        slice(reach.columns.start + columns.start, reach.columns.start + columns.stop),
        mask[rows, columns].numpy(),
        probabilities[rows, columns].numpy(),
    )


def probability_map(mask_logits: MaskLogits, original_size: Size, preprocessing: Preprocessing) -> np.ndarray:
    """Probabilities of one answer in all of a picture, ``(H, W)`` float32, made a band of rows at a time.

    Args:
        mask_logits: Of one answer, ``(1, h, w)`` or stored otherwise.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
    """
    height, width = original_size
    step = max(BAND_PIXELS // width, 1)
    if height <= step:
        return preprocessing.to_original_size(mask_logits, original_size)[0].sigmoid_().cpu().numpy()
    found = np.empty(original_size, np.float32)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        found[rows] = preprocessing.to_original_size(mask_logits, original_size, rows)[0].sigmoid_().cpu().numpy()
    return found


def logit(probability: float) -> float:
    """The logit of a probability from 0 to 1."""
    return float(torch.logit(Tensor([probability]).double())) if 0 < probability < 1 else math.inf * (probability - 0.5)
