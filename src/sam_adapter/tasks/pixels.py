"""Sums over the pixels of masks at original size, a band of rows at a time.

Losses and scores are taken at the size of the annotation, however large; but logits go up to it, and targets are made,
for no more than `BAND_PIXELS` pixels at once. With gradients a band is computed again in the backward pass once more
pixels than `KEPT_PIXELS` are asked for, so that memory does not grow with pixels times queries.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..batch import Annotation, Batch, Size
from ..preprocessing import MaskLogits, Preprocessing

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

MakeMap = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""The whole target of a query to a map of it.

Args:
    target: ``(H, W)`` bool, False at void pixels.
    counted: ``(H, W)`` bool, False at void pixels, or None if all count.

Returns:
    ``(H, W)`` float32; its values at void pixels do not matter.
"""


@runtime_checkable
class MapReduce(Protocol):
    """A `Reduce` that needs more than the target: maps, each made once a query from the whole of it, and regions.

    Attributes:
        maps: How they are made; where there are none, None is handed over.
    """

    maps: Sequence[MakeMap]

    def __call__(
        self,
        logits: Tensor,
        target: Tensor,
        counted: Tensor | None,
        members: list[int],
        maps: Tensor | None,
        near: Tensor | None,
        /,
    ) -> Tensor:
        """See `Reduce`; ``maps`` is ``(n, len(maps), rows, W)`` float32, ``near`` the queries' regions.

        These are ``(n, rows, W)`` bool, or None if no query has one.
        """
        ...


def sum_over_pixels(
    mask_logits: MaskLogits,
    batch: Batch,
    preprocessing: Preprocessing,
    reduces: Sequence[Reduce | MapReduce],
    *,
    within: slice | None = None,
) -> list[Tensor]:
    """Compare the answers to a batch's queries with their targets.

    Args:
        mask_logits: ``(Q, h, w)`` low-resolution logits, one for each query; at least one.
        batch: With annotations.
        preprocessing: How logits come to original size: up to the encoder's square, cut to the picture, and on.
        reduces: What is summed, all in one pass; those that are a `MapReduce` get their maps.
        within: Rows of the images that are summed over; None takes all.

    Returns:
        For each of them ``(Q, k)``.
    """
    compared = _Comparison(batch, preprocessing, reduces, within)
    if (
        isinstance(mask_logits, Tensor)
        and torch.is_grad_enabled()
        and mask_logits.requires_grad
        and compared.pixels > KEPT_PIXELS
    ):
        sums = _ComputedAgain.apply(mask_logits, compared)
        assert isinstance(sums, tuple)
        return list(sums)
    return compared.sums(mask_logits)


class _Comparison:
    """The answers to a batch's queries beside their targets, in pieces of no more than `BAND_PIXELS`."""

    def __init__(
        self,
        batch: Batch,
        preprocessing: Preprocessing,
        reduces: Sequence[Reduce | MapReduce],
        within: slice | None = None,
    ) -> None:
        self.batch = batch
        self.within = within
        self.preprocessing = preprocessing
        self.reduces = reduces
        self.sizes = batch.for_queries(batch.original_sizes)
        given = batch.for_queries(batch.annotations)
        self.annotations = [one for one in given if one is not None]
        assert len(self.annotations) == len(given)
        self.pixels = sum(height * width for height, width in self.sizes)
        self.makes = [make for reduce in reduces if isinstance(reduce, MapReduce) for make in reduce.maps]
        self.held: dict[tuple[int, int], list[Tensor]] = {}
        """Maps of the queries of the last piece by image and label: of one query, or of no more pixels than a band."""

    def pieces(self) -> Iterator[tuple[list[int], slice | None]]:
        """Queries about images of one size that go together, and rows of them; None for all."""
        groups: dict[tuple[Size, bool], list[int]] = {}
        for at, (size, annotation) in enumerate(zip(self.sizes, self.annotations, strict=True)):
            groups.setdefault((size, annotation.has_void), []).append(at)
        for (size, _), members in groups.items():
            # On their way to a small picture the logits pass the encoder's whole square.
            height = size[0] if self.within is None else self.within.stop - self.within.start
            at_once = max(BAND_PIXELS // max(height * size[1], self.preprocessing.image_size**2), 1)
            for start in range(0, len(members), at_once):
                for rows in bands(size, within=self.within):
                    yield members[start : start + at_once], rows

    def of_piece(self, logits: MaskLogits, members: list[int], rows: slice | None) -> list[Tensor]:
        """The sums of a piece, ``(n, k)`` each, from its logits ``(n, h, w)``."""
        full = self.preprocessing.to_original_size(logits, self.sizes[members[0]], rows)
        which = rows or slice(None)
        labels = [self.batch.queries[at].label for at in members]
        annotations = [self.annotations[at] for at in members]
        target = torch.stack([one.target(label, which) for one, label in zip(annotations, labels, strict=True)])
        given = [one for annotation in annotations if (one := annotation.counted(which)) is not None]
        counted = torch.stack(given) if given else None
        maps, sums = self._maps_of(members, which, full.device) if self.makes else None, []
        near = self._regions(members, which, target)
        taken = 0
        for reduce in self.reduces:
            if isinstance(reduce, MapReduce):
                own = None if maps is None else maps[:, taken : taken + len(reduce.maps)]
                sums.append(reduce(full, target, counted, members, own if reduce.maps else None, near))
                taken += len(reduce.maps)
            else:
                sums.append(reduce(full, target, counted, members))
        return sums

    def _regions(self, members: list[int], rows: slice, target: Tensor) -> Tensor | None:
        """Where the pixels of the queries' regions are, of the shape of their targets; None if no query has one."""
        regions = [self.batch.queries[at].region for at in members]
        if not any(regions):
            return None
        near = torch.ones_like(target)
        first = rows.start or 0
        for own, region in zip(near, regions, strict=True):
            if region is not None:
                own.zero_()
                top, bottom = (max(at - first, 0) for at in (region.top, region.top + region.height))
                own[top:bottom, region.left : region.left + region.width] = True
        return near

    def _maps_of(self, members: list[int], rows: slice, device: torch.device) -> Tensor:
        """Rows of all maps of some queries, ``(n, maps, rows, W)``; queries with one target have them in common."""
        keys = [(self.batch.image_index[at], self.batch.queries[at].label) for at in members]
        before, self.held = self.held, {}
        for key, at in zip(keys, members, strict=True):
            if key not in self.held:
                self.held[key] = before.get(key) or self._made(at, device)
        return torch.stack([torch.stack([one[rows] for one in self.held[key]]) for key in keys])

    def _made(self, at: int, device: torch.device) -> list[Tensor]:
        """The maps ``(H, W)`` of one query, made on the CPU."""
        target, counted = whole_target(self.annotations[at], self.batch.queries[at].label, self.sizes[at])
        return [torch.from_numpy(make(target, counted)).to(device) for make in self.makes]

    def sums(self, mask_logits: MaskLogits) -> list[Tensor]:
        """See `sum_over_pixels`."""
        found: dict[int, list[Tensor]] = {}
        for members, rows in self.pieces():
            columns = self.of_piece(mask_logits[members], members, rows)
            for at, *more in zip(members, *columns, strict=True):
                before = found.get(at)
                found[at] = more if before is None else [one + two for one, two in zip(before, more, strict=True)]
        self.held = {}
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
        compared.held = {}
        return result, None


def whole_target(annotation: Annotation, label: int, size: Size) -> tuple[np.ndarray, np.ndarray | None]:
    """Where a label is, and where the ground truth says something, of a whole picture.

    Args:
        annotation: The ground truth of the picture.
        label: Of a query.
        size: ``(H, W)`` of the picture.

    Returns:
        ``(H, W)`` bool on the CPU, False at void pixels; and ``(H, W)`` bool, False at void pixels, or None if all
        pixels count. As tensors, no more than a band of them is made at once.
    """
    target, counted = np.empty(size, dtype=bool), np.empty(size, dtype=bool) if annotation.has_void else None
    for rows in bands(size):
        which = rows or slice(None)
        target[which] = annotation.target(label, which).cpu().numpy()
        some = annotation.counted(which)
        if counted is not None and some is not None:
            counted[which] = some.cpu().numpy()
            target[which] &= counted[which]
    return target, counted


def bands(size: Size, *, answers: int = 1, within: slice | None = None) -> Iterator[slice | None]:
    """Rows of one band of a picture after another; None means all rows of a picture that is one band.

    Args:
        size: ``(H, W)`` of the picture.
        answers: That are brought to its size together.
        within: Rows of the picture that are wanted; None wants all.
    """
    height, width = size
    if height * width * answers <= BAND_PIXELS and within is None:
        yield None
        return
    rows = max(BAND_PIXELS // (width * max(answers, 1)), 1)
    first, last = (0, height) if within is None else (within.start, within.stop)
    for start in range(first, last, rows):
        yield slice(start, min(start + rows, last))
