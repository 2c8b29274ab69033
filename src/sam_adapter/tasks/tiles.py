"""Scores of pictures that are seen tile by tile: the same sums over pixels as of whole ones, strip by strip."""

from collections.abc import Callable

from torch import Tensor

from ..batch import Batch
from ..tiling.sweep import Sweep, alone, joined
from .metrics import OverlapMetrics
from .pixels import MapReduce, Reduce, sum_over_pixels


def collect_by_tiles(
    sweep: Sweep,
    batch: Batch,
    metrics: OverlapMetrics,
    *,
    loss: Reduce | MapReduce | None = None,
    losses: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Add the scores of a batch of pictures that are seen tile by tile.

    Args:
        sweep: What answers.
        batch: With pictures and annotations, where the metrics are.
        metrics: What collects the scores.
        loss: What the loss sums over pixels, if it is to be averaged too.
        losses: Those sums ``(Q, k)`` to the loss of each query ``(Q,)``.
    """
    for at in sorted(set(batch.image_index)):
        one = alone(batch, at)
        reduces = [*([] if loss is None else [loss]), *metrics.reduces(one)]
        sums: list[Tensor] = []
        whole: list[Tensor] = []
        strips = []
        for strip in sweep.strips(one.pictures[0], one.queries):
            logits, rows = strip.mask_logits, strip.rows
            sums = _added(sums, sum_over_pixels(logits, one, sweep.preprocessing, reduces, within=rows))
            if metrics.needs_whole:
                strips.append(strip)
            else:
                whole = _added(whole, metrics.whole_sums(one, logits, sweep.preprocessing, rows))
        lost = None if losses is None else losses(sums.pop(0))
        if not metrics.needs_whole:
            metrics.collect(one, sums, lost)
            metrics.collect_whole_sums(one, whole)
            continue
        logits = joined(strips, device=sweep.device)
        metrics.collect(one, sums, lost, metrics.answers(logits, one, sweep.preprocessing))
        metrics.collect_whole(one, logits, sweep.preprocessing)


def _added(before: list[Tensor], more: list[Tensor]) -> list[Tensor]:
    """Sums over some rows and over others."""
    return [one + two for one, two in zip(before, more, strict=True)] if before else more
