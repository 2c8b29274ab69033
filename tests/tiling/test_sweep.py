"""Answers of tiles become one answer: without seams, in strips, with the scores of whole pictures."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sam_adapter.annotations.reading.classes import Classes
from sam_adapter.batch import VOID, Annotation, Batch, Prompt, Query, Sample, Size
from sam_adapter.config.choices import ASKED_KINDS, AskedKind, PromptKind, parse_loss
from sam_adapter.config.options import PromptOptions
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.base import Task
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.metrics import AddedScores
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.tasks.prediction import ClassPrediction
from sam_adapter.tasks.semantic import SemanticTask
from sam_adapter.tasks.tiles import collect_by_tiles
from sam_adapter.tiling.blending import BACKGROUND
from sam_adapter.tiling.grid import Tiling
from sam_adapter.tiling.sweep import Sweep, blended_maps, joined
from sam_adapter.training.losses.base import WeightedLosses

SIDE = 64
THRESHOLDS: Mapping[AskedKind, float] = dict.fromkeys(ASKED_KINDS, 0.5)


def picture(size: Size = (150, 190), seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def by_pixel(batch: Batch) -> tuple[Tensor, Tensor]:
    """A model that sees single pixels: the query for label n is answered by channel n - 1."""
    assert batch.pixel_values is not None
    pairs = zip(batch.image_index, batch.queries, strict=True)
    logits = torch.stack([batch.pixel_values[at, query.label - 1] for at, query in pairs])
    return logits, torch.full((len(logits),), 0.5)


def sweep(answer=by_pixel, *, tile: int = SIDE, overlap: int = 16, side: int = SIDE, batch_size: int = 3) -> Sweep:
    tiling, preprocessing = Tiling(tile=tile, overlap=overlap), Preprocessing(image_size=side)
    return Sweep(answer=answer, tiling=tiling, preprocessing=preprocessing, batch_size=batch_size)


def whole(given: Tensor, label: int) -> Tensor:
    """What `by_pixel` answers about a whole picture that nothing resizes."""
    side = max(given.shape[:2])
    pixels = Preprocessing(image_size=side).pixel_values(given.numpy())
    return pixels[label - 1, : given.shape[0], : given.shape[1]]


QUERIES = [Query(label=label) for label in (1, 2, 3)]


@pytest.mark.parametrize("overlap", [0, 5, 16, 40])
@pytest.mark.parametrize("size", [(150, 190), (64, 200), (200, 65), (64, 64)])
def test_a_model_that_sees_single_pixels_answers_tiles_as_the_whole(size: Size, overlap: int):
    given = picture(size)
    maps = blended_maps(sweep(overlap=overlap).strips(given, QUERIES))
    assert maps.shape == (3, *size)
    torch.testing.assert_close(maps, torch.stack([whole(given, label) for label in (1, 2, 3)]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(40, 50), (150, 190), (333, 70)])
@pytest.mark.parametrize("side", [48, 64])
def test_equal_answers_blend_without_seams(size: Size, side: int):
    def constant(batch: Batch) -> tuple[Tensor, Tensor]:
        return torch.full((len(batch.queries), 16, 16), 3.25), torch.ones(len(batch.queries))

    maps = blended_maps(sweep(constant, side=side, tile=50, overlap=13).strips(picture(size), QUERIES[:1]))
    torch.testing.assert_close(maps, torch.full((1, *size), 3.25), rtol=0, atol=1e-5)


def test_where_two_tiles_disagree_the_answer_changes_gradually():
    def by_tile(batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.pixel_values is not None
        level = batch.pixel_values[:, 0].amax((1, 2)) > 0
        return torch.where(level, 4.0, -4.0)[:, None, None].expand(-1, 16, 16).clone(), torch.ones(len(level))

    given = torch.zeros(64, 112, 3, dtype=torch.uint8)
    given[:, 100:] = 255
    line = blended_maps(sweep(by_tile, overlap=16).strips(given, QUERIES[:1]))[0, 30]
    assert torch.allclose(line[:48], torch.tensor(-4.0))
    assert torch.allclose(line[64:], torch.tensor(4.0))
    steps = line[47:65].diff()
    assert (steps > 0).all()
    assert steps.max() < 8 / 16 + 1e-5


def test_a_box_is_answered_by_the_tiles_that_it_touches_alone():
    seen: list[int] = []

    def counted(batch: Batch) -> tuple[Tensor, Tensor]:
        seen.append(len(batch))
        return torch.full((len(batch.queries), 16, 16), 5.0), torch.full((len(batch.queries),), 0.25)

    queries = [Query(prompt=Prompt(box=torch.tensor([10.0, 10.0, 40.0, 40.0])))]
    logits = joined(sweep(counted).strips(picture((150, 190)), queries))
    assert sum(seen) == 1
    full = logits.at_original_size()[0]
    assert torch.allclose(full[:42, :42], torch.tensor(5.0))
    assert torch.allclose(full[64:, 64:], torch.tensor(BACKGROUND))
    assert (full[30, 42:64].diff() < 0).all()
    assert logits.iou_scores().tolist() == [0.25]


def test_where_points_ask_no_tile_the_answer_is_background():
    queries = [Query(prompt=Prompt(points=torch.tensor([[10.0, 10.0]]), point_labels=torch.tensor([1])))]
    given = picture((150, 190))
    full = blended_maps(sweep().strips(given, queries))[0]
    torch.testing.assert_close(full[:64, :64], whole(given, 1)[:64, :64], rtol=1e-4, atol=1e-4)
    assert (full[64:] == BACKGROUND).all()
    assert (full[:, 64:] == BACKGROUND).all()


def test_tiles_go_through_the_model_in_batches_and_few_of_them_are_held():
    sizes: list[int] = []

    def counted(batch: Batch) -> tuple[Tensor, Tensor]:
        sizes.append(len(batch))
        return by_pixel(batch)

    made = sweep(counted, batch_size=4)
    strips = list(made.strips(picture((600, 150)), QUERIES))
    rows = made.tiling.rows((600, 150))
    assert len(strips) == len(rows) > 5
    assert sum(sizes) == len(rows) * len(rows[0])
    assert set(sizes[:-1]) == {4}
    assert max(len(strip.mask_logits.tiles) for strip in strips) <= 2 * len(rows[0])
    assert [strip.rows.start for strip in strips][1:] == [strip.rows.stop for strip in strips][:-1]
    assert (strips[0].rows.start, strips[-1].rows.stop) == (0, 600)


def test_some_rows_and_some_answers_are_those_of_all():
    logits = joined(sweep().strips(picture(), QUERIES))
    full = logits.at_original_size()
    torch.testing.assert_close(logits[[2, 0]].at_original_size(slice(33, 90)), full[[2, 0], 33:90])
    torch.testing.assert_close(logits[1:2].at_original_size(slice(0, 1)), full[1:2, :1])
    assert (len(logits), len(logits[1:])) == (3, 2)


def sets(kind: PromptKind) -> list[Task]:
    classes = Classes(names=("red", "green", "blue"))
    options = PromptOptions(prompt=kind)
    return [BinaryTask.from_options(options), SemanticTask.from_options(options, classes)]


def truth(size: Size, *, void: bool) -> Annotation:
    rng = np.random.default_rng(1)
    labels = np.zeros(size, np.uint8)
    labels[20:90, 30:120] = 1
    labels[100:140, 100:180] = 2 if void else 1
    if void:
        labels[rng.random(size) < 0.2] = VOID
    return Annotation.of(torch.from_numpy(labels))


def scored_picture(task: Task, kind: PromptKind, *, void: bool, size: Size = (150, 190)) -> Batch:
    annotation = truth(size, void=void)
    queries = task.evaluation_queries(annotation, np.random.default_rng(2))
    return Batch.collate([Sample(7, "name", None, annotation, queries, size, picture=picture(size))])


@pytest.mark.parametrize("added", [(), ("s_measure", "hd95", "precision")])
@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_scores_over_strips_are_those_of_the_whole_answers(which: int, void: bool, added: tuple[str, ...]):
    task = sets("none")[which]
    if which and added:
        added = ("precision",)
    batch = scored_picture(task, "none", void=void)
    made, loss = sweep(), WeightedLosses(parse_loss("bce+iou+boundary"))

    def losses(sums: Tensor) -> Tensor:
        return loss.weighted(loss.terms(sums))

    tiled, plain = (task.metrics(THRESHOLDS, search=True, added=AddedScores(added)) for _ in range(2))
    collect_by_tiles(made, batch, tiled, loss=loss, losses=losses)
    logits = torch.stack([whole(batch.pictures[0], query.label) for query in batch.queries])
    square = torch.nn.functional.pad(logits, (0, 0, 0, 190 - 150))
    preprocessing = Preprocessing(image_size=190)
    sums = sum_over_pixels(square, batch, preprocessing, [loss, *plain.reduces(batch)])
    plain.collect(batch, sums[1:], losses(sums[0]), plain.answers(square, batch, preprocessing))
    plain.collect_whole(batch, square, preprocessing)
    found, wanted = tiled.compute(), plain.compute()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    if which:
        assert np.abs(np.subtract(tiled.details()["confusion"]["none"], plain.details()["confusion"]["none"])).max() < 9


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_class_map_is_made_strip_by_strip(batch_size: int):
    task = sets("none")[1]
    queries, made, given = task.prediction_queries([]), sweep(batch_size=batch_size), picture()
    short = task.tiled_prediction(made.strips(given, queries), queries, THRESHOLDS)
    kept = task.tiled_prediction(made.strips(given, queries), queries, THRESHOLDS, keep=True)
    assert isinstance(short, ClassPrediction)
    assert isinstance(kept, ClassPrediction)
    assert short.mask_logits is None
    maps = blended_maps(made.strips(given, queries))
    highest, at = maps.max(0)
    expected = torch.where(highest > 0, at + 1, 0).to(torch.uint8)
    assert torch.equal(short.class_map, expected)
    assert torch.equal(replace(kept, known_map=None).class_map, expected)
    torch.testing.assert_close(kept.probability(2), maps[1].sigmoid())
    assert short.iou_scores.tolist() == [0.5] * 3


def test_a_mask_is_the_blended_answer():
    task, given = sets("none")[0], picture()
    queries = task.prediction_queries([])
    found = task.tiled_prediction(sweep().strips(given, queries), queries, dict.fromkeys(ASKED_KINDS, 0.7))
    expected = whole(given, 1).sigmoid()
    torch.testing.assert_close(found.probability_maps()[""], expected, rtol=1e-4, atol=1e-4)
    assert found.values().pixels.shape == (150, 190)
    assert (found.values().pixels > 0).mean() == pytest.approx((expected > 0.7).float().mean().item(), abs=1e-3)
