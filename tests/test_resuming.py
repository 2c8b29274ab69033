"""Runs that were interrupted or are over, and are gone on with."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from conftest import write_pairs
from sam_adapter import TrainConfig, load, train
from sam_adapter.errors import CheckpointError, ConfigError
from training_runs import StopAt, command, config, rows, weights


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> TrainConfig:
    """An uninterrupted run, with everything random switched on."""
    folder = tmp_path_factory.mktemp("long")
    pairs = write_pairs(folder / "pairs", 40)
    run = config(pairs, sam_folder, folder / "whole", epochs=4, batch_size=1, prompt="mixed", box_jitter=0.1)
    train(run)
    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    long_run: TrainConfig, tmp_path: Path, number: signal.Signals
):
    run = long_run.but(output=tmp_path / "cut")
    process = subprocess.Popen(command(run), stderr=subprocess.PIPE, text=True)
    waited = 0.0
    while len(rows(run.output)) < 2 and process.poll() is None and waited < 120:
        time.sleep(0.05)
        waited += 0.05
    time.sleep(0.2)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number), messages
    done = rows(run.output)
    assert 2 <= len(done) < 5, "the run was over before it was interrupted"
    assert (run.output / "last.ckpt").is_file()
    load(run.output / "adapter")  # usable at once
    if number == signal.SIGINT:
        assert "goes on from" in messages
        assert "Traceback" not in messages
    train(run.but(resume=True))
    whole = weights(long_run.output)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(run.output).items())
    assert [row["val_iou"] for row in rows(run.output)] == [row["val_iou"] for row in rows(long_run.output)]


def test_an_output_folder_is_not_written_over(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1)
    with pytest.raises(ConfigError, match="resume: there is no"):
        train(run.but(resume=True))
    train(run)
    with pytest.raises(ConfigError, match="already holds a run"):
        train(run)
    with pytest.raises(ConfigError, match="prompt: was mixed, is none"):
        train(run.but(resume=True, prompt="none"))
    train(run.but(overwrite=True))


def test_a_run_does_not_go_back_to_fewer_epochs(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=2, val_fraction=0)
    train(run)
    before = (run.output / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="the run has come to epoch 2 already; give 2 or more, got 1"):
        train(run.but(resume=True, epochs=1))
    assert (run.output / "config.yaml").read_bytes() == before
    assert train(run.but(resume=True)).summary == "kept epoch 2 of 2"


def test_a_run_that_lost_its_adapter_says_so_and_keeps_another(
    pairs: Path, sam_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1)
    train(run)
    latest = weights(run.output)
    for epochs, warning in ((1, "it now holds the latest, of epoch 1"), (2, "adapter of epoch 1 is no longer in")):
        shutil.rmtree(run.output / "adapter")
        result = train(run.but(resume=True, epochs=epochs))
        assert warning in caplog.text
        assert result.summary.endswith(f"kept epoch {epochs} of {epochs}")
        assert load(result.adapter)
        if epochs == 1:
            assert all(torch.equal(tensor, latest[name]) for name, tensor in weights(run.output).items())


def test_a_run_is_not_continued_on_another_base(pairs: Path, sam_folder: str, tmp_path: Path):
    from conftest import random_sam

    shutil.copytree(sam_folder, tmp_path / "base")
    run = config(pairs, str(tmp_path / "base"), tmp_path / "run", epochs=1)
    train(run)
    random_sam(seed=5).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="SHA-256"):
        train(run.but(resume=True, epochs=2))


@pytest.fixture(scope="module", params=[1, 2])
def short_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> TrainConfig:
    """An uninterrupted run of three steps an epoch, each of one batch or of two."""
    folder = tmp_path_factory.mktemp("short")
    pairs = write_pairs(folder / "pairs", 7)
    options = {"accumulate": request.param, "batch_size": 2 // request.param, "workers": 1, "ema": 0.5}
    run = config(pairs, sam_folder, folder / "whole", **options)
    train(run)
    return run


@pytest.mark.parametrize("moment", [("batch", 1), ("batch", 2), ("validation", 0), ("validation", 1)])
def test_ctrl_c_at_every_kind_of_moment(
    short_run: TrainConfig, tmp_path: Path, moment: tuple[str, int], monkeypatch: pytest.MonkeyPatch
):
    """In the middle of an accumulation, on an epoch's last batch, in the first and in the last validation."""
    run = short_run.but(output=tmp_path / "cut")
    monkeypatch.setattr(StopAt, "moment", moment)
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert (run.output / "last.ckpt").exists()
    monkeypatch.setattr(StopAt, "moment", ("batch", -1))
    train(run.but(resume=True))
    assert signal.getsignal(signal.SIGINT) == before
    whole = weights(short_run.output)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(run.output).items())
    names = ("epoch", "step", "train_loss", "train_iou", "val_iou", "val_iou_none", "val_loss")
    assert [[r[n] for n in names] for r in rows(run.output)] == [[r[n] for n in names] for r in rows(short_run.output)]


def test_resume_with_parts_given(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1, method="decoder", parts=["mask_decoder"])
    train(run)
    train(run.but(resume=True, epochs=2))
    assert len(rows(run.output)) == 3
