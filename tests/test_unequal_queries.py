"""Processes whose pictures are asked unequal numbers of queries, or none, train what one process trains.

Run as a script, this file trains with a number of queries that depends on the picture.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_pairs
from sam_adapter import TrainConfig, train
from sam_adapter.batch import Annotation, Batch, Query
from sam_adapter.data.loading import EpochSampler, training_loader
from sam_adapter.tasks.binary import FOREGROUND, BinaryTask
from sam_adapter.training.setup import module_and_data
from training_runs import config, require_same_training, rows

VARIED = (3, 0, 1, 2, 0, 5)
"""Queries about each of six pictures, which all differ in size."""


def ask(patch: pytest.MonkeyPatch, counts: dict[str, int]) -> None:
    """Ask so many queries about pictures of so many pixels, in training and in validation."""

    def queries(self: BinaryTask, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        mask = annotation.target(FOREGROUND).numpy()
        prompts = self.prompts.drawn(mask, rng, count=counts[str(mask.size)])
        return [Query(prompt=prompt, label=FOREGROUND) for prompt in prompts]

    exact = BinaryTask.evaluation_queries

    def some(self: BinaryTask, annotation: Annotation, rng: np.random.Generator) -> list[Query]:
        return exact(self, annotation, rng) if counts[str(annotation.labels.numel())] else []

    patch.setattr(BinaryTask, "training_queries", queries)
    patch.setattr(BinaryTask, "evaluation_queries", some)


def by_pixels(pairs: Path, counts: tuple[int, ...]) -> dict[str, int]:
    """What `ask` needs for the pictures of a folder in order."""
    from PIL import Image

    sizes = [Image.open(path).size for path in sorted((pairs / "masks").iterdir())]
    assert len(set(sizes[:6])) == 6
    return {str(width * height): counts[at % 6] for at, (width, height) in enumerate(sizes)}


def of_second_process(pairs: Path, images: int) -> list[int]:
    """Positions of the pictures that the second of two processes gets in the first epoch."""
    dataset: Any = list(range(images))
    return [index for _, index, _ in EpochSampler(dataset, num_replicas=2, rank=1, shuffle=True, seed=0)]


def in_two_processes(run: TrainConfig, counts: dict[str, int]) -> None:
    path = run.output.with_suffix(".yaml")
    path.write_text(run.to_yaml())
    command = [sys.executable, __file__, str(path), json.dumps(counts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("pictures", "without", "changes"),
    [
        (7, False, {"prompt": "box"}),
        (7, False, {"prompt": "mixed", "accumulate": 2}),
        (6, True, {"prompt": "mixed", "accumulate": 2}),
        (6, True, {"prompt": "mixed", "method": "full"}),
    ],
    ids=str,
)
def test_two_processes_with_unequal_queries_are_one(
    tmp_path: Path, sam_folder: str, pictures: int, without: bool, changes: dict[str, Any], monkeypatch
):
    """With seven pictures the last step has one alone; with `without` the second process has no query at all."""
    pairs = write_pairs(tmp_path / "pairs", pictures)
    silent = of_second_process(pairs, pictures) if without else []
    counts = by_pixels(pairs, tuple(0 if at in silent else max(count, without) for at, count in enumerate(VARIED)))
    options = {"epochs": 1, "val_fraction": 0.0, "augment": "none", "warmup": 0.0, "box_jitter": 0.2}
    two = config(pairs, sam_folder, tmp_path / "two", batch_size=1, devices=2, precision="32", **{**options, **changes})
    one = two.but(output=tmp_path / "one", batch_size=2, devices=1)
    ask(monkeypatch, counts)
    train(one)
    in_two_processes(two, counts)
    steps = {7: 4, 6: 3}[pictures] // two.accumulate + (two.accumulate == 2 and pictures == 6)
    require_same_training(one, two, steps=steps)


def test_the_second_process_has_what_the_tests_above_say(tmp_path: Path, sam_folder: str, monkeypatch):
    pairs = write_pairs(tmp_path / "pairs", 6)
    silent = of_second_process(pairs, 6)
    ask(monkeypatch, by_pixels(pairs, tuple(0 if at in silent else 1 + at for at in range(6))))
    module, data = module_and_data(
        config(pairs, sam_folder, tmp_path / "run", val_fraction=0.0, augment="none", precision="32")
    )
    batch: Batch
    for rank, expected in ((0, sum(1 + at for at in range(6) if at not in silent)), (1, 0)):
        loader = training_loader(data.train_set, batch_size=1, workers=0, processes=2, rank=rank, seed=0, pin=False)
        assert sum(len(batch.queries) for batch in loader) == expected
    # Each image weighs 1, however much is asked about it; those that nothing is asked about weigh nothing.
    loader = training_loader(data.train_set, batch_size=6, workers=0, processes=1, rank=0, seed=0, pin=False)
    (batch,) = loader
    assert sum(batch.weight) == pytest.approx(3)
    assert module.losses(batch)[0].shape == (len(batch.queries),)


def test_a_batch_without_a_query_has_a_gradient_of_zero(tmp_path: Path, sam_folder: str, monkeypatch):
    """So that DistributedDataParallel finds nothing unused, and waits for nothing.

    Tensors of the prompt encoder may be untouched by a query too, and it is told to look for them.
    """
    pairs = write_pairs(tmp_path / "pairs", 6)
    ask(monkeypatch, by_pixels(pairs, (0,) * 6))
    for method in ("sam_adapter", "decoder", "full"):
        module, data = module_and_data(config(pairs, sam_folder, tmp_path / "run", val_fraction=0.0, method=method))
        batch = Batch.collate([data.train_set[0], data.train_set[1]])
        assert not batch.queries
        losses, named = module.losses(batch)
        assert losses.shape == (0,)
        assert set(named) == {"loss", "iou", "loss_bce", "loss_iou"}
        losses.sum().backward()
        trained = {name: one.grad for name, one in module.segmenter.named_parameters() if one.requires_grad}
        without = [name for name, grad in trained.items() if grad is None]
        assert all("prompt_encoder" in name for name in without)
        assert bool(without) == module.segmenter.method.some_untouched
        assert not any(grad.any() for grad in trained.values() if grad is not None)


def test_a_process_without_a_query_takes_part_in_validation(tmp_path: Path, sam_folder: str, monkeypatch):
    """Of two validation pictures the second process has the one that nothing is asked about."""
    pairs, held_out = write_pairs(tmp_path / "pairs", 6), write_pairs(tmp_path / "held_out", 2, seed=3)
    counts = by_pixels(pairs, (2, 0, 1, 1, 1, 1))
    options = {"val_images": held_out / "images", "val_masks": held_out / "masks", "augment": "none", "epochs": 1}
    two = config(pairs, sam_folder, tmp_path / "two", batch_size=1, devices=2, precision="32", **options)
    one = two.but(output=tmp_path / "one", batch_size=2, devices=1)
    ask(monkeypatch, counts)
    train(one)
    in_two_processes(two, counts)
    for ours, theirs in zip(rows(one.output), rows(two.output), strict=True):
        for name in ("val_iou", "val_iou_box", "val_loss"):
            assert float(theirs[name]) == pytest.approx(float(ours[name]), rel=1e-5)


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        ask(patch, json.loads(sys.argv[2]))
        train(TrainConfig.from_yaml(sys.argv[1]))
