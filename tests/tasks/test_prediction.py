"""Predictions bring to original size what is asked for, each query's with its own size and threshold."""

import numpy as np
import pytest
import torch

from sam_adapter.batch import Batch, Output, Prompt, Query, Sample
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks import label_maps
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.object_prediction import ObjectPrediction, colours_apart
from sam_adapter.tasks.prediction import Prediction
from sam_adapter.tasks.prompts import PromptMaker


def test_each_image_has_its_size_and_the_threshold_of_its_prompt():
    box, points = Prompt(box=torch.zeros(4)), Prompt(points=torch.zeros(1, 2), point_labels=torch.ones(1))
    sizes = [(40, 60), (50, 30), (7, 9)]
    batch = Batch.collate(
        [
            Sample(index, "", None, None, [Query(prompt=prompt)], size)
            for index, (prompt, size) in enumerate(zip((box, points, Prompt()), sizes, strict=True))
        ]
    )
    logits = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    output = Output(logits.bfloat16(), torch.arange(9.0).reshape(3, 3))
    preprocessing, thresholds = Preprocessing(image_size=64), {"box": 0.3, "points": 0.5, "none": 0.8}
    task = BinaryTask(prompts=PromptMaker(kind="mixed"))
    found = task.predictions(batch, output, preprocessing, thresholds)  # pyright: ignore[reportArgumentType]
    assert [one.original_size for one in found] == sizes
    for at, (one, threshold) in enumerate(zip(found, thresholds.values(), strict=True)):
        wanted = preprocessing.to_original_size(output.mask_logits[at].float(), sizes[at]).sigmoid()
        assert len(one) == 3
        assert torch.equal(one.iou_scores, output.iou_scores[at])
        torch.testing.assert_close(one.probabilities, wanted)
        assert torch.equal(one.masks, one.probabilities > threshold)
        assert torch.equal(one.mask(1), one.masks[1])
        assert torch.equal(one.mask(-1), one.masks[2])
        with pytest.raises(IndexError, match="expected one of 3 masks, from 0 on, got 3"):
            one.part(3)
        assert 0 < one.masks.float().mean() < 1


def test_only_what_is_asked_for_comes_to_original_size(monkeypatch: pytest.MonkeyPatch):
    seen = []
    up = Preprocessing.to_original_size

    def counted(self: Preprocessing, mask_logits: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(len(mask_logits))
        return up(self, mask_logits, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Preprocessing, "to_original_size", counted)
    prediction = Prediction(
        mask_logits=torch.randn(100, 16, 16),
        iou_scores=torch.zeros(100),
        original_size=(30, 40),
        preprocessing=Preprocessing(image_size=64),
        threshold=0.5,
    )
    assert not seen
    prediction.mask(99)
    assert seen == [1]
    assert prediction.probabilities.shape == (100, 30, 40)
    assert seen == [1] * 101  # one after another
    assert prediction.probabilities is prediction.probabilities
    assert len(seen) == 101


@pytest.mark.parametrize(
    ("size", "radius", "outline"), [((60, 80), 8, 1), ((2000, 2000), 12, 1), ((2000, 2000), 300, 5)]
)
def test_outlines_of_small_objects_in_large_pictures_are_thin(size: tuple[int, int], radius: int, outline: int):
    logits = torch.full((1, *size), -5.0)
    logits[0, : 2 * radius, : 2 * radius] = 5
    found = ObjectPrediction(
        mask_logits=logits,
        iou_scores=torch.ones(1),
        labels=(1,),
        original_size=size,
        preprocessing=Preprocessing(image_size=max(size)),
        threshold=0.5,
    )
    assert (found.regions().outline, len(found.regions().shown)) == (outline, 1)


@pytest.mark.parametrize("band", [1, 1 << 22])
def test_objects_two_pixels_apart_have_different_colours(band: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(label_maps, "BAND_PIXELS", band)
    rows, columns = np.mgrid[:30, :33]
    labels = (1 + rows // 5 * 11 + columns // 3).astype(np.int32)
    labels[(rows % 5 == 4) | (columns % 3 == 2)] = 0  # a pixel between neighbours, two steps from one to the other
    colours = np.concatenate([[-1], colours_apart(labels, 7)])[labels]
    for shift in ((2, 0), (0, 2), (2, 2)):
        moved = np.roll(colours, shift, (0, 1))[2:, 2:-2], np.roll(labels, shift, (0, 1))[2:, 2:-2]
        own = colours[2:, 2:-2], labels[2:, 2:-2]
        apart = (own[1] != moved[1]) & (own[1] > 0) & (moved[1] > 0)
        assert apart.any()
        assert (own[0] != moved[0])[apart].all()
