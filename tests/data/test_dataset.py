"""What a data set hands out is what its files hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_pairs
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.data.dataset import PairDataset
from sam_adapter.errors import DataError
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.prompts import PromptMaker


def test_a_pair_is_what_the_files_hold_and_is_refused_if_its_sizes_differ(tmp_path: Path):
    pairs = write_pairs(tmp_path, 2)
    records = list_pairs(pairs / "images", pairs / "masks", "{stem}").records
    dataset = PairDataset(records, Preprocessing(image_size=64), BinaryTask(prompts=PromptMaker(kind="none")))
    image, annotation = dataset.pair(1)
    assert (image == np.asarray(Image.open(records[1].image))).all()
    assert (annotation.target(1).numpy() == (np.asarray(Image.open(records[1].mask)) > 0)).all()
    assert annotation.counted() is None
    Image.open(records[0].mask).save(records[1].mask)
    with pytest.raises(DataError, match="masks must match"):
        dataset.pair(1)


def test_training_asks_as_often_as_it_is_told_and_evaluation_once_of_each_kind(tmp_path: Path):
    pairs = write_pairs(tmp_path, 1)
    records = list_pairs(pairs / "images", pairs / "masks", "{stem}").records
    task = BinaryTask(prompts=PromptMaker(kind="mixed"), prompts_per_image=5)
    for training, asked in ((True, 5), (False, 3)):
        dataset = PairDataset(records, Preprocessing(image_size=64), task, training=training)
        sample = dataset[0]
        assert len(sample.queries) == asked
        assert {query.prompt.kind for query in sample.queries} == {"box", "points", "none"}
        assert sample.annotation is not None
        assert np.array_equal(sample.annotation.labels, dataset.pair(0)[1].labels)
        assert not sample.annotation.has_void
        again = dataset[(0, 0, 0.25)]
        assert again.weight == 0.25
        for query, other in zip(sample.queries, again.queries, strict=True):
            for one, two in zip(query.prompt.tensors, other.prompt.tensors, strict=True):
                assert (one is None and two is None) or torch.equal(one, two)  # pyright: ignore[reportArgumentType]
