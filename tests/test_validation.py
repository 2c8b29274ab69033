"""What training says about itself: validation with each kind of prompt, the frozen base before it, what is kept."""

import itertools
import json
import logging
import math
import warnings
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import write_pairs
from sam_adapter import EvaluateConfig, TrainConfig, evaluate, load, train
from sam_adapter.batch import Output
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.config.choices import monitors_in_words
from sam_adapter.config.commands import PredictConfig
from sam_adapter.errors import ConfigError
from sam_adapter.prediction.folder import predict
from sam_adapter.system.float64 import device_with_float64, with_float64
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.metrics import COLUMNS, ThresholdCurve, score
from sam_adapter.tasks.metrics.thresholds import best_threshold, threshold_ious
from sam_adapter.training.adapter_keeper import AdapterKeeper
from sam_adapter.training.averaging import MovingAverage
from sam_adapter.training.epoch_means import EpochMeans
from sam_adapter.training.lightning_module import TrainingModule
from sam_adapter.training.outcome import comparison, worse_than_frozen
from sam_adapter.training.stopping import GracefulStop
from training_runs import config, rows, weights


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
    description = json.loads((mixed_run.output / "adapter/sam_adapter.json").read_text())
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
    description = json.loads((mixed_run.output / "adapter/sam_adapter.json").read_text())
    for name in ("iou", "iou_box", "iou_points", "iou_none", "dice", "mae", "ber"):
        assert description["frozen_scores"][name] == pytest.approx(frozen[name], abs=1e-6)
        if f"val_{name}" in table[0]:
            assert float(table[0][f"val_{name}"]) == pytest.approx(frozen[name], abs=1e-6)


def test_the_monitored_score_decides(mixed_run: TrainConfig, tmp_path: Path):
    for monitor, best in (("iou_none", max), ("dice_box", max), ("loss", min), ("ber", min)):
        run = mixed_run.but(output=tmp_path / monitor, monitor=monitor, epochs=3, lr=2e-2)
        result = train(run)
        table = rows(run.output)[1:]
        chosen = best(table, key=lambda row: float(row[f"val_{monitor}"]))
        assert result.epoch == int(chosen["epoch"])
        assert result.scores[monitor] == pytest.approx(float(chosen[f"val_{monitor}"]))


@pytest.mark.parametrize(("prompt", "monitor"), [("box", "iou_points"), ("none", "dice_box")])
def test_a_score_that_the_run_does_not_have_cannot_be_monitored(prompt: str, monitor: str):
    with pytest.raises(ConfigError, match="possible are") as error:
        config(Path("p"), "sam", Path("o"), prompt=prompt, monitor=monitor)
    possible = str(error.value).partition("possible are ")[2]
    assert possible == f"iou and dice, each alone or with _{prompt}; mae, ber and loss."


def test_the_scores_of_objects_are_named_in_groups():
    with pytest.raises(ConfigError, match="possible are") as error:
        config(Path("p"), "sam", Path("o"), task="instance", monitor="f1_box")
    assert str(error.value) == (
        "monitor: task instance with prompt mixed is never scored by 'f1_box'; possible are iou and dice, each alone "
        "or with _box, _points or _none; ap, ap50, ap75, f1, pq, aji, matched_iou and count_error, each alone or with "
        "_none; mae, ber and loss."
    )
    assert monitors_in_words(["mae", "hd95", "hd95_none", "hd95_box"]) == "hd95, alone or with _box or _none; mae"
    assert monitors_in_words(["iou_box"]) == "iou_box"


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
    if json.loads((run.output / "adapter/sam_adapter.json").read_text())["epoch"] == 3:
        assert all(torch.equal(tensor, own["average"][name]) for name, tensor in kept.items())
    assert mixed_run.val_images is not None
    again = scored(mixed_run.val_images.parent, tmp_path / "scores", "mixed", adapter=run.output / "adapter")
    description = json.loads((run.output / "adapter/sam_adapter.json").read_text())
    assert again["iou"] == pytest.approx(description["scores"]["iou"], abs=1e-6)
    assert segmenter.prompt == "mixed"


def test_a_resumed_average_is_that_of_an_uninterrupted_run(mixed_run: TrainConfig, tmp_path: Path):
    whole = mixed_run.but(output=tmp_path / "whole", ema=0.9, epochs=2)
    train(whole)
    # The schedule depends on the number of epochs, so the first run is cut and not shortened.
    cut = whole.but(output=tmp_path / "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sam_adapter.training.run.GracefulStop", StopAfterFour)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    frozen = rows(cut.output)[0]
    train(cut.but(resume=True))
    assert rows(cut.output)[0] == frozen
    for name in ("adapter/sam_adapter.safetensors",):
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


def test_last_line_and_description_compare_with_the_frozen_base(
    mixed_run: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A learning rate that ruins the masks is a warning for each kind that became worse."""
    run = mixed_run.but(output=tmp_path / "ruined", lr=0.3, epochs=2, clip=1.0)
    result = train(run)
    description = json.loads((run.output / "adapter/sam_adapter.json").read_text())
    frozen, scores = result.frozen_scores, result.scores
    assert description["epoch"] == result.epoch
    assert description["epochs"] == 2
    assert f"kept epoch {result.epoch} of 2" in result.summary
    for kind in ("box", "points", "none"):
        change = f"{frozen[f'iou_{kind}']:.3f} → {scores[f'iou_{kind}']:.3f}".replace("0.", ".")
        assert f"{kind} {change}" in result.summary
    worse = [kind for kind in ("box", "points", "none") if scores[f"iou_{kind}"] < frozen[f"iou_{kind}"]]
    assert len(result.warnings) == len(worse)
    assert description["warnings"] == result.warnings
    for sentence in result.warnings:
        assert sentence in caplog.text


def test_kinds_that_became_worse_are_named():
    frozen = {"iou": 0.3, "iou_box": 0.341, "iou_none": 0.04, "empty_correct": 0.5}
    better = {"iou": 0.4, "iou_box": 0.412, "iou_none": 0.38, "empty_correct": 1.0}
    assert comparison(better, frozen) == "IoU box .341 → .412, none .040 → .380; empty pictures left empty .500 → 1.000"
    assert comparison(better, {}) == "IoU box .412, none .380; empty pictures left empty 1.000"
    assert worse_than_frozen(better, frozen) == []
    (sentence,) = worse_than_frozen({**better, "iou_box": 0.34}, frozen)
    assert "With a box the adapter is worse than the frozen base: validation IoU .341 → .340" in sentence
    assert worse_than_frozen(better, {}) == worse_than_frozen({}, frozen) == []


def test_boxes_around_several_objects_are_a_warning_in_the_description(sam_folder: str, tmp_path: Path):
    pairs = write_pairs(tmp_path / "pairs")
    for path in (pairs / "masks").iterdir():
        mask = np.zeros((*Image.open(path).size[::-1],), np.uint8)
        mask[5:15, 5:15] = mask[30:40, 30:40] = 255
        Image.fromarray(mask).save(path)
    run = config(pairs, sam_folder, tmp_path / "run", epochs=1)
    assert any("a box no longer means one object" in one for one in train(run).warnings)
    description = json.loads((run.output / "adapter/sam_adapter.json").read_text())
    assert any("median 2 objects" in one for one in description["warnings"])
    other = train(run.but(output=tmp_path / "other", prompt="none"))
    assert not any("one object" in one for one in other.warnings)


@pytest.mark.parametrize(("bias", "answer"), [(-50.0, "nothing"), (50.0, "everything")])
def test_collapse_is_told_once(
    mixed_run: TrainConfig, tmp_path: Path, bias: float, answer: str, monkeypatch: pytest.MonkeyPatch, caplog
):
    mask_logits = BinaryTask.mask_logits

    def collapsed(self: BinaryTask, output: Output) -> torch.Tensor:
        return mask_logits(self, output) * 1e-3 + bias

    monkeypatch.setattr(BinaryTask, "mask_logits", collapsed)
    one = mixed_run.but(output=tmp_path / "one", epochs=1, prompt="box", monitor="iou")
    train(one)
    assert "In two validations" not in caplog.text
    train(one.but(output=tmp_path / "three", epochs=3))
    told = [record.message for record in caplog.records if "In two validations" in record.message]
    assert len(told) == 1
    assert f"100 % of the pictures asked with a box were answered with {answer}" in told[0]


def test_best_thresholds_are_those_of_the_kept_weights(mixed_run: TrainConfig, tmp_path: Path):
    segmenter = load(mixed_run.output / "adapter")
    assert set(segmenter.best_thresholds) == {"box", "points", "none"}
    assert mixed_run.val_images is not None
    for kind, best in segmenter.best_thresholds.items():
        found = {
            threshold: scored(
                mixed_run.val_images.parent,
                tmp_path / f"{kind}_{threshold}",
                kind,
                adapter=mixed_run.output / "adapter",
                threshold=threshold,
            )["iou"]
            for threshold in {best, 0.5, 0.25, 0.75, max(best - 1 / 64, 1 / 64), min(best + 1 / 64, 63 / 64)}
        }
        assert found[best] == max(found.values())


def test_predict_takes_the_best_threshold_of_each_pictures_prompt(mixed_run: TrainConfig, tmp_path: Path):
    segmenter = load(mixed_run.output / "adapter")
    segmenter.best_thresholds = {"box": 0.0, "none": 1.0}  # everything, and nothing
    save_adapter(tmp_path / "adapter", segmenter)
    names = sorted(path.name for path in mixed_run.image_folder.iterdir())
    (tmp_path / "prompts.json").write_text(json.dumps({names[0]: {"box": [3, 3, 30, 30]}}))
    asked = PredictConfig(
        adapter=tmp_path / "adapter",
        input=str(mixed_run.images),
        output=tmp_path / "out",
        prompts=tmp_path / "prompts.json",
        threshold="best",
        save="masks",
    )
    masks = [np.asarray(Image.open(path)) for path in sorted(predict(asked))]
    assert masks[0].all()
    assert not any(mask.any() for mask in masks[1:])
    (tmp_path / "prompts.json").write_text(json.dumps({names[0]: {"points": [[3, 3]]}}))
    with pytest.raises(ConfigError, match="no best threshold for the prompt 'points'"):
        predict(asked)
    with pytest.raises(ConfigError, match="'best' is known of adapters alone"):
        asked.but(adapter=None, model="tiny")


def test_threshold_ious_by_counting():
    rng = np.random.default_rng(0)
    probabilities, target = torch.from_numpy(rng.random((9, 11))), torch.from_numpy(rng.random((9, 11)) > 0.6)
    probabilities[0, :3] = torch.tensor([0.5, 1 / 64, 1.0])
    valid = torch.from_numpy(rng.random((9, 11)) > 0.2)
    found = threshold_ious(probabilities, target, valid)
    expected = [score(probabilities, target, k / 64, valid=valid)[COLUMNS.index("iou")].item() for k in range(1, 64)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert best_threshold(torch.tensor([0.1] * 20 + [0.9] * 5 + [0.2] * 30 + [0.9] + [0.1] * 7)) == 25 / 64


def test_probabilities_that_are_not_a_number_lie_above_no_threshold():
    probabilities, target = torch.full((4, 4), torch.nan), torch.ones(4, 4)
    assert threshold_ious(probabilities, target).tolist() == pytest.approx(
        [score(probabilities, target)[COLUMNS.index("iou")].item()] * 63
    )
    probabilities[0] = 0.9
    assert threshold_ious(probabilities, target)[31].item() == pytest.approx(0.25, abs=1e-3)
    curve = ThresholdCurve()
    curve.update(probabilities, target)
    assert curve.recall[128] == 0.25


def test_a_diverged_epoch_does_not_take_the_place_of_a_good_one(tmp_path: Path):
    keeper, written = AdapterKeeper(tmp_path, "loss", "min"), []
    keeper.write = lambda trainer, pl_module: written.append(keeper.epoch)
    module = Mock(TrainingModule, val_scores={"loss": 0.5})
    for epoch, scores in enumerate([{"loss": 0.5}, {}, {"loss": math.nan}, {"loss": 0.4}]):
        module.val_scores = scores  # of a loss that is NaN for every image there is no mean
        keeper.on_validation_end(Mock(sanity_checking=False, current_epoch=epoch), module)
    assert written == [1, 4]


def test_without_the_monitored_score_the_latest_is_kept(tmp_path: Path):
    keeper, written = AdapterKeeper(tmp_path, "iou", "max"), []
    keeper.write = lambda trainer, pl_module: written.append(keeper.epoch)
    for epoch in range(2):
        keeper.on_validation_end(
            Mock(sanity_checking=False, current_epoch=epoch), Mock(TrainingModule, val_scores={"empty": 3})
        )
    assert written == [1, 2]


def test_all_processes_of_a_resumed_run_take_part_in_the_means_of_an_epoch():
    means = EpochMeans()
    means.add(3, {"loss": torch.tensor(6.0)}, torch.tensor(4.0))
    stored = means.state_dict(Mock(root_device=torch.device("cpu"), reduce=lambda sums, **_: sums))
    asked = []
    for first in (True, False):
        again = EpochMeans()
        again.load_state_dict(stored, first=first)
        again.over_all(Mock(root_device=torch.device("cpu"), reduce=lambda sums, **_: asked.append(sums) or sums))
    assert [sums.tolist() for sums in asked] == [[4.0, 6.0], [0.0, 0.0]]


def test_scores_leave_a_device_without_float64():
    tensor = Mock(device=Mock(type="mps"))
    with_float64(tensor)
    tensor.to.assert_called_once_with(torch.device("cpu"))
    assert device_with_float64(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_python_users_see_no_advertisement_and_find_their_settings_as_they_were(
    mixed_run: TrainConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero")
    levels, filters = [logging.getLogger(name).level for name in names], list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(mixed_run.but(output=tmp_path / "run", epochs=1))
    assert [str(one.message) for one in caught if "lightning" in one.filename] == []
    shown = "".join(capfd.readouterr())
    assert "litlogger" not in shown
    assert "GPU available" not in shown
    assert [logging.getLogger(name).level for name in names] == levels
    assert list(warnings.filters) == filters


def test_progress_is_told_within_an_epoch(
    mixed_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="sam_adapter")
    train(mixed_run.but(output=tmp_path / "quick", epochs=1, batch_size=1))
    assert "step 1 of 6" not in caplog.text  # an epoch of a second
    monkeypatch.setattr("sam_adapter.training.progress.SECONDS", 0.0)
    monkeypatch.setattr("sam_adapter.training.progress.SHARE", 0.3)
    train(mixed_run.but(output=tmp_path / "slow", epochs=2, batch_size=1))
    lines = [record.message for record in caplog.records if record.name == "sam_adapter.training.progress"]
    assert [line.split(",")[0] for line in lines] == [
        f"epoch {epoch} of 2: {share} % (step {step} of 6)" for epoch in (1, 2) for share, step in ((33, 2), (67, 4))
    ]
