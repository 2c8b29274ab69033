"""Batches: what is stacked, and which query belongs to which image."""

import dataclasses

import pytest
import torch

from sam_adapter.backbones.base import by_group
from sam_adapter.batch import VOID, Annotation, Batch, EncodedImage, Prompt, Query, Sample
from sam_adapter.segmenter import SamSegmenter


def test_images_of_a_batch_may_have_different_numbers_of_queries(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    samples = []
    for index, (size, count) in enumerate((((40, 60), 3), ((50, 50), 1), ((64, 30), 2))):
        boxes = torch.tensor([[4.0, 5, 20, 25], [8.0, 2, 28, 30], [1.0, 1, 9, 33]])[:count]
        samples.append(
            Sample(
                index=index + 10,
                name=str(index),
                pixel_values=torch.randn(3, 64, 64),
                annotation=Annotation.of(torch.ones(size, dtype=torch.uint8)),
                queries=[Query(prompt=Prompt(box=box)) for box in boxes],
                original_size=size,
                weight=float(index != 1),
            )
        )
    batch = Batch.collate(samples)
    assert batch.image_index == [0, 0, 0, 1, 2, 2]
    assert batch.weight == [1 / 3, 1 / 3, 1 / 3, 0, 1 / 2, 1 / 2]
    assert batch.for_queries(batch.indices) == [10, 10, 10, 11, 12, 12]
    together = segmenter(batch).mask_logits
    alone = torch.cat([segmenter(Batch.collate([sample])).mask_logits for sample in samples])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="for each query"):
        dataclasses.replace(batch, image_index=[0, 1])


def test_an_image_may_be_asked_nothing():
    def sample(index: int, queries: int) -> Sample:
        return Sample(index, "", torch.zeros(3, 8, 8), None, [Query()] * queries, (8, 8))

    batch = Batch.collate([sample(0, 0), sample(1, 2), sample(2, 0), sample(3, 1)])
    assert (batch.image_index, batch.weight) == ([1, 1, 3], [0.5, 0.5, 1])
    nothing = Batch.collate([sample(0, 0)])
    assert (len(nothing), nothing.queries, nothing.image_index, nothing.weight) == (1, [], [], [])


def test_an_annotation_gives_the_targets_of_its_labels_in_any_rows():
    labels = torch.tensor([[0, 1, 2], [VOID, 2, 1], [1, 1, 0]], dtype=torch.uint8)
    annotation = Annotation.of(labels)
    assert annotation.has_void
    assert annotation.target(2).tolist() == [[False, False, True], [False, True, False], [False] * 3]
    assert annotation.target(1, slice(1, 3)).tolist() == [[False, False, True], [True, True, False]]
    counted = annotation.counted()
    assert counted is not None
    assert counted.tolist() == [[True] * 3, [False, True, True], [True] * 3]
    assert Annotation.of(labels[2:]).counted() is None


def test_encoded_images_are_chosen_and_taken_apart_in_all_their_tensors():
    encoded = EncodedImage({"coarse": torch.arange(6.0).reshape(3, 2), "fine": torch.arange(3.0)[:, None]})
    chosen = encoded.select([2, 0, 2])
    assert chosen["coarse"].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert chosen["fine"].tolist() == [[2], [0], [2]]
    again = EncodedImage.stack(encoded.unstack())
    assert len(again) == 3
    for name, tensor in encoded.tensors.items():
        assert torch.equal(again[name], tensor)


def test_groups_are_computed_together_and_given_in_the_order_of_their_keys():
    seen = []

    def compute(members: list[int]) -> list[int]:
        seen.append(members)
        return [10 * at for at in members]

    assert by_group(["a", "b", "a", "c", "b"], compute) == [0, 10, 20, 30, 40]
    assert seen == [[0, 2], [1, 4], [3]]
