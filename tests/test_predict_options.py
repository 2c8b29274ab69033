"""Each option of `predict` changes what it should, with a small SAM and four pictures."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import golden_cases
from conftest import random_sam, write_pages, write_pairs
from option_table import FINDING, Changes, HeldBy, looked_at, require_all_options
from sam_adapter import PredictConfig, predict
from sam_adapter.batch import Batch
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.errors import ConfigError, DataError
from sam_adapter.segmenter import SamSegmenter

PATHS = {"adapter", "input", "output", "prompts"}


@dataclass(frozen=True)
class Run:
    """What a run wrote.

    Attributes:
        files: Name below the output folder to pixels.
        batches: Pictures of each step.
        workers: Reading processes of each loader.
    """

    files: dict[str, np.ndarray]
    batches: list[int]
    workers: list[int]

    @property
    def kinds(self) -> set[str]:
        return {name.split("/")[0] for name in self.files}

    def all_of(self, kind: str) -> np.ndarray:
        return np.concatenate([pixels.ravel() for name, pixels in self.files.items() if name.startswith(kind)])


def same_masks(plain: Run, changed: Run) -> None:
    """But for the rounding of probabilities to 16 bits."""
    assert plain.files.keys() == changed.files.keys()
    for name, pixels in plain.files.items():
        if name.startswith("probabilities"):
            assert np.abs(changed.files[name].astype(int) - pixels).max() <= 1


def other_probabilities(plain: Run, changed: Run) -> None:
    assert plain.files.keys() == changed.files.keys()
    assert np.abs(plain.all_of("probabilities").astype(int) - changed.all_of("probabilities")).max() > 20


def threshold(plain: Run, changed: Run) -> None:
    """The probabilities stay, and masks are where they are above it."""
    same_masks(plain, changed)
    probabilities = changed.all_of("probabilities") / 65535
    sure = np.abs(probabilities - 0.4) > 1e-4
    assert ((changed.all_of("masks") > 0) == (probabilities > 0.4))[sure].all()
    assert (changed.all_of("masks") > 0).sum() > (plain.all_of("masks") > 0).sum()


def prompted(plain: Run, changed: Run) -> None:
    """The picture that the file has a prompt for, and no other."""
    for name, pixels in plain.files.items():
        if name.startswith("probabilities"):
            assert np.array_equal(changed.files[name], pixels) != name.endswith("img_01.png"), name


PREDICT: Mapping[str, HeldBy | Changes] = {
    "adapter": Changes({"adapter": "second"}, other_probabilities),
    "model": Changes({"adapter": None, "model": "other_sam"}, other_probabilities),
    "image_size": Changes({"image_size": 64}, other_probabilities, adapter=None, model="sam"),
    "tile": Changes({"tile": 32}, other_probabilities),
    "overlap": Changes({"overlap": 0}, other_probabilities, tile=32),
    **FINDING,
    "precision": Changes({"precision": "bf16-mixed"}, other_probabilities),
    "attention": HeldBy("test_predict_options.py", "test_how_blocks_are_computed"),
    "compile": HeldBy("test_predict_options.py", "test_how_blocks_are_computed"),
    "accelerator": HeldBy("test_predict_options.py", "test_a_gpu_that_is_not_there_is_refused"),
    "workers": Changes({"workers": 1}, lambda plain, changed: (plain.workers, changed.workers) == ([0], [1])),
    "seed": Changes({"seed": 1}, same_masks),  # nothing is drawn at random
    "input": Changes(
        {"input": "images/img_0[12].png"}, lambda plain, changed: (len(plain.files), len(changed.files)) == (8, 4)
    ),
    "pages": Changes(
        {"pages": "all"}, lambda plain, changed: (len(plain.files), len(changed.files)) == (4, 8), input="paged/images"
    ),
    "max_pixels": HeldBy("test_predict_options.py", "test_pictures_above_the_limit_are_refused"),
    "output": Changes({"output": "elsewhere"}, same_masks),
    "prompts": Changes({"prompts": "prompts.json"}, prompted),
    "save": Changes({"save": "overlays"}, lambda plain, changed: changed.kinds == {"overlays"} != plain.kinds),
    "threshold": Changes({"threshold": 0.4}, threshold),
    "batch_size": Changes(
        {"batch_size": 3}, lambda plain, changed: (plain.batches, changed.batches) == ([1, 1, 1, 1], [3, 1])
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a file of prompts, two adapters and two base models."""
    folder = write_pairs(tmp_path_factory.mktemp("predicting"), 4, size=(40, 40))
    write_pages(folder / "paged", folder)
    (folder / "prompts.json").write_text(json.dumps({"img_01.png": {"box": [5, 6, 30, 25]}}))
    (folder / "sam").symlink_to(golden_cases.base())
    random_sam().save_pretrained(folder / "other_sam")
    for name, case in zip(("first", "second"), golden_cases.CASES, strict=False):
        save_adapter(folder / name, golden_cases.segmenter(case))
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Iterator[Callable[[Mapping[str, Any]], Run]]:
    """Runs, of which equal ones are made once."""
    done: dict[str, Run] = {}
    workers: list[int] = []
    batches: list[int] = []
    make, answer = DataLoader._get_iterator, SamSegmenter.forward

    def watched(loader: DataLoader) -> Any:
        workers.append(loader.num_workers)
        return make(loader)

    def counted(segmenter: SamSegmenter, batch: Batch, **options: Any) -> Any:
        batches.append(len(batch))
        return answer(segmenter, batch)

    def once(values: Mapping[str, Any]) -> Run:
        key = repr(sorted(values.items(), key=str))
        if key not in done:
            config = configured(place, {"output": f"run{len(done)}", **values})
            workers.clear()
            batches.clear()
            predict(config)
            files = {
                path.relative_to(config.output).as_posix(): np.asarray(Image.open(path))
                for path in sorted(config.output.rglob("*.png"))
            }
            done[key] = Run(files, list(batches), list(workers))
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataLoader, "_get_iterator", watched)
        patch.setattr(SamSegmenter, "forward", counted)
        yield once


def configured(place: Path, values: Mapping[str, Any]) -> PredictConfig:
    """Names of files in the values are of files in the place."""
    given: dict[str, Any] = {
        "adapter": "first",
        "input": "images",
        "output": "unused",
        "save": "masks,probabilities",
        "precision": "32",
        "accelerator": "cpu",
        "workers": 0,
        **values,
    }
    if given.get("model"):
        given["model"] = str(place / given["model"])
    placed: dict[str, Any] = {
        name: str(place / value) if name in PATHS and value else value for name, value in given.items()
    }
    return PredictConfig(**placed)


def test_no_option_is_left_out():
    require_all_options(PredictConfig, PREDICT)


@pytest.mark.parametrize("option", looked_at(PREDICT))
def test_an_option_changes_what_it_should(run: Callable[[Mapping[str, Any]], Run], option: str):
    entry = PREDICT[option]
    assert isinstance(entry, Changes)
    plain, changed = run(entry.plain), run({**entry.plain, **entry.values})
    assert entry.check(plain, changed) in (None, True)


def test_how_blocks_are_computed(place: Path, monkeypatch: pytest.MonkeyPatch):
    """The segmenter that answers has the attention that was asked for; another gives the same masks."""
    seen = []

    def forward(segmenter: SamSegmenter, batch: Batch, **_: bool) -> None:
        seen.append((segmenter.backbone.attention, segmenter.backbone.compiled))
        raise KeyboardInterrupt

    monkeypatch.setattr(SamSegmenter, "forward", forward)
    monkeypatch.setenv("CXX", "true")  # any program is a compiler as long as nothing is compiled
    for values in ({}, {"attention": "folded"}, {"attention": "plain", "compile": True}):
        with pytest.raises(KeyboardInterrupt):
            predict(configured(place, values))
    assert seen == [("blocked", False), ("folded", False), ("plain", True)]


def test_pictures_above_the_limit_are_refused(place: Path):
    with pytest.raises(DataError, match="max-pixels"):
        predict(configured(place, {"max_pixels": 1000}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(place: Path):
    with pytest.raises(ConfigError, match="accelerator: PyTorch finds no GPU"):
        predict(configured(place, {"accelerator": "gpu"}))
