"""Batches: what is stacked, and which prompt belongs to which image."""

import dataclasses

import pytest
import torch

from sam_adapter.batch import Batch, Prompt, Sample
from sam_adapter.segmenter import SamSegmenter


def test_images_of_a_batch_may_have_different_numbers_of_prompts(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    samples = []
    for index, (size, count) in enumerate((((40, 60), 3), ((50, 50), 1), ((64, 30), 2))):
        boxes = torch.tensor([[4.0, 5, 20, 25], [8.0, 2, 28, 30], [1.0, 1, 9, 33]])[:count]
        samples.append(
            Sample(
                index=index + 10,
                name=str(index),
                pixel_values=torch.randn(3, 64, 64),
                target=torch.ones(1, *size),
                prompts=[Prompt(boxes=box[None]) for box in boxes],
                original_size=size,
                weight=float(index != 1),
            )
        )
    batch = Batch.collate(samples)
    assert batch.image_index == [0, 0, 0, 1, 2, 2]
    assert batch.weight == [1 / 3, 1 / 3, 1 / 3, 0, 1 / 2, 1 / 2]
    together = segmenter(batch).mask_logits
    alone = [logits for sample in samples for logits in segmenter(Batch.collate([sample])).mask_logits]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="for each prompt"):
        dataclasses.replace(batch, image_index=[0, 1])
