"""Sums over bands of rows are those over whole pictures, in values, in gradients, and in bounded memory."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sam_adapter.batch import VOID, Annotation, Batch, Prompt, Query, Sample, Size
from sam_adapter.config.registry import LOSSES, look_up
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks import pixels
from sam_adapter.tasks.metrics import OverlapMetrics
from sam_adapter.tasks.pixels import BAND_PIXELS, KEPT_PIXELS, bands, sum_over_pixels
from sam_adapter.training.losses.base import WeightedLosses

WHOLE = 1 << 30
ALL_SUMS = sum(look_up(LOSSES, name).count for name in LOSSES)
PROMPTS = [Prompt(box=torch.zeros(4)), Prompt(), Prompt(points=torch.zeros(1, 2), point_labels=torch.ones(1))]
PREPROCESSINGS = [
    Preprocessing(image_size=64, resize="pad"),
    Preprocessing(image_size=64, resize="squash"),
    Preprocessing(image_size=48, resize="pad"),
]


def annotation(size: Size, *, void: bool) -> Annotation:
    """Labels 0, 1 and 2 in blots of a few pixels."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = (np.sin(rows / 3) + np.cos(columns / 4) + 1.5).clip(0, 2).astype(np.uint8)
    if void:
        labels[(rows + columns) % 11 < 3] = VOID
    return Annotation.of(torch.from_numpy(labels))


def asked(*pictures: tuple[Size, int, bool]) -> Batch:
    """Pictures of some size that are asked some number of queries and may have void."""
    samples = []
    for index, (size, count, void) in enumerate(pictures):
        queries = [Query(prompt=PROMPTS[at % 3], label=1 + at % 2) for at in range(count)]
        samples.append(Sample(index, str(index), None, annotation(size, void=void), queries, size))
    return Batch.collate(samples)


MIXED = asked(
    ((37, 53), 3, False),
    ((150, 91), 2, True),
    ((37, 53), 1, True),
    ((1, 97), 2, False),
    ((83, 1), 1, True),
    ((64, 64), 4, False),
    ((37, 53), 2, False),
    ((150, 91), 5, True),
)
"""Enlarged and shrunk, odd, a line each way, one size with and without void, several queries and one."""


def answers(batch: Batch, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 2 * torch.randn(len(batch.queries), side, side, generator=generator)


def sums(
    logits: Tensor, batch: Batch, preprocessing: Preprocessing, patch: pytest.MonkeyPatch, *, band: int, kept: int
) -> list[Tensor]:
    """Of all losses, and of scores with thresholds and curves."""
    patch.setattr(pixels, "BAND_PIXELS", band)
    patch.setattr(pixels, "KEPT_PIXELS", kept)
    losses = WeightedLosses(dict.fromkeys(LOSSES, 1.0))
    metrics = OverlapMetrics({"box": 0.4, "none": 0.6}, search=True, curves=True)
    return sum_over_pixels(logits, batch, preprocessing, [losses, *metrics.reduces(batch)])


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
@pytest.mark.parametrize("band", [1, 160, 500, 5000])
def test_sums_over_bands_are_those_over_whole_pictures(
    preprocessing: Preprocessing, band: int, monkeypatch: pytest.MonkeyPatch
):
    logits = answers(MIXED)
    whole = sums(logits, MIXED, preprocessing, monkeypatch, band=WHOLE, kept=WHOLE)
    found = sums(logits, MIXED, preprocessing, monkeypatch, band=band, kept=WHOLE)
    assert [tuple(one.shape) for one in found] == [(20, count) for count in (ALL_SUMS, 5, 129, 513)]
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_the_whole_is_each_query_alone_at_original_size(preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch):
    """The reference of the other tests, by itself: in the order of the queries, with their labels and their images."""
    logits = answers(MIXED)
    losses = WeightedLosses(dict.fromkeys(LOSSES, 1.0))
    found = losses.terms(sums(logits, MIXED, preprocessing, monkeypatch, band=WHOLE, kept=WHOLE)[0])
    for at, (query, image) in enumerate(zip(MIXED.queries, MIXED.image_index, strict=True)):
        truth = MIXED.annotations[image]
        assert truth is not None
        full = preprocessing.to_original_size(logits[at : at + 1], MIXED.original_sizes[image])[0]
        for name, loss in losses.losses.items():
            alone = loss(full, truth.target(query.label), truth.counted())
            torch.testing.assert_close(found[name][at], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize("kept", [WHOLE, 0], ids=["kept", "again"])
@pytest.mark.parametrize("band", [200, 5000])
def test_gradients_over_bands_are_those_over_whole_pictures(
    resize: Any, kept: int, band: int, monkeypatch: pytest.MonkeyPatch
):
    losses = WeightedLosses({name: 0.5 + at for at, name in enumerate(LOSSES)})
    weight = torch.rand(len(MIXED.queries), generator=torch.Generator().manual_seed(1))
    preprocessing = Preprocessing(image_size=64, resize=resize)

    def gradient(band: int, kept: int) -> Tensor:
        monkeypatch.setattr(pixels, "BAND_PIXELS", band)
        monkeypatch.setattr(pixels, "KEPT_PIXELS", kept)
        logits = answers(MIXED).requires_grad_()
        (found,) = sum_over_pixels(logits, MIXED, preprocessing, [losses])
        (losses.weighted(losses.terms(found)) * weight).sum().backward()
        assert logits.grad is not None
        return logits.grad

    whole = gradient(WHOLE, WHOLE)
    assert (whole.flatten(1).abs().amax(1) > 1e-4).all()
    torch.testing.assert_close(gradient(band, kept), whole, rtol=1e-5, atol=1e-7)


def test_bands_are_computed_again_only_where_a_batch_has_more_pixels_than_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "BAND_PIXELS", 1000)
    batch = asked(((60, 50), 3, False))  # 9000 pixels in three bands each
    calls = []

    def reduce(logits: Tensor, target: Tensor, counted: Tensor | None, members: list[int]) -> Tensor:
        calls.append((members, logits.shape[1]))
        return (logits.sigmoid() * target).sum((-2, -1))[:, None]

    def backward(*, kept: int, gradients: bool = True) -> int:
        """Calls in the backward pass."""
        monkeypatch.setattr(pixels, "KEPT_PIXELS", kept)
        calls.clear()
        logits = answers(batch).requires_grad_(gradients)
        (found,) = sum_over_pixels(logits, batch, PREPROCESSINGS[0], [reduce])
        assert calls == [([at], 20) for at in range(3) for _ in range(3)]
        if gradients:
            found.sum().backward()
        return len(calls) - 9

    assert backward(kept=9000) == 0
    assert backward(kept=8999) == 9
    assert backward(kept=0, gradients=False) == 0
    with torch.no_grad():
        assert not sum_over_pixels(answers(batch).requires_grad_(), batch, PREPROCESSINGS[0], [reduce])[0].requires_grad


def test_queries_of_one_size_go_together_while_they_fit_a_band(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "BAND_PIXELS", 3 * 64 * 64)
    seen = []

    def reduce(logits: Tensor, target: Tensor, counted: Tensor | None, members: list[int]) -> Tensor:
        seen.append((members, tuple(logits.shape), counted is not None))
        return torch.tensor([[float(at)] for at in members])

    batch = asked(((64, 64), 4, False), ((64, 64), 1, True), ((64, 60), 2, False), ((64, 64), 1, False))
    (found,) = sum_over_pixels(answers(batch), batch, PREPROCESSINGS[0], [reduce])
    assert found.flatten().tolist() == list(range(8))
    assert seen == [
        ([0, 1, 2], (3, 64, 64), False),
        ([3, 7], (2, 64, 64), False),
        ([4], (1, 64, 64), True),
        ([5, 6], (2, 64, 60), False),
    ]


@pytest.mark.parametrize("size", [(37, 53), (1, 97), (1000, 1), (300, 7), (5, 2000)])
@pytest.mark.parametrize("band", [1, 50, 999])
def test_bands_cover_every_row_once(size: Size, band: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "BAND_PIXELS", band)
    found = list(bands(size))
    if size[0] * size[1] <= band:
        assert found == [None]
        return
    assert [row for rows in found if rows is not None for row in range(rows.start, rows.stop)] == list(range(size[0]))
    assert all(rows is not None and (rows.stop - rows.start) * size[1] <= max(band, size[1]) for rows in found)


@pytest.mark.parametrize("resize", ["pad", "squash"])
@pytest.mark.parametrize("image_size", [64, 96])
@pytest.mark.parametrize("side", [16, 24, 100])
@pytest.mark.parametrize(
    "size", [(37, 53), (150, 91), (91, 150), (64, 64), (7, 300), (300, 7), (1, 50), (50, 1), (3, 3), (611, 402)]
)
def test_rows_at_original_size_are_those_of_the_whole(resize: Any, image_size: int, side: int, size: Size):
    """Enlarged and shrunk, on the way to the square and from it to the original."""
    preprocessing = Preprocessing(image_size=image_size, resize=resize)
    logits = 5 * torch.randn(2, side, side, generator=torch.Generator().manual_seed(0))
    whole = preprocessing.to_original_size(logits, size)
    assert whole.shape == (2, *size)
    height = size[0]
    cuts = {(0, height), (0, 1), (height - 1, height), (height // 3, height // 3 + 1), (height // 3, height)}
    for start, stop in sorted(cuts):
        rows = preprocessing.to_original_size(logits, size, slice(start, stop))
        torch.testing.assert_close(rows, whole[:, start:stop], rtol=0, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize("size", [(3001, 2000), (2000, 3001), (40, 20001), (20001, 40), (613, 401)])
def test_rows_are_as_exact_as_the_whole(size: Size):
    """Both have float32 coordinates; against the same arithmetic in float64."""
    preprocessing = Preprocessing(image_size=1024)
    logits = 5 * torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0))
    height, width = preprocessing.input_size(size)
    square = functional.interpolate(logits.double()[None], (1024, 1024), mode="bilinear", align_corners=False)
    exact = functional.interpolate(square[..., :height, :width], size, mode="bilinear", align_corners=False)[0]
    whole = (preprocessing.to_original_size(logits, size) - exact).abs().max()
    start, stop = size[0] // 2, size[0]
    rows = (preprocessing.to_original_size(logits, size, slice(start, stop)) - exact[:, start:stop]).abs().max()
    assert rows < 1.1 * whole + 1e-5
    assert whole < 0.02  # of logits up to 20


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for one in result if isinstance(result, tuple | list) else [result]:
                if isinstance(one, Tensor):
                    self.elements = max(self.elements, one.numel())
        return result


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("size", "queries", "void"),
    [((750, 750), 12, True), ((40, 60), 200, False), ((250, 225), 12, True), ((255, 257), 20, False)],
    ids=["large", "many", "one band", "with the square"],
)
def test_no_tensor_grows_with_pixels_times_queries(
    size: Size, queries: int, void: bool, training: bool, monkeypatch: pytest.MonkeyPatch
):
    """A quarter of the real lengths: the first is 12 queries about 3000 x 3000 pixels."""
    band = BAND_PIXELS // 16
    monkeypatch.setattr(pixels, "BAND_PIXELS", band)
    monkeypatch.setattr(pixels, "KEPT_PIXELS", KEPT_PIXELS // 16)
    batch = asked((size, queries, void))
    losses, metrics = WeightedLosses(dict.fromkeys(LOSSES, 1.0)), OverlapMetrics()
    logits = answers(batch, 16).requires_grad_(training)
    with Largest() as largest:
        reduces = [losses, *metrics.reduces(batch)]
        found = sum_over_pixels(logits, batch, Preprocessing(image_size=256), reduces)[0]
        if training:
            losses.weighted(losses.terms(found)).sum().backward()
    assert band / 2 < largest.elements <= 4 * band  # `over_pixels` stacks


def test_no_tensor_of_a_real_picture_is_larger_than_a_few_bands():
    batch = asked(((3000, 3000), 1, True))
    metrics = OverlapMetrics()
    with Largest() as largest:
        sum_over_pixels(answers(batch, 256), batch, Preprocessing(image_size=1024), metrics.reduces(batch))
    assert BAND_PIXELS / 2 < largest.elements <= BAND_PIXELS
