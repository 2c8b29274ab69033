"""Image embeddings that are kept: the same scores and weights, each image encoded once, several processes."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import write_pairs
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, train
from sam_adapter.annotations.listing import Record
from sam_adapter.batch import EncodedImage
from sam_adapter.checkpoints.embeddings import embedding_files, encode_missing
from sam_adapter.data.embedding_file import read_encoded, write_encoded
from sam_adapter.errors import DataError
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.training.run_folder import read_metrics


def run(pairs: Path, model: str, output: Path, cache: Path | None) -> TrainConfig:
    return TrainConfig(
        images=pairs / "images",
        masks=pairs / "masks",
        model=model,
        output=output,
        method="decoder",
        prompt="mixed",
        prompts_per_image=3,
        augment="none",
        epochs=2,
        lr=1e-3,
        workers=0,
        accelerator="cpu",
        precision="32",
        embedding_cache=cache,
    )


def test_kept_embeddings_change_nothing_and_are_made_once(
    pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without = train(run(pairs, sam_folder, tmp_path / "without", None))
    cached = train(run(pairs, sam_folder, tmp_path / "cached", tmp_path / "cache"))
    wanted = load_file(without.adapter / "sam_adapter.safetensors")
    for name, tensor in load_file(cached.adapter / "sam_adapter.safetensors").items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-4, atol=1e-6)

    scoring = EvaluateConfig(
        images=pairs / "images",
        masks=pairs / "masks",
        adapter=cached.adapter,
        with_frozen=True,
        output=tmp_path / "scores",
        workers=0,
        accelerator="cpu",
        precision="32",
    )
    alone = evaluate(scoring.but(with_frozen=False))
    frozen = evaluate(scoring.but(with_frozen=False, adapter=None, model=sam_folder))

    def encode(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded again")

    monkeypatch.setattr(SamSegmenter, "encode", encode)
    again = evaluate(scoring.but(embedding_cache=tmp_path / "cache"))
    assert again["iou"] == pytest.approx(alone["iou"], abs=1e-6)
    assert again["frozen"]["iou"] == pytest.approx(frozen["iou"], abs=1e-6)
    train(run(pairs, sam_folder, tmp_path / "second", tmp_path / "cache"))


def deepened(source: Path, folder: Path, kind: type) -> Path:
    """The pairs of a folder in grey of 16 bits or floating point, each picture darker than the one before."""
    shutil.copytree(source / "masks", folder / "masks")
    (folder / "images").mkdir()
    for step, path in enumerate(sorted((source / "images").iterdir())):
        values = np.asarray(Image.open(path).convert("L")).astype(np.float64) * 200 / (1 + step)
        Image.fromarray(values.astype(kind)).save(folder / "images" / f"{path.stem}.tif")
    return folder


@pytest.mark.parametrize(("trained", "validated"), [(None, np.uint16), (np.uint16, np.float32), (np.uint16, np.uint16)])
def test_validation_pictures_are_read_the_same_with_the_cache(
    pairs: Path, sam_folder: str, tmp_path: Path, trained: type | None, validated: type
):
    """Of a depth that the training pictures lack, or of the same depth and another range."""
    if trained is not None:
        pairs = deepened(pairs, tmp_path / "deep", trained)
    others = write_pairs(tmp_path / "others", 3, seed=9)
    held_out = deepened(others, tmp_path / "held_out", validated)
    folders: dict[str, Any] = {"val_images": held_out / "images", "val_masks": held_out / "masks", "epochs": 1}
    without = run(pairs, sam_folder, tmp_path / "without", None).but(**folders)
    cached = run(pairs, sam_folder, tmp_path / "cached", tmp_path / "cache").but(**folders)
    for one in (without, cached):
        train(one)
    wanted, got = (read_metrics(one.output / "metrics.csv") for one in (without, cached))
    for name in ("val_loss", "val_iou", "val_mae"):
        for before, after in zip(wanted, got, strict=True):
            assert float(after[name]) == pytest.approx(float(before[name]), rel=1e-4, abs=1e-6), (name, before["epoch"])


def test_models_with_the_same_encoder_encode_each_image_once(
    pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = train(run(pairs, sam_folder, tmp_path / "one", None)).adapter
    other = train(run(pairs, sam_folder, tmp_path / "other", None).but(lr=1e-2, method="sam_adapter")).adapter
    same = shutil.copytree(one, tmp_path / "same")
    images = len(list((pairs / "images").iterdir()))
    encoded = []
    encode = SamSegmenter.encode

    def counted(self: SamSegmenter, pixels: torch.Tensor, **options: Any) -> EncodedImage:
        encoded.append(len(pixels))
        return encode(self, pixels, **options)

    monkeypatch.setattr(SamSegmenter, "encode", counted)
    scoring = EvaluateConfig(
        images=pairs / "images",
        masks=pairs / "masks",
        adapter=one,
        with_frozen=True,
        compare=(same, other),
        report=True,
        output=tmp_path / "scores",
        workers=0,
        accelerator="cpu",
        precision="32",
    )
    together = evaluate(scoring)
    shown = min(images, 9) // 3 * 3
    assert sum(encoded) == images + (images + shown)  # of the shared encoder, of the other adapter's own
    assert not list((tmp_path / "scores").glob(".embeddings*"))
    monkeypatch.setattr("sam_adapter.checkpoints.embeddings.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    encoded.clear()
    full = evaluate(scoring)
    assert sum(encoded) == 4 * (images + shown)  # each model for itself
    assert full["frozen"]["iou"] == pytest.approx(together["frozen"]["iou"], abs=1e-6)
    apart = evaluate(scoring.but(adapter=other, compare=(), with_frozen=False, report=False))
    assert together["compared"]["other"]["iou"] == pytest.approx(apart["iou"], abs=1e-6)
    apart = evaluate(scoring.but(compare=(), with_frozen=False, report=False))
    assert together["iou"] == pytest.approx(apart["iou"], abs=1e-6)


def test_processes_share_the_images_whoever_is_first(tmp_path: Path, sam_folder: str):
    images = write_pairs(tmp_path / "pairs", 5) / "images"
    shutil.copy(images / "img_00.png", images / "same_00.png")
    records = [Record(path.stem, path, path) for path in sorted(images.iterdir())]
    segmenter = SamSegmenter.frozen(sam_folder)
    machine = Machine.choose(device="cpu", precision="32")
    files = embedding_files(tmp_path / "cache", records, segmenter, machine, brightness=None)
    assert len(set(files.values())) == 5
    for rank in (1, 0):
        encode_missing(files, segmenter, machine, brightness=None, batch_size=2, workers=0, processes=2, rank=rank)
    assert all(file.is_file() for file in files.values())
    assert not list(tmp_path.rglob("*.partial"))


def test_a_damaged_file_is_named(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be read as an image embedding .* delete it"):
        read_encoded(path)


def test_every_tensor_of_the_encoder_is_kept(tmp_path: Path):
    encoded = EncodedImage({"coarse": torch.randn(3, 4, 5).bfloat16(), "fine": torch.randn(8, 2).T})
    write_encoded(tmp_path / "a/x.safetensors", encoded)
    again = read_encoded(tmp_path / "a/x.safetensors")
    assert again.tensors.keys() == encoded.tensors.keys()
    for name, tensor in encoded.tensors.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_looking_at_data_does_not_load_torch():
    code = "import sys, sam_adapter.data.inspection.inspect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
