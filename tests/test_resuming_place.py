"""What a run may change when it is gone on with, and where in the data it goes on."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import write_pairs
from sam_adapter import TrainConfig, train
from sam_adapter.data.loading import training_loader
from sam_adapter.errors import ConfigError
from training_runs import StopAt, command, config, rows


def test_a_finished_epoch_is_followed_by_a_whole_one_however_many_batches_it_has():
    dataset: Any = [0] * 7
    options: Any = {"batch_size": 1, "workers": 0, "seed": 0, "pin": False}
    alone, first = (training_loader(dataset, processes=count, rank=0, **options) for count in (1, 2))
    alone.batches_done = 7
    first.load_state_dict(alone.state_dict())
    assert len(first) == 4
    assert first._start_after == 0
    alone.batches_done = 3
    alone.load_state_dict(alone.state_dict())
    assert alone._start_after == 3


def test_devices_change_between_epochs_without_skipping_pictures(sam_folder: str, tmp_path: Path):
    """Seven pictures are seven steps of one process and four of two; the rate falls to zero over the real steps."""
    pairs = write_pairs(tmp_path / "pairs", 7)
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1, val_fraction=0.0, batch_size=1)
    train(run)
    more = run.but(resume=True, epochs=2, devices=2)
    subprocess.run(command(more), check=True, capture_output=True, timeout=300)
    state = torch.load(run.output / "last.ckpt", weights_only=True)
    assert state["global_step"] == 7 + 4
    assert state["lr_schedulers"][0]["last_epoch"] == 2 * 4
    assert float(rows(run.output)[-1]["lr"]) == pytest.approx(0, abs=1e-12)
    assert state["place"] == {"processes": 2, "batch_size": 1, "pictures": 7}


@pytest.mark.parametrize("moment", [("batch", 1), ("validation", 0)])
def test_an_epoch_is_gone_on_with_in_the_same_order_alone(
    sam_folder: str, tmp_path: Path, moment: tuple[str, int], monkeypatch: pytest.MonkeyPatch
):
    pairs = write_pairs(tmp_path / "pairs", 7)
    run = config(pairs, sam_folder, tmp_path / "run", epochs=2)
    monkeypatch.setattr(StopAt, "moment", moment)
    monkeypatch.setattr("sam_adapter.training.run.GracefulStop", StopAt)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    before = (run.output / "last.ckpt").read_bytes()
    with pytest.raises(ConfigError, match=r"(?s)middle of epoch 1.*processes: was 1, is 2"):
        train(run.but(resume=True, devices=2))
    (run.output / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"(?s)middle of epoch 1.*batch_size: was 2, is 3"):
        train(run.but(resume=True, batch_size=3))
    for kind in ("images", "masks"):
        shutil.copy(pairs / kind / "img_00.png", pairs / kind / "more.png")
    with pytest.raises(ConfigError, match=r"(?s)middle of epoch 1.*pictures: was 6, is 7"):
        train(run.but(resume=True))
    assert (run.output / "last.ckpt").read_bytes() == before


def test_options_that_cannot_be_compared_are_warned_of(
    pairs: Path, sam_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1)
    train(run)
    train(run.but(resume=True, epochs=2))
    assert "cannot be compared" not in caplog.text
    (run.output / "config.yaml").unlink()
    train(run.but(resume=True, epochs=3))
    assert f"'{run.output / 'config.yaml'}' is not there, so the options given now cannot be compared" in caplog.text
    assert TrainConfig.from_yaml(run.output / "config.yaml") == run.but(epochs=3)


def test_a_cache_does_not_change_the_augmentation_of_a_run(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1, method="decoder")
    train(run)
    with pytest.raises(ConfigError, match=r"embedding_cache: was None, is .*cache; without it images are augmented"):
        train(run.but(resume=True, epochs=2, embedding_cache=tmp_path / "cache"))
    plain = run.but(output=tmp_path / "plain", augment="none")
    train(plain)
    train(plain.but(resume=True, epochs=2, embedding_cache=tmp_path / "cache"))
