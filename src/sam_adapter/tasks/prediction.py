"""Masks of one image, made at its original size when they are asked for."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..batch import Size
from ..preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Answers to some queries about one image, on the CPU. Only what is asked for is brought to original size.

    Attributes:
        mask_logits: ``(N, h, w)`` float32 low-resolution logits, usable as `Prompt.mask_input`.
        iou_scores: ``(N,)`` predicted quality of each mask.
        original_size: ``(H, W)``.
        preprocessing: How logits come to original size.
        threshold: Probability above which a pixel is foreground.
    """

    mask_logits: Tensor
    iou_scores: Tensor
    original_size: Size
    preprocessing: Preprocessing
    threshold: float

    def __len__(self) -> int:
        return len(self.mask_logits)

    def probability(self, index: int = 0) -> Tensor:
        """Probabilities of one mask, ``(H, W)`` float32 from 0 to 1."""
        logits = self.mask_logits[index : index + 1]
        return self.preprocessing.to_original_size(logits, self.original_size)[0].sigmoid_()

    def mask(self, index: int = 0) -> Tensor:
        """One mask, ``(H, W)`` bool."""
        return self.probability(index) > self.threshold

    @cached_property
    def probabilities(self) -> Tensor:
        """All masks' probabilities, ``(N, H, W)`` float32 from 0 to 1."""
        return torch.stack([self.probability(index) for index in range(len(self))])

    @cached_property
    def masks(self) -> Tensor:
        """All masks, ``(N, H, W)`` bool."""
        return torch.stack([self.mask(index) for index in range(len(self))])
