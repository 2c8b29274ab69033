"""Processes whose pictures are asked unequal numbers of queries, or none, train what one process trains.

Run as a script, this file trains with a number of queries that depends on the picture; all runs one after another, so
that two processes start once.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

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


SAME: dict[str, Any] = {"batch_size": 1, "devices": 2, "precision": "32", "augment": "none", "epochs": 1}
COMPARED: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "boxes": (7, False, {"prompt": "box"}),
    "accumulated": (7, False, {"prompt": "mixed", "accumulate": 2}),
    "accumulated, one without": (6, True, {"prompt": "mixed", "accumulate": 2}),
    "full, one without": (6, True, {"prompt": "mixed", "method": "full"}),
}
"""Runs by name: pictures, whether the second process has no query at all, options. Of seven the last step has one."""


class Run(NamedTuple):
    """A run of two processes, and how much it asks about each picture, see `ask`."""

    config: TrainConfig
    counts: dict[str, int]


def compared_run(folder: Path, sam_folder: str, pictures: int, without: bool, changes: dict[str, Any]) -> Run:
    pairs = write_pairs(folder / "pairs", pictures)
    silent = of_second_process(pairs, pictures) if without else []
    counts = by_pixels(pairs, tuple(0 if at in silent else max(count, without) for at, count in enumerate(VARIED)))
    options = {"val_fraction": 0.0, "warmup": 0.0, "box_jitter": 0.2}
    return Run(config(pairs, sam_folder, folder / "two", **{**SAME, **options, **changes}), counts)


def validated_run(folder: Path, sam_folder: str) -> Run:
    """Of two validation pictures the second process has the one that nothing is asked about."""
    pairs, held_out = write_pairs(folder / "pairs", 6), write_pairs(folder / "held_out", 2, seed=3)
    options = {"val_images": held_out / "images", "val_masks": held_out / "masks"}
    return Run(config(pairs, sam_folder, folder / "two", **SAME, **options), by_pixels(pairs, (2, 0, 1, 1, 1, 1)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> dict[str, Run]:
    """By name what two processes have trained."""
    folders = {name: tmp_path_factory.mktemp("run") for name in (*COMPARED, "validated")}
    runs = {name: compared_run(folders[name], sam_folder, *case) for name, case in COMPARED.items()}
    runs["validated"] = validated_run(folders["validated"], sam_folder)
    arguments = []
    for run in runs.values():
        path = run.config.output.with_suffix(".yaml")
        path.write_text(run.config.to_yaml())
        arguments += [str(path), json.dumps(run.counts)]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs


def trained_by_one(run: Run, output: Path, patch: pytest.MonkeyPatch) -> TrainConfig:
    """The same run in one process."""
    one = run.config.but(output=output, batch_size=2, devices=1)
    ask(patch, run.counts)
    train(one)
    return one


@pytest.mark.parametrize("name", COMPARED)
def test_two_processes_with_unequal_queries_are_one(
    runs: dict[str, Run], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    two, pictures = runs[name].config, COMPARED[name][0]
    one = trained_by_one(runs[name], tmp_path / "one", monkeypatch)
    steps = {7: 4, 6: 3}[pictures] // two.accumulate + (two.accumulate == 2 and pictures == 6)
    require_same_training(one, two, steps=steps)


def test_a_process_without_a_query_takes_part_in_validation(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    two = runs["validated"].config
    one = trained_by_one(runs["validated"], tmp_path / "one", monkeypatch)
    for ours, theirs in zip(rows(one.output), rows(two.output), strict=True):
        for name in ("val_iou", "val_iou_box", "val_loss"):
            assert float(theirs[name]) == pytest.approx(float(ours[name]), rel=1e-5)


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


if __name__ == "__main__":
    for path, counts in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        with pytest.MonkeyPatch.context() as patch:
            ask(patch, json.loads(counts))
            train(TrainConfig.from_yaml(path))
