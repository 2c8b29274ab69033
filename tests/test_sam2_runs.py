"""SAM 2 through the commands: training, resuming, evaluation, prediction, kept embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import write_pairs
from sam_adapter import EvaluateConfig, PredictConfig, Predictor, TrainConfig, evaluate, load, predict, train
from sam_adapter.checkpoints.adapter import read_adapter_config
from sam_adapter.checkpoints.embeddings import embedding_folder
from sam_adapter.preprocessing import Preprocessing
from training_runs import StopAt, config, weights


@pytest.fixture(scope="module")
def folder(family_folders: dict[str, str]) -> str:
    return family_folders["sam2"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of unequal sizes."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), 4)


def evaluated(run: Path, pairs: Path, output: Path, **changes) -> dict:
    given = {"images": pairs / "images", "masks": pairs / "masks", "workers": 0, "precision": "32", **changes}
    evaluate(EvaluateConfig(adapter=run / "adapter", output=output, accelerator="cpu", **given))
    return json.loads((output / "metrics.json").read_text())


def predicted(run: Path, pairs: Path, output: Path) -> list[Path]:
    asked = PredictConfig(adapter=run / "adapter", input=str(pairs / "images"), output=output, workers=0)
    predict(asked.but(accelerator="cpu", precision="32"))
    return sorted((output / "masks").glob("*.png"))


def test_a_run_is_interrupted_resumed_evaluated_and_used(
    pictures: Path, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = config(pictures, folder, tmp_path / "whole", precision="32", val_fraction=0.25)
    train(whole)
    cut = whole.but(output=tmp_path / "cut")
    monkeypatch.setattr(StopAt, "moment", ("batch", 2))
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    train(cut.but(resume=True))
    ours, theirs = weights(cut.output), weights(whole.output)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    found = read_adapter_config(cut.output / "adapter")
    assert found.base.family == "sam2"
    assert found.preprocessing_settings == Preprocessing(
        image_size=64, resize="squash", interpolation="float32", restore="direct"
    )
    scores = evaluated(cut.output, pictures, tmp_path / "scores", with_frozen=True)
    assert scores["iou_box"] != scores["frozen"]["iou_box"]
    files = predicted(cut.output, pictures, tmp_path / "masks")
    assert [Image.open(one).size for one in files] == [Image.open(pictures / "images" / one.name).size for one in files]
    predictor = Predictor(load(cut.output / "adapter"), device="cpu", precision="32")
    predictor.set_image(pictures / "images" / files[0].name)
    assert np.array_equal(np.asarray(Image.open(files[0])) > 0, predictor.predict().masks[0])


def test_embeddings_are_kept_after_the_convolutions_that_are_frozen_for_it(
    pictures: Path, folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    cache = tmp_path / "cache"
    run = config(pictures, folder, tmp_path / "run", method="decoder", augment="none", precision="32", epochs=1)
    with caplog.at_level("INFO"):
        train(run.but(embedding_cache=cache))
    assert "kept after conv_s0 and conv_s1, which stay as the base has them" in caplog.text
    kept = load_file(next(cache.rglob("*.safetensors")))
    backbone = load(model=folder).backbone
    assert {name: tuple(one.shape) for name, one in kept.items()} == backbone.prepared_shapes
    assert read_adapter_config(run.output / "adapter").method.prepare_frozen
    assert not any("conv_s" in name for name in weights(run.output))
    whole = run.but(output=tmp_path / "whole")
    train(whole)
    assert any("conv_s0" in name for name in weights(whole.output))
    # Of an adapter that trained these convolutions, what the encoder gives is kept, in the same folder too.
    for trained, shapes in ((run, backbone.prepared_shapes), (whole, backbone.encoded_shapes)):
        before = set(cache.rglob("*.safetensors"))
        first = evaluated(trained.output, pictures, tmp_path / f"a{trained.output.name}", embedding_cache=cache)
        second = evaluated(trained.output, pictures, tmp_path / f"b{trained.output.name}")
        added = set(cache.rglob("*.safetensors")) - before
        assert len(added) == (4 if trained is whole else 0)
        kept = load_file(next(iter(added or before)))
        assert {name: tuple(one.shape) for name, one in kept.items()} == shapes
        assert first["iou_box"] == pytest.approx(second["iou_box"], abs=1e-6)
        assert first["mae_box"] == pytest.approx(second["mae_box"], abs=1e-6)

    # Models share what is kept if it is the same for them.
    for trained, shared in ((run, True), (whole, False)):
        asked = EvaluateConfig(
            adapter=trained.output / "adapter",
            images=pictures / "images",
            masks=pictures / "masks",
            output=tmp_path / "both",
            with_frozen=True,
        )
        with embedding_folder(asked) as place:
            assert (place is not None) == shared


def test_a_run_may_pad_as_sam_does(pictures: Path, folder: str, tmp_path: Path):
    run: TrainConfig = config(pictures, folder, tmp_path / "run", resize="pad", epochs=1, precision="32")
    train(run)
    found = read_adapter_config(run.output / "adapter").preprocessing_settings
    assert found == Preprocessing(image_size=64, resize="pad", interpolation="float32", restore="square")
