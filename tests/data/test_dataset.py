"""What a data set hands out is what its files hold."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import write_pairs
from sam_adapter.annotations.folders import list_pairs
from sam_adapter.annotations.reading import files
from sam_adapter.data import dataset as dataset_module
from sam_adapter.data.augmentation import Augmentation
from sam_adapter.data.dataset import PairDataset
from sam_adapter.data.loading import training_loader
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


def pair_dataset(folder: Path, count: int, augmentation: Augmentation | None = None) -> PairDataset:
    pairs = write_pairs(folder, count)
    records = list_pairs(pairs / "images", pairs / "masks", "{stem}").records
    task = BinaryTask(prompts=PromptMaker(kind="box"))
    return PairDataset(records, Preprocessing(image_size=64), task, training=True, augmentation=augmentation)


@pytest.mark.parametrize("augmentation", [None, Augmentation("none")])
def test_without_augmentation_no_array_of_the_picture_is_made_and_it_is_gone_before_its_mask_is_read(
    tmp_path: Path, augmentation: Augmentation | None, monkeypatch: pytest.MonkeyPatch
):
    dataset = pair_dataset(tmp_path, 1, augmentation)
    wanted = dataset.preprocessing.pixel_values(dataset.pair(0)[0])
    pictures: list[weakref.ref[Any]] = []
    read_picture = files.read_picture

    def noted(*arguments: Any, **options: Any) -> Any:
        picture = read_picture(*arguments, **options)
        assert isinstance(picture, Image.Image)
        pictures.append(weakref.ref(picture))
        return picture

    read = dataset_module.read_labels

    def read_alone(*arguments: Any, **options: Any) -> np.ndarray:
        assert [one() for one in pictures] == [None]
        return read(*arguments, **options)

    monkeypatch.setattr(dataset_module, "read_picture", noted)
    monkeypatch.setattr(dataset_module, "read_labels", read_alone)
    sample = dataset[0]
    assert sample.pixel_values is not None
    assert torch.equal(sample.pixel_values, wanted)


def test_sizes_that_differ_are_refused_without_augmentation_too(tmp_path: Path):
    dataset = pair_dataset(tmp_path, 2)
    Image.open(dataset.records[0].mask).save(dataset.records[1].mask)
    with pytest.raises(DataError, match="masks must match"):
        dataset[1]


def test_a_batch_is_given_up_before_the_next_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = pair_dataset(tmp_path, 3)
    loader = training_loader(dataset, batch_size=1, workers=0, processes=1, rank=0, seed=0, pin=False)
    given: list[weakref.ref[Any]] = []
    read = PairDataset._read

    def read_alone(self: PairDataset, *arguments: int) -> Any:
        assert [one() for one in given] == [None] * len(given)
        return read(self, *arguments)

    monkeypatch.setattr(PairDataset, "_read", read_alone)
    batches = iter(loader)
    for _ in range(3):
        batch = next(batches)
        given.append(weakref.ref(batch))
        del batch


def test_a_mask_without_a_table_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = pair_dataset(tmp_path, 1)
    decoded = []
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **options: decoded.append(1) or opened(*given, **options))
    dataset[0]
    assert len(decoded) == 2  # the picture and its mask
