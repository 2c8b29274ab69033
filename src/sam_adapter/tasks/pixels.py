"""Sums over the pixels of masks at original size, a band of rows at a time.

Losses and scores are taken at the size of the annotation, however large; but logits go up to it, and targets are made,
for no more than `BAND_PIXELS` pixels at once. With gradients a band is computed again in the backward pass once more
pixels than `KEPT_PIXELS` are asked for, so that memory does not grow with pixels times queries.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..batch import Annotation, Batch, Size, by_group
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
        mask_logits: ``(Q, h, w)`` low-resolution logits, one for each query.
        batch: With annotations.
        preprocessing: How logits come to original size.
        reduces: What is summed, all in one pass.

    Returns:
        For each of them ``(Q, k)``.
    """
    sizes = batch.for_queries(batch.original_sizes)
    given = batch.for_queries(batch.annotations)
    annotations = [one for one in given if one is not None]
    assert len(annotations) == len(given)
    pixels = sum(height * width for height, width in sizes)
    again = torch.is_grad_enabled() and mask_logits.requires_grad and pixels > KEPT_PIXELS

    def of_rows(logits: Tensor, rows: slice | None, members: list[int]) -> tuple[Tensor, ...]:
        full = preprocessing.to_original_size(logits, sizes[members[0]], rows)
        target, counted = _truth(annotations, batch, members, rows)
        return tuple(reduce(full, target, counted, members) for reduce in reduces)

    def together(members: list[int]) -> Iterator[tuple[Tensor, ...]]:
        size = sizes[members[0]]
        # On their way to a small picture the logits pass the encoder's whole square.
        at_once = max(BAND_PIXELS // max(size[0] * size[1], preprocessing.image_size**2), 1)
        for start in range(0, len(members), at_once):
            some = members[start : start + at_once]
            logits = mask_logits[some]
            sums: list[Tensor] = []
            for rows in bands(size):
                if again:
                    found = checkpoint(of_rows, logits, rows, some, use_reentrant=False, preserve_rng_state=False)
                    assert isinstance(found, tuple)
                else:
                    found = of_rows(logits, rows, some)
                sums = [one + more for one, more in zip(sums, found, strict=True)] if sums else list(found)
            yield from zip(*sums, strict=True)

    keys = [(size, one.has_void) for size, one in zip(sizes, annotations, strict=True)]
    answers = by_group(keys, together)
    return [torch.stack(column) for column in zip(*answers, strict=True)]


def bands(size: Size) -> Iterator[slice | None]:
    """Rows of one band of a picture after another; None means all rows of a picture that is one band."""
    height, width = size
    if height * width <= BAND_PIXELS:
        yield None
        return
    rows = max(BAND_PIXELS // width, 1)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def _truth(
    annotations: Sequence[Annotation], batch: Batch, members: list[int], rows: slice | None
) -> tuple[Tensor, Tensor | None]:
    """Target and counted pixels ``(n, rows, W)`` of queries about images of one size."""
    which = rows or slice(None)
    target = torch.stack([annotations[at].target(batch.queries[at].label, which) for at in members])
    if not annotations[members[0]].has_void:
        return target, None
    counted = [one for at in members if (one := annotations[at].counted(which)) is not None]
    return target, torch.stack(counted)
