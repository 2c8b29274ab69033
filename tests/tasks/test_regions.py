"""In a query's region: means over pixels are taken there alone, overlaps and scores everywhere."""

from dataclasses import replace

import pytest
import torch
from test_pixels import MIXED, answers

from sam_adapter.batch import Batch, Query, Window
from sam_adapter.config.registry import LOSSES
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks import pixels
from sam_adapter.tasks.metrics import OverlapMetrics
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.training.losses.base import WeightedLosses

PREPROCESSING = Preprocessing(image_size=64)
LOCAL = ("bce", "balanced_bce", "focal")
"""Losses that are means over pixels."""


def in_regions(batch: Batch) -> Batch:
    """Every other query has a region, which reaches to the border of its image or lies inside."""
    queries: list[Query] = []
    for at, query in enumerate(batch.queries):
        height, width = batch.original_sizes[batch.image_index[at]]
        top, left = (height // 3, 0) if at % 4 else (0, width // 4)
        region = Window(top, left, max(height // 2, 1), max(width // 2, 1)) if at % 2 else None
        queries.append(replace(query, region=region))
    return replace(batch, queries=queries)


@pytest.mark.parametrize("band", [500, 5000, 1 << 30])
@pytest.mark.parametrize("within", [None, slice(0, 1)])
def test_means_are_those_of_the_region_cut_out_and_the_rest_is_as_without(
    band: int, within: slice | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pixels, "BAND_PIXELS", band)
    batch, logits = in_regions(MIXED), answers(MIXED)
    losses, metrics = WeightedLosses(dict.fromkeys(LOSSES, 1.0)), OverlapMetrics()
    reduces = [losses, *metrics.reduces(batch)]
    found, counts = sum_over_pixels(logits, batch, PREPROCESSING, reduces, within=within)
    usual, usual_counts = sum_over_pixels(logits, MIXED, PREPROCESSING, reduces, within=within)
    assert torch.equal(counts, usual_counts)
    rows = within or slice(None)
    for at, query in enumerate(batch.queries):
        image = batch.image_index[at]
        truth, size = batch.annotations[image], batch.original_sizes[image]
        assert truth is not None
        whole = PREPROCESSING.to_original_size(logits[at : at + 1], size)[0]
        counted = truth.counted() if truth.has_void else torch.ones(size, dtype=torch.bool)
        near = torch.zeros(size, dtype=torch.bool)
        region = query.region or Window(0, 0, *size)
        near[region.top : region.top + region.height, region.left : region.left + region.width] = True
        some = (near & counted)[rows] if counted is not None else near[rows]
        terms, before = losses.terms(found[at]), losses.terms(usual[at])
        for name in LOSSES:
            wanted = before[name]
            if name in LOCAL:
                wanted = losses.losses[name](whole[rows], truth.target(query.label)[rows], some)
            torch.testing.assert_close(terms[name], wanted, rtol=1e-5, atol=1e-5)
