"""Rounds of corrective points: where points lie, what is asked again, and what the loss is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from object_scenes import discs
from sam_adapter.batch import Annotation, Batch, GivenMask, Prompt, Query, Sample
from sam_adapter.config.labels import VOID
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import ConfigError
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks import pixels
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.training.corrections import chosen, corrected, error_points, prompted
from sam_adapter.training.lightning_module import TrainingModule
from test_model import BOX, POINTS, config, example_batch

PREPROCESSING = Preprocessing(image_size=64)


def asked(*, void: bool = True) -> Batch:
    """Two pictures of discs; the objects of the first, then those of the second."""
    samples = []
    for index in range(2):
        labels = discs(np.random.default_rng(index))
        if void:
            labels[:, 40:60] = VOID
        numbers = [number for number in np.unique(labels).tolist() if number not in (0, VOID)]
        queries = [Query(prompt=BOX if at % 2 else POINTS, label=number) for at, number in enumerate(numbers)]
        annotation = Annotation.of(torch.from_numpy(labels))
        samples.append(Sample(7 + index, str(index), None, annotation, queries, (labels.shape[0], labels.shape[1])))
    return Batch.collate(samples)


def whole(batch: Batch, logits: Tensor, at: int) -> tuple[Tensor, Tensor, Tensor]:
    """Answer, target and what counts of a query, ``(H, W)`` bool each."""
    image = batch.image_index[at]
    truth, size = batch.annotations[image], batch.original_sizes[image]
    assert truth is not None
    full = PREPROCESSING.to_original_size(logits[at : at + 1], size)[0]
    counted = truth.counted()
    return full > 0, truth.target(batch.queries[at].label), torch.ones(size).bool() if counted is None else counted


@pytest.mark.parametrize("band", [700, 1 << 30])
@pytest.mark.parametrize("void", [False, True])
def test_points_lie_in_the_error_and_say_what_is_true_there(band: int, void: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixels, "BAND_PIXELS", band)
    batch = asked(void=void)
    places, signs = set(), set()
    for seed in range(6):
        logits = torch.randn(len(batch.queries), 16, 16, generator=torch.Generator().manual_seed(seed))
        for at, point in enumerate(error_points(batch, logits, PREPROCESSING, seed=(seed,))):
            assert point is not None
            x, y, label = point.long().tolist()
            answer, target, counted = whole(batch, logits, at)
            assert answer[y, x] != target[y, x]
            assert counted[y, x]
            assert label == target[y, x]
            places.add((seed, batch.image_index[at], x, y))
            signs.add(label)
    assert signs == {0, 1}
    assert len({(x, y) for *_, x, y in places}) >= 10  # another seed, another place


def test_a_right_answer_has_a_point_on_the_object_and_nothing_to_say_no_point():
    batch = asked(void=False)
    seen = []
    for at in range(len(batch.queries)):
        one = chosen(batch, [at])
        _, target, _ = whole(batch, torch.zeros(len(batch.queries), 16, 16), at)
        side = max(target.shape)  # every pixel is one value of the mask
        logits = torch.full((1, side, side), -9.0)
        logits[0, : target.shape[0], : target.shape[1]][target] = 9
        (point,) = error_points(one, logits, Preprocessing(image_size=side), seed=(1,))
        assert point is not None
        x, y, label = point.long().tolist()
        assert target[y, x]
        assert label == 1
        seen.append((x, y))
    assert len(set(seen)) > 1
    nothing = replace(one, queries=[replace(one.queries[0], label=12345)])
    assert error_points(nothing, torch.full((1, 16, 16), -9.0), PREPROCESSING, seed=(1,)) == [None]


def test_points_of_an_image_do_not_depend_on_the_rest_of_the_batch():
    """So that several processes train what one does."""
    batch = asked()
    logits = torch.randn(len(batch.queries), 16, 16, generator=torch.Generator().manual_seed(0))
    every = error_points(batch, logits, PREPROCESSING, seed=(3, 1))
    for at in range(len(batch.queries)):
        (alone,) = error_points(chosen(batch, [at]), logits[at : at + 1], PREPROCESSING, seed=(3, 1))
        wanted = every[at]
        assert alone is not None
        assert wanted is not None
        assert torch.equal(alone, wanted)


def test_what_is_asked_again_has_all_that_was_said_and_the_former_answer():
    batch = asked()
    logits = torch.randn(len(batch.queries), 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    points = error_points(batch, logits, PREPROCESSING, seed=(0,))
    again = corrected(batch, logits, PREPROCESSING, mask_side=16, seed=(0,))
    twice = corrected(again, logits, PREPROCESSING, mask_side=32, seed=(1,))
    for at, (former, query) in enumerate(zip(batch.queries, again.queries, strict=True)):
        prompt, point = query.prompt, points[at]
        assert point is not None
        assert prompt.points is not None
        assert prompt.point_labels is not None
        assert prompt.mask_input is not None
        assert not prompt.mask_input.requires_grad
        assert torch.equal(prompt.mask_input, logits[at].detach()[None])
        before = former.prompt.points if former.prompt.points is not None else torch.zeros(0, 2)
        assert torch.equal(prompt.points, torch.cat([before, point[None, :2]]))
        assert prompt.point_labels.tolist()[len(before) :] == [int(point[2])]
        assert (prompt.box is None) == (former.prompt.box is None)
        assert (query.label, query.share) == (former.label, former.share)
        last = twice.queries[at].prompt
        assert last.points is not None
        assert last.mask_input is not None
        assert torch.equal(last.points[:-1], prompt.points)
        assert last.mask_input.shape == (1, 32, 32)


def test_a_mask_gives_way_to_the_former_answer_and_its_box_stays():
    batch = asked(void=False)
    shape = batch.original_sizes[0]
    mask = GivenMask.of(np.eye(*shape, dtype=bool)[::-1])
    masked = replace(batch, queries=[replace(query, prompt=Prompt(mask=mask)) for query in batch.queries])
    assert prompted(masked) == list(range(len(batch.queries)))
    logits = torch.randn(len(batch.queries), 16, 16, generator=torch.Generator().manual_seed(0))
    for turn in range(2):
        masked = corrected(masked, logits + turn, PREPROCESSING, mask_side=16, seed=(turn,))
        for query, own in zip(masked.queries, logits + turn, strict=True):
            found = PREPROCESSING.prompt_to_input(query.prompt, shape, 16)
            assert found.mask_input is not None
            assert torch.equal(found.mask_input[0], own)
            assert found.box is not None
            assert found.points is not None
            assert len(found.points) == turn + 1


def module_of(folder: str, rounds: int) -> TrainingModule:
    torch.manual_seed(0)
    own: TrainConfig = config(folder, correction_rounds=rounds, precision="32", accelerator="cpu", prompt="mixed")
    segmenter = SamSegmenter.from_config(own)
    return TrainingModule(segmenter, BinaryTask.from_options(own), own, Machine.asked(own), images=3)


def test_losses_of_all_answers_are_added_and_the_picture_is_encoded_once(
    sam_folder: str, monkeypatch: pytest.MonkeyPatch
):
    batch = example_batch([BOX, Prompt(), POINTS])
    plain, module = module_of(sam_folder, 0), module_of(sam_folder, 2)
    calls = []
    encode = module.segmenter.backbone.encode
    monkeypatch.setattr(module.segmenter.backbone, "encode", lambda *given: calls.append(1) or encode(*given))
    found, named = module.losses(batch)
    assert len(calls) == 1
    wanted, first = plain.losses(batch)
    assert torch.equal(named["iou"], first["iou"])
    assert prompted(batch) == [0, 2]
    asked_again, sums = chosen(batch, [0, 2]), [wanted]
    for turn in range(2):
        logits = plain.segmenter(asked_again).mask_logits[:, 0]
        side = plain.segmenter.backbone.mask_input_size
        asked_again = corrected(
            asked_again, logits, plain.segmenter.preprocessing, mask_side=side, seed=(plain.config.seed, 0, turn)
        )
        more = torch.zeros(3)
        more[[0, 2]] = plain.losses(asked_again)[0]
        sums.append(more)
    torch.testing.assert_close(found, torch.stack(sums).sum(0))
    assert torch.equal(found[1], wanted[1])  # nothing to correct where nothing was said


def test_a_run_without_prompts_has_nothing_to_correct():
    with pytest.raises(ConfigError, match="correction_rounds: answers to prompts are corrected"):
        config("m", prompt="none", correction_rounds=1, images=Path("i"))
