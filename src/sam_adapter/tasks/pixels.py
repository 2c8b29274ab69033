"""Sums over the pixels of masks at original size, a band of rows at a time.

Losses and scores are taken at the size of the annotation, however large; but logits go up to it, and targets are made,
for no more than `BAND_PIXELS` pixels at once. With gradients a band is computed again in the backward pass once more
pixels than `KEPT_PIXELS` are asked for, so that memory does not grow with pixels times queries.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..batch import Batch, Size
from ..preprocessing import Preprocessing

BAND_PIXELS = 1 << 20
"""Pixels of all masks that are at original size at one time."""
KEPT_PIXELS = 4 << 20
"""Pixels of a batch whose intermediate values are kept for the backward pass."""

Reduce = Callable[[Tensor, Tensor, Tensor | None, list[int]], Tensor]
"""Some rows of some masks to sums over their pixels.

Args:
    logits: ``(n, rows, W)`` float32.
    target: ``(n, rows, W)`` bool.
    counted: ``(n, rows, W)`` bool, False at void pixels, or None if all count.
    members: Positions of the masks' queries in the batch.

Returns:
    ``(n, k)``; the sums over bands are added up.
"""


def sum_over_pixels(
    mask_logits: Tensor, batch: Batch, preprocessing: Preprocessing, reduces: Sequence[Reduce]
) -> list[Tensor]:
    """Compare the answers to a batch's queries with their targets.

    Args:
        mask_logits: ``(Q, h, w)`` low-resolution logits, one for each query; at least one.
        batch: With annotations.
        preprocessing: How logits come to original size.
        reduces: What is summed, all in one pass.

    Returns:
        For each of them ``(Q, k)``.
    """
    compared = _Comparison(batch, preprocessing, reduces)
    if torch.is_grad_enabled() and mask_logits.requires_grad and compared.pixels > KEPT_PIXELS:
        sums = _ComputedAgain.apply(mask_logits, compared)
        assert isinstance(sums, tuple)
        return list(sums)
    return compared.sums(mask_logits)


class _Comparison:
    """The answers to a batch's queries beside their targets, in pieces of no more than `BAND_PIXELS`."""

    def __init__(self, batch: Batch, preprocessing: Preprocessing, reduces: Sequence[Reduce]) -> None:
        self.batch = batch
        self.preprocessing = preprocessing
        self.reduces = reduces
        self.sizes = batch.for_queries(batch.original_sizes)
        given = batch.for_queries(batch.annotations)
        self.annotations = [one for one in given if one is not None]
        assert len(self.annotations) == len(given)
        self.pixels = sum(height * width for height, width in self.sizes)

    def pieces(self) -> Iterator[tuple[list[int], slice | None]]:
        """Queries about images of one size that go together, and rows of them; None for all."""
        groups: dict[tuple[Size, bool], list[int]] = {}
        for at, (size, annotation) in enumerate(zip(self.sizes, self.annotations, strict=True)):
            groups.setdefault((size, annotation.has_void), []).append(at)
        for (size, _), members in groups.items():
            # On their way to a small picture the logits pass the encoder's whole square.
            at_once = max(BAND_PIXELS // max(size[0] * size[1], self.preprocessing.image_size**2), 1)
            for start in range(0, len(members), at_once):
                for rows in bands(size):
                    yield members[start : start + at_once], rows

    def of_piece(self, logits: Tensor, members: list[int], rows: slice | None) -> list[Tensor]:
        """The sums of a piece, ``(n, k)`` each, from its logits ``(n, h, w)``."""
        full = self.preprocessing.to_original_size(logits, self.sizes[members[0]], rows)
        which = rows or slice(None)
        labels = [self.batch.queries[at].label for at in members]
        annotations = [self.annotations[at] for at in members]
        target = torch.stack([one.target(label, which) for one, label in zip(annotations, labels, strict=True)])
        counted = [one for annotation in annotations if (one := annotation.counted(which)) is not None]
        return [reduce(full, target, torch.stack(counted) if counted else None, members) for reduce in self.reduces]

    def sums(self, mask_logits: Tensor) -> list[Tensor]:
        """See `sum_over_pixels`."""
        found: dict[int, list[Tensor]] = {}
        for members, rows in self.pieces():
            columns = self.of_piece(mask_logits[members], members, rows)
            for at, *more in zip(members, *columns, strict=True):
                before = found.get(at)
                found[at] = more if before is None else [one + two for one, two in zip(before, more, strict=True)]
        return [torch.stack(column) for column in zip(*(found[at] for at in sorted(found)), strict=True)]


class _ComputedAgain(torch.autograd.Function):
    """`_Comparison.sums` of which nothing but the low-resolution logits is kept: each piece is computed again."""

    @staticmethod
    def forward(ctx: Any, mask_logits: Tensor, compared: _Comparison) -> tuple[Tensor, ...]:
        """The sums, without gradients inside."""
        ctx.save_for_backward(mask_logits)
        ctx.compared = compared
        sums = tuple(compared.sums(mask_logits))
        ctx.mark_non_differentiable(*(one for one in sums if one.dtype == torch.float64))  # counts of pixels
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of the logits, piece by piece."""
        (mask_logits,) = ctx.saved_tensors
        compared: _Comparison = ctx.compared
        result = torch.zeros_like(mask_logits)
        for members, rows in compared.pieces():
            with torch.enable_grad():
                logits = mask_logits.detach()[members].requires_grad_()
                found = zip(compared.of_piece(logits, members, rows), gradients, strict=True)
                pairs = [(sums, outer[members]) for sums, outer in found if sums.requires_grad]
                sums, outer = zip(*pairs, strict=True)
                (gradient,) = torch.autograd.grad(sums, logits, outer)
            result[members] += gradient
        return result, None


def bands(size: Size, *, answers: int = 1) -> Iterator[slice | None]:
    """Rows of one band of a picture after another; None means all rows of a picture that is one band.

    Args:
        size: ``(H, W)`` of the picture.
        answers: That are brought to its size together.
    """
    height, width = size
    if height * width * answers <= BAND_PIXELS:
        yield None
        return
    rows = max(BAND_PIXELS // (width * max(answers, 1)), 1)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))
