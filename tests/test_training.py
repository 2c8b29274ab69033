"""Real runs on small random SAMs: what is written, how weights are trained, and on which pictures."""

import itertools
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from conftest import write_pairs
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, load, train
from sam_adapter.annotations.listing import Record
from sam_adapter.data.datamodule import PairDataModule
from sam_adapter.data.splitting import split
from sam_adapter.errors import CheckpointError, ConfigError, DataError
from sam_adapter.training.decay import decay_groups
from sam_adapter.training.setup import module_and_data
from training_runs import config, rows, weights


def test_a_run_writes_what_it_promises_and_learns(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=12, prompt="mixed", val_fraction=0.2, lr=3e-3)
    result = train(run)
    written = {path.relative_to(run.output).as_posix() for path in run.output.rglob("*") if path.is_file()}
    assert written == {
        "adapter/sam_adapter.json",
        "adapter/sam_adapter.safetensors",
        "config.yaml",
        "curves.png",
        "inspection.npz",
        "last.ckpt",
        "metrics.csv",
    }
    table = rows(run.output)
    assert [int(row["epoch"]) for row in table] == list(range(13))  # row 0 is the base before training
    assert float(table[-1]["train_loss"]) < 0.8 * float(table[1]["train_loss"])
    best = max(float(row["val_iou"]) for row in table[1:])
    assert result.scores["iou"] == pytest.approx(best)
    description = json.loads((run.output / "adapter/sam_adapter.json").read_text())
    assert description["scores"]["iou"] == pytest.approx(best)
    assert TrainConfig.from_yaml(run.output / "config.yaml") == run
    segmenter = load(run.output / "adapter")
    assert segmenter.method.name == "sam_adapter"
    # The checkpoint holds what is trained and no copy of the base.
    state = torch.load(run.output / "last.ckpt", weights_only=False)["state_dict"]
    assert set(state) == set(segmenter.trained_state())


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "decoder", "prompt": "points", "negative_points": 2, "val_fraction": 0.0},
        {
            "method": "full",
            "prompt": "none",
            "resize": "squash",
            "loss": "balanced_bce+dice",
            "clip": 1.0,
            "precision": "bf16-mixed",
        },
        {"preset": "paper", "image_size": 96, "accumulate": 2, "precision": "bf16-mixed", "monitor": "mae"},
        {
            "parts": (),
            "gradient_checkpointing": True,
            "patience": 1,
            "logger": "tensorboard",
            "augment": "flip",
        },
    ],
)
def test_other_settings_run(pairs: Path, sam_folder: str, tmp_path: Path, changes: dict):
    result = train(config(pairs, sam_folder, tmp_path / "run", **changes))
    assert (result.adapter / "sam_adapter.safetensors").is_file()
    assert len(rows(tmp_path / "run")) >= 1
    if changes.get("logger") == "tensorboard":
        assert list((tmp_path / "run").rglob("events.out.*"))


def test_flex_attention_is_refused_before_a_run_that_it_could_not_make(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", attention="flex", accelerator="cpu")
    with pytest.raises(ConfigError, match="FlexAttention cannot be trained through on a CPU"):
        train(run)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
    module_and_data(run.but(method="decoder"))  # nothing is trained through it


def test_adamw_is_fused_unless_gradients_are_clipped(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run")
    assert module_and_data(run)[0].optimizer().defaults["fused"] is True
    # None, not False, which would turn off PyTorch's other fast form too.
    assert module_and_data(run.but(clip=1.0))[0].optimizer().defaults["fused"] is None


def test_weights_and_biases_offline(pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1, logger="wandb", project="polyps")
    train(run)
    assert len(list(run.output.rglob("run-*.wandb"))) == 1


def test_learning_rate_warms_up_and_falls_to_zero_over_the_real_steps(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", epochs=5, warmup=0.2, val_fraction=0.0, lr=1e-2)
    train(run)
    rates = [float(row["lr"]) for row in rows(run.output)]
    assert [int(row["epoch"]) for row in rows(run.output)] == [1, 2, 3, 4, 5]
    assert rates[0] == pytest.approx(1e-2)  # three of fifteen steps rise
    assert all(late < early for early, late in itertools.pairwise(rates))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_no_decay_on_biases_and_norms(sam_folder: str, pairs: Path, tmp_path: Path):
    from sam_adapter.segmenter import SamSegmenter

    segmenter = SamSegmenter.from_config(config(pairs, sam_folder, tmp_path))
    names = {id(parameter): name for name, parameter in segmenter.named_parameters()}
    decayed, plain = ([names[id(p)] for p in group] for group in decay_groups(segmenter))
    assert "adapter.down.0.weight" in decayed
    assert "adapter.down.0.bias" in plain
    assert "backbone.sam.mask_decoder.transformer.layers.0.layer_norm1.weight" in plain
    assert "backbone.sam.mask_decoder.upscale_layer_norm.weight" in plain
    assert "backbone.sam.mask_decoder.mask_tokens.weight" in plain
    assert len(decayed) + len(plain) == len(segmenter.trained_state())


def test_empty_masks_are_trained_on_or_left_out(pairs: Path, sam_folder: str, tmp_path: Path):
    for path in (pairs / "masks").iterdir():
        Image.new("L", Image.open(path).size).save(path)
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1)
    train(run)
    (frozen, row) = rows(run.output)
    assert row["val_iou"] == frozen["val_iou"] == ""  # there is no foreground to meet
    assert 0 <= float(row["val_empty_correct"]) <= 1
    assert (run.output / "adapter/sam_adapter.json").exists()
    with pytest.raises(DataError, match="leaves nothing to train on"):
        train(run.but(output=tmp_path / "other", empty_masks="skip"))


def with_void(pairs: Path, folder: Path, *names: str) -> Path:
    """A copy of the pairs in which these masks are of the value 7 alone."""
    shutil.copytree(pairs, folder)
    for name in names:
        path = folder / "masks" / name
        Image.new("L", Image.open(path).size, 7).save(path)
    return folder


def test_pictures_that_are_void_everywhere_are_left_out(
    pairs: Path, sam_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Of training, validation and scores, as if they were not there; of a split too, and they are named once."""
    void = with_void(pairs, tmp_path / "void", "img_01.png", "img_04.png")
    less = shutil.copytree(pairs, tmp_path / "less")
    for name in ("img_01.png", "img_04.png"):
        for kind in ("images", "masks"):
            (less / kind / name).unlink()
    found = {}
    for name, folder in (("void", void), ("less", less)):
        caplog.clear()
        folders: dict[str, Any] = {"images": folder / "images", "masks": folder / "masks"}
        held_out: dict[str, Any] = {"val_images": folder / "images", "val_masks": folder / "masks"}
        split = config(folder, sam_folder, tmp_path / f"split_{name}", epochs=1, ignore_value=(7,), val_fraction=0.4)
        run = split.but(output=tmp_path / name, **held_out)
        assert caplog.text.count("Remark void_everywhere (2)") == 0
        train(split)
        assert caplog.text.count("Remark void_everywhere (2)") == (1 if name == "void" else 0)
        result = train(run)
        caplog.clear()
        options = EvaluateConfig(
            adapter=result.adapter, output=tmp_path / f"e_{name}", workers=0, ignore_value=(7,), report=True, **folders
        )
        scores = evaluate(options)
        assert caplog.text.count("Remark void_everywhere (2)") == (1 if name == "void" else 0)
        found[name] = (weights(run.output), weights(split.output), result.scores, scores)
        assert "training masks are empty" not in caplog.text
    mine, wanted = found["void"], found["less"]
    for at in (0, 1):
        assert all(torch.equal(tensor, mine[at][name]) for name, tensor in wanted[at].items())
    assert mine[2] == wanted[2]
    assert (mine[3].pop("skipped_void"), wanted[3].pop("skipped_void")) == (2, 0)
    assert mine[3] == wanted[3]
    assert (mine[3]["images"], mine[3]["empty_masks"]) == (4, 0)


def test_near_copies_are_named_rightly_beside_void(pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    held_out = with_void(write_pairs(tmp_path / "others", 3, seed=9), tmp_path / "held_out", "img_00.png")
    for kind in ("images", "masks"):  # the same pixels in other bytes
        Image.open(pairs / kind / "img_02.png").save(held_out / kind / "copy.png", compress_level=0)
    folders: dict[str, Any] = {"val_images": held_out / "images", "val_masks": held_out / "masks"}
    data = PairDataModule(config(pairs, "unused", tmp_path / "run", ignore_value=(7,), **folders))
    assert [record.name for record in data.val_records] == ["copy", "img_01", "img_02"]
    assert "(img_02, copy)" in caplog.text
    caplog.clear()
    for kind in ("images", "masks"):
        (held_out / kind / "copy.png").replace(held_out / kind / "img_02.png")
    PairDataModule(config(pairs, "unused", tmp_path / "run", ignore_value=(7,), **folders))
    assert "(img_02, img_02)" in caplog.text  # after the one that is void, in the order of names


def test_a_set_of_which_nothing_can_be_asked_is_refused(pairs: Path, sam_folder: str, tmp_path: Path):
    void = with_void(pairs, tmp_path / "void", *(path.name for path in (pairs / "masks").iterdir()))
    folders: dict[str, Any] = {"images": void / "images", "masks": void / "masks"}
    held_out: dict[str, Any] = {"val_images": void / "images", "val_masks": void / "masks"}
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1, ignore_value=(7,))
    message = r"(?s)void_everywhere \(6\).*look at '--ignore-value'.*No usable pair is left"
    for one in (run.but(**folders), run.but(**held_out)):
        with pytest.raises(DataError, match=message):
            train(one)
    with pytest.raises(DataError, match=message):
        evaluate(EvaluateConfig(model=sam_folder, output=tmp_path / "e", workers=0, ignore_value=(7,), **folders))


def test_faults_are_found_before_the_model_is_loaded(pairs: Path, tmp_path: Path):
    (pairs / "masks/img_00.png").unlink()
    with pytest.raises(DataError, match="image without mask"):
        train(config(pairs, "no-such-model", tmp_path / "run"))


def test_split_is_by_name_and_seed():
    records = [Record(str(index), Path(f"{index}.png"), Path(f"{index}.png")) for index in range(20)]
    kept, held = split(records, 0.25, seed=0)
    assert len(held) == 5
    assert sorted(r.name for r in kept + held) == sorted(r.name for r in records)
    assert split(records, 0.25, seed=0)[1] == held
    assert split(records, 0.25, seed=1)[1] != held
    assert split(records, 0, seed=0) == (records, [])


def test_an_adapter_finds_its_base_from_anywhere(
    pairs: Path, tmp_path: Path, sam_folder: str, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(sam_folder, tmp_path / "sam")
    monkeypatch.chdir(tmp_path)
    train(config(pairs, "sam", tmp_path / "run", epochs=1))
    monkeypatch.chdir(pairs)
    load(tmp_path / "run/adapter")
    shutil.move(tmp_path / "sam", tmp_path / "moved")
    with pytest.raises(CheckpointError, match="give its place as --model"):
        load(tmp_path / "run/adapter")
    load(tmp_path / "run/adapter", model=str(tmp_path / "moved"))


def test_a_loss_that_is_not_finite_stops_with_the_cure(
    pairs: Path, sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ConfigError, match="Lower --lr"):
        train(config(pairs, sam_folder, tmp_path / "run", lr=1e30, warmup=0.0))
    assert signal.getsignal(signal.SIGINT) == before
