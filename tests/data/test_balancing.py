"""Which pictures an epoch draws when classes or empty pictures are to have another share than the set gives them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import write_pairs
from sam_adapter.data.balancing import sampling_weights
from sam_adapter.data.inspection.findings import PairLook
from sam_adapter.data.inspection.objects import ClassLook
from sam_adapter.data.loading import EpochSampler
from sam_adapter.training.setup import module_and_data
from training_runs import config


def look(*labels: int) -> PairLook:
    classes = tuple(ClassLook(label, 10, 1) for label in labels)
    return PairLook(size=(8, 8), foreground=0.2 if labels else 0.0, classes=classes)


LOOKS = [*[look(1)] * 90, *[look(1, 2)] * 10]


def drawn(chances: np.ndarray | None, count: int, *, epoch: int = 0, processes: int = 1, rank: int = 0):
    sampler = EpochSampler([0] * count, num_replicas=processes, rank=rank, shuffle=True, seed=3)  # pyright: ignore
    sampler.chances = chances
    sampler.set_epoch(epoch)
    return list(sampler)


def test_rare_classes_are_drawn_more_often():
    chances = sampling_weights(LOOKS, balance=True, empty_share=None)
    assert chances is not None
    assert chances.sum() == pytest.approx(1)
    assert chances[95] / chances[5] == pytest.approx(np.sqrt(10))  # a tenth of the pictures have the rarer class
    share = np.mean([index >= 90 for epoch in range(40) for _, index, _ in drawn(chances, 100, epoch=epoch)])
    assert share == pytest.approx(10 * np.sqrt(10) / (90 + 10 * np.sqrt(10)), abs=0.02)


def test_empty_pictures_have_the_share_that_is_asked_for():
    looks = [*LOOKS, *[look()] * 100]
    assert sampling_weights(looks, balance=False, empty_share=None) is None
    chances = sampling_weights(looks, balance=False, empty_share=0.1)
    assert chances is not None
    assert chances[100:].sum() == pytest.approx(0.1)
    assert len(set(np.round(chances[:100], 12))) == 1
    both = sampling_weights(looks, balance=True, empty_share=0.1)
    assert both is not None
    assert both[100:].sum() == pytest.approx(0.1)
    assert both[95] / both[5] == pytest.approx(np.sqrt(200 / 10) / np.sqrt(200 / 100))
    assert sampling_weights(LOOKS, balance=False, empty_share=0.5) == pytest.approx(np.full(100, 0.01))


def test_draws_differ_by_epoch_and_a_second_draw_is_another_sample():
    chances = np.full(10, 0.1)
    first, again, other = drawn(chances, 10), drawn(chances, 10), drawn(chances, 10, epoch=1)
    assert first == again != other
    assert len({(epoch, index) for epoch, index, _ in first}) == 10
    assert max(Counter(index for _, index, _ in first).values()) > 1
    assert [(epoch, weight) for epoch, _, weight in drawn(None, 10)] == [(0, 1.0)] * 10


def test_processes_share_the_draws_of_one():
    chances = np.linspace(1, 2, 7) / np.linspace(1, 2, 7).sum()
    whole = drawn(chances, 7)
    parts = [drawn(chances, 7, processes=2, rank=rank) for rank in (0, 1)]
    assert [len(part) for part in parts] == [4, 4]
    mixed = [one for pair in zip(*parts, strict=True) for one in pair]
    assert mixed[:7] == whole
    assert mixed[7][2] == 0


def test_a_run_draws_as_it_is_told(tmp_path: Path, sam_folder: str, monkeypatch: pytest.MonkeyPatch):
    pairs = write_pairs(tmp_path, 8)
    for index in range(6):
        path = pairs / f"masks/img_{index:02}.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    options = {"val_fraction": 0.0, "empty_share": 0.25}
    _, data = module_and_data(config(pairs, sam_folder, tmp_path / "run", **options))
    monkeypatch.setattr(data, "_place", lambda: (1, 0, 0, False))
    sampler = data.train_dataloader().sampler
    assert isinstance(sampler, EpochSampler)
    chances = sampler.chances
    assert chances is not None
    assert chances[:6].sum() == pytest.approx(0.25)
