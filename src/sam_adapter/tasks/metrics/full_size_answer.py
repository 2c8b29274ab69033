"""The whole answer to one query at original size, for scores that do not follow from counts of pixels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ...batch import Batch
from ...config.choices import AskedKind
from ...preprocessing import MaskLogits, Preprocessing
from ..pixels import whole_target


@dataclass(frozen=True, kw_only=True)
class FullSizeAnswer:
    """The answer to one query beside its target, at the picture's original size, on the CPU.

    Attributes:
        logits: ``(H, W)`` float32.
        target: ``(H, W)`` bool, False at void pixels.
        counted: ``(H, W)`` bool, False at void pixels, or None if all count.
        threshold: Probability above which a pixel is foreground.
        spacing: From row to row and from column to column, in mm.
    """

    logits: Tensor
    target: np.ndarray
    counted: np.ndarray | None = None
    threshold: float = 0.5
    spacing: tuple[float, float] = (1.0, 1.0)

    @cached_property
    def probability(self) -> np.ndarray:
        """``(H, W)`` float32 from 0 to 1, also at void pixels; 0 where it is not a number, as that marks nothing."""
        return self.logits.sigmoid().nan_to_num(0).numpy()

    @cached_property
    def mask(self) -> np.ndarray:
        """The predicted foreground, ``(H, W)`` bool, False at void pixels."""
        marked = self.probability > np.float32(self.threshold)
        return marked if self.counted is None else marked & self.counted

    @classmethod
    def of_mask(
        cls,
        mask: np.ndarray,
        target: np.ndarray,
        counted: np.ndarray | None = None,
        *,
        spacing: tuple[float, float] = (1.0, 1.0),
    ) -> Self:
        """The answer that is 1 in a mask ``(H, W)`` bool and 0 elsewhere."""
        logits = torch.where(torch.from_numpy(mask), torch.inf, -torch.inf)
        return cls(logits=logits, target=target, counted=counted, spacing=spacing)


def answers_of(
    mask_logits: MaskLogits,
    batch: Batch,
    preprocessing: Preprocessing,
    thresholds: Mapping[AskedKind, float],
    spacing: tuple[float, float],
) -> Iterator[FullSizeAnswer]:
    """The answers to a batch's queries, made one after another.

    Args:
        mask_logits: ``(Q, h, w)`` low-resolution logits, one for each query.
        batch: With annotations.
        preprocessing: How logits come to original size.
        thresholds: For each kind of prompt.
        spacing: From row to row and from column to column, in mm.
    """
    for at, (query, image) in enumerate(zip(batch.queries, batch.image_index, strict=True)):
        annotation, size = batch.annotations[image], batch.original_sizes[image]
        assert annotation is not None
        target, counted = whole_target(annotation, query.label, size)
        yield FullSizeAnswer(
            logits=preprocessing.to_original_size(mask_logits[at : at + 1].detach(), size)[0].cpu(),
            target=target,
            counted=counted,
            threshold=thresholds[query.prompt.kind],
            spacing=spacing,
        )
