"""What training says about itself: validation with each kind of prompt, the frozen base before it, what is kept."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import write_pairs
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, load, train
from sam_adapter.averaging import MovingAverage
from sam_adapter.callbacks import GracefulStop
from sam_adapter.errors import ConfigError
from test_training import config, rows, weights


class StopAfterFour(GracefulStop):
    """Ctrl-C in the middle of the second epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.asked = trainer.global_step == 3


def scored(pairs: Path, output: Path, prompt: str, **model) -> dict:
    """What 'evaluate' says."""
    options = {"images": pairs / "images", "masks": pairs / "masks", "workers": 0, "accelerator": "cpu"}
    return evaluate(EvaluateConfig(output=output, prompt=prompt, **options, **model))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> TrainConfig:
    """A run on six pictures, validated on three others with each kind of prompt."""
    folder = tmp_path_factory.mktemp("mixed")
    pairs, held_out = write_pairs(folder / "pairs"), write_pairs(folder / "held_out", 3, seed=9)
    validation = {"val_images": held_out / "images", "val_masks": held_out / "masks"}
    run = config(pairs, sam_folder, folder / "run", prompt="mixed", monitor="iou_none", **validation)
    train(run)
    return run


def test_each_kind_of_prompt_is_validated_as_evaluate_scores_it(mixed_run: TrainConfig, tmp_path: Path):
    description = json.loads((mixed_run.output / "adapter/adapter_config.json").read_text())
    row = rows(mixed_run.output)[description["epoch"]]
    assert mixed_run.val_images is not None
    pairs = mixed_run.val_images.parent
    kinds = ("box", "points", "none")
    for kind in kinds:
        alone = scored(pairs, tmp_path / kind, kind, adapter=mixed_run.output / "adapter")
        for name in ("iou", "dice"):
            assert float(row[f"val_{name}_{kind}"]) == pytest.approx(alone[name], abs=1e-6)
    for name in ("iou", "dice"):
        mean = sum(float(row[f"val_{name}_{kind}"]) for kind in kinds) / 3
        assert float(row[f"val_{name}"]) == pytest.approx(mean)


def test_row_0_is_the_untouched_base(mixed_run: TrainConfig, tmp_path: Path):
    table = rows(mixed_run.output)
    assert [row["epoch"] for row in table] == ["0", "1", "2"]
    assert table[0]["train_loss"] == ""
    assert mixed_run.val_images is not None
    frozen = scored(mixed_run.val_images.parent, tmp_path / "frozen", "mixed", model=mixed_run.model)
    description = json.loads((mixed_run.output / "adapter/adapter_config.json").read_text())
    for name in ("iou", "iou_box", "iou_points", "iou_none", "dice", "mae", "ber"):
        assert description["frozen_scores"][name] == pytest.approx(frozen[name], abs=1e-6)
        if f"val_{name}" in table[0]:
            assert float(table[0][f"val_{name}"]) == pytest.approx(frozen[name], abs=1e-6)


def test_the_monitored_score_decides(mixed_run: TrainConfig, tmp_path: Path):
    for monitor, best in (("iou_none", max), ("dice_box", max), ("loss", min), ("ber", min)):
        run = mixed_run.but(output=tmp_path / monitor, monitor=monitor, epochs=4, lr=2e-2)
        result = train(run)
        table = rows(run.output)[1:]
        chosen = best(table, key=lambda row: float(row[f"val_{monitor}"]))
        assert result.epoch == int(chosen["epoch"])
        assert result.scores[monitor] == pytest.approx(float(chosen[f"val_{monitor}"]))


@pytest.mark.parametrize(("prompt", "monitor"), [("box", "iou_points"), ("none", "dice_box")])
def test_a_score_that_the_run_does_not_have_cannot_be_monitored(prompt: str, monitor: str):
    with pytest.raises(ConfigError, match=f"possible are iou, iou_{prompt}, dice, dice_{prompt}, mae, ber, loss"):
        config(Path("p"), "sam", Path("o"), prompt=prompt, monitor=monitor)


def test_a_moving_average_is_validated_and_written(mixed_run: TrainConfig, tmp_path: Path):
    run = mixed_run.but(output=tmp_path / "average", ema=0.5, epochs=3, monitor="loss")
    plain = run.but(output=tmp_path / "plain", ema=0.0)
    train(run)
    train(plain)
    # Training itself does not see the average.
    own, same = (torch.load(one.output / "last.ckpt", weights_only=True) for one in (run, plain))
    assert all(torch.equal(tensor, same["state_dict"][name]) for name, tensor in own["state_dict"].items())
    kept = weights(run.output)
    assert rows(run.output)[-1]["val_loss"] != rows(plain.output)[-1]["val_loss"]
    assert own["average"]["steps"] == own["global_step"]
    segmenter = load(run.output / "adapter")
    if json.loads((run.output / "adapter/adapter_config.json").read_text())["epoch"] == 3:
        assert all(torch.equal(tensor, own["average"][name]) for name, tensor in kept.items())
    assert mixed_run.val_images is not None
    again = scored(mixed_run.val_images.parent, tmp_path / "scores", "mixed", adapter=run.output / "adapter")
    description = json.loads((run.output / "adapter/adapter_config.json").read_text())
    assert again["iou"] == pytest.approx(description["scores"]["iou"], abs=1e-6)
    assert segmenter.prompt == "mixed"


def test_a_resumed_average_is_that_of_an_uninterrupted_run(mixed_run: TrainConfig, tmp_path: Path):
    whole = mixed_run.but(output=tmp_path / "whole", ema=0.9, epochs=2)
    train(whole)
    # The schedule depends on the number of epochs, so the first run is cut and not shortened.
    cut = whole.but(output=tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sam_adapter.training.GracefulStop", StopAfterFour)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    frozen = rows(cut.output)[0]
    train(cut.but(resume=True))
    assert rows(cut.output)[0] == frozen
    for name in ("adapter/adapter_model.safetensors",):
        one, other = load_file(whole.output / name), load_file(cut.output / name)
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
    one, other = (torch.load(run.output / "last.ckpt", weights_only=True)["average"] for run in (whole, cut))
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_moving_average_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    average = MovingAverage([("p", parameter)], decay=0.15)
    average.start()
    expected = parameter.detach().clone()
    for step, kept in enumerate((0.1, 0.15, 0.15)):  # 1/10, then 2/11 and 3/12 are above the decay
        with torch.no_grad():
            parameter += step + 1
        average.update()
        expected = kept * expected + (1 - kept) * parameter.detach()
    before = parameter.detach().clone()
    with average.in_place():
        torch.testing.assert_close(parameter.detach(), expected)
        with average.in_place():
            torch.testing.assert_close(parameter.detach(), expected)
    assert torch.equal(parameter, before)


def test_pictures_are_validated_in_the_same_way_every_epoch(mixed_run: TrainConfig, tmp_path: Path):
    """With a learning rate that changes nothing, all epochs have the same scores."""
    still = mixed_run.but(output=tmp_path / "still", lr=1e-30, epochs=3, negative_points=2, positive_points=2)
    train(still)
    trained = rows(still.output)[1:]
    for one, other in itertools.pairwise(trained):
        assert {k: v for k, v in one.items() if k.startswith("val")} == {
            k: v for k, v in other.items() if k.startswith("val")
        }
