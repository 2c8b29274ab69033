"""Runs with LoRA: trained, scored, used, stopped and gone on with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import write_pairs
from sam_adapter import EvaluateConfig, PredictConfig, TrainConfig, evaluate, load, predict, train
from sam_adapter.config.registry import METHODS
from sam_adapter.errors import CheckpointError
from sam_adapter.training.dry_run import dry_run
from sam_adapter.training.run_folder import clear_output
from training_runs import StopAt, config, weights


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> TrainConfig:
    """Two epochs with validation, dropout and an average of the weights."""
    folder = tmp_path_factory.mktemp("lora")
    pairs = write_pairs(folder / "pairs", 7)
    options = {"method": "lora", "lora_dropout": 0.2, "ema": 0.5, "val_fraction": 0.3, "lr": 1e-2, "precision": "32"}
    run = config(pairs, sam_folder, folder / "run", **options)
    train(run)
    return run


def test_an_adapter_is_scored_and_used_like_any_other(lora_run: TrainConfig, tmp_path: Path):
    adapter = lora_run.output / "adapter"
    description = json.loads((adapter / "sam_adapter.json").read_text())
    assert (description["method"]["name"], description["method"]["adapter"]["rank"]) == ("lora", 4)
    assert description["frozen_scores"].keys() == description["scores"].keys()
    result = evaluate(
        EvaluateConfig(
            adapter=adapter,
            images=lora_run.images,
            masks=lora_run.masks,
            output=tmp_path / "scores",
            with_frozen=True,
            prompt="box",
            accelerator="cpu",
            workers=0,
        )
    )
    base = evaluate(
        EvaluateConfig(
            model=lora_run.model,
            images=lora_run.images,
            masks=lora_run.masks,
            output=tmp_path / "base",
            prompt="box",
            accelerator="cpu",
            workers=0,
        )
    )
    assert result is not None
    assert base is not None
    found, frozen = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("scores", "base"))
    assert found["frozen"]["iou"] == pytest.approx(frozen["iou"])
    assert found["iou"] != pytest.approx(frozen["iou"], rel=1e-4)
    asked = PredictConfig(adapter=adapter, input=str(lora_run.images), output=tmp_path / "masks", save="masks")
    assert len(predict(asked)) == 7


def test_a_stopped_run_ends_where_an_undisturbed_one_does(
    lora_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = lora_run.but(output=tmp_path / "cut")
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    monkeypatch.setattr(StopAt, "moment", ("batch", 4))
    with pytest.raises(KeyboardInterrupt):
        train(run)
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    train(run.but(resume=True))
    whole = weights(lora_run.output)
    assert weights(run.output).keys() == whole.keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(run.output).items())
    load(run.output / "adapter")  # whose folder for peft agrees


def test_a_run_starts_from_an_adapter_of_the_same_rank(lora_run: TrainConfig, tmp_path: Path):
    start = lora_run.output / "adapter"
    run = lora_run.but(output=tmp_path / "more", epochs=1, start_from=start, lr=1e-30, ema=0.0, lora_dropout=0.0)
    train(run)
    before, after = weights(lora_run.output), weights(run.output)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)
    with pytest.raises(CheckpointError, match="rank is 4 there and 5 here"):
        train(run.but(output=tmp_path / "other", lora_rank=5))


OWN_DEFAULTS: dict[str, Any] = {name: getattr(TrainConfig, name) for name in METHODS["lora"].options}
"""Of the options that other methods refuse."""


def test_a_run_that_is_written_over_leaves_nothing_for_peft(lora_run: TrainConfig, tmp_path: Path):
    shutil.copytree(lora_run.output, tmp_path / "run")
    assert (tmp_path / "run/adapter/peft/adapter_config.json").is_file()
    clear_output(lora_run.but(output=tmp_path / "run", overwrite=True, method="decoder", **OWN_DEFAULTS))
    assert not any((tmp_path / "run/adapter").iterdir())


def test_a_dry_run_takes_a_step(lora_run: TrainConfig):
    measured = dry_run(
        lora_run.but(output=lora_run.output / "none", precision="bf16-mixed", gradient_checkpointing=True)
    )
    assert measured.step_seconds > 0
    assert not (lora_run.output / "none").exists()
