"""`--metrics`, `--spacing` and `--monitor`: an added score is in all that scores are in, and is what it says."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import binary_auroc

from conftest import write_pairs
from evaluation_runs import EMPTY, KINDS, eight_pairs, rows_of, scored, truth_of
from sam_adapter import EvaluateConfig, Predictor, TrainConfig, cli, load, train
from sam_adapter.config.choices import monitor_mode, parse_metrics
from sam_adapter.config.registry import MORE_METRICS
from sam_adapter.errors import ConfigError
from sam_adapter.evaluation.text import scores_text
from sam_adapter.tasks.metrics import FullSizeAnswer
from sam_adapter.tasks.metrics.boundaries import boundary_iou, hd95
from sam_adapter.tasks.prompts import box_from_mask
from sam_adapter.training.curves import draw_curves
from training_runs import config, rows

ALL = ",".join(MORE_METRICS)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("eval"))


@pytest.fixture(scope="module")
def evaluated(
    pairs: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """All of them, with all that there may be to compare with."""
    output = tmp_path_factory.mktemp("all")
    options = {"prompt": "mixed", "with_frozen": True, "compare": (adapters["other"],), "report": True}
    return output, scored(pairs, adapters["one"], output, metrics=ALL, spacing="0.5,2", **options)


def test_every_added_score_is_in_all_that_is_written(evaluated: tuple[Path, dict[str, Any]]):
    output, result = evaluated
    assert result == json.loads((output / "metrics.json").read_text())
    assert (result["metrics"], result["spacing"]) == (list(MORE_METRICS), [0.5, 2.0])
    table = rows_of(output)
    assert list(table[0])[7:-4] == [entry.column or name for name, entry in MORE_METRICS.items()]
    models = {"one": result, "frozen": result["frozen"], "other": result["compared"]["other"]}
    for model, scores in (models | result["baselines"]).items():
        own = [row for row in table if row["model"] == model and row["hd95"]]
        assert own
        for name in MORE_METRICS:
            if name == "auroc":
                assert (name in scores) == (model != "fill_box")  # which has no answer without a box
                continue
            for kind in (kind for kind in KINDS if f"iou_{kind}" in scores):
                values = [float(row[name]) for row in own if row["prompt"] == kind]
                assert scores[f"{name}_{kind}"] == pytest.approx(np.mean(values)), (model, name)
                assert scores[f"{name}_{kind}_low"] <= scores[f"{name}_{kind}"] <= scores[f"{name}_{kind}_high"]
            assert scores[f"{name}_low"] <= scores[name] <= scores[f"{name}_high"]
    page = (output / "report.html").read_text(encoding="utf-8")
    told = scores_text(result, "one")
    for name, entry in MORE_METRICS.items():
        assert f'<th scope="col">{entry.heading}</th>' in page
        assert f'<th scope="col">95 % of {entry.heading}</th>' in page
        assert f'<button type="button">{"highest probability" if name == "auroc" else entry.heading}</button>' in page
        assert entry.heading in told
        assert (f"{result[name]:.2f}" if name == "hd95" else f"{result[name]:.4f}") in told.split()
    assert "but for MAE, BER, stretched MAE, HD95 and mean BER." in page
    assert max(map(len, told.splitlines())) < 130
    assert "\nHD95 in mm." in told
    assert " HD95 in mm." in page


def test_pictures_without_foreground_have_no_score_of_a_mask_but_a_highest_probability(
    evaluated: tuple[Path, dict[str, Any]],
):
    page = (evaluated[0] / "report.html").read_text(encoding="utf-8")
    for row in rows_of(evaluated[0], model="one"):
        assert f'data-value="{row["highest_probability"]}"' in page
        empty = int(row["name"].removeprefix("img_")) in EMPTY
        assert all((row[name] == "") == empty for name in ("iou", "ber", *MORE_METRICS) if name != "auroc")
        assert 0 < float(row["highest_probability"]) < 1


def test_auroc_is_that_of_the_highest_probabilities_without_a_prompt(evaluated: tuple[Path, dict[str, Any]]):
    output, result = evaluated
    table = rows_of(output, model="one", prompt="none")
    assert len(table) == 8
    values = torch.tensor([float(row["highest_probability"]) for row in table])
    present = torch.tensor([int(row["tp"]) + int(row["fn"]) > 0 for row in table])
    assert result["auroc"] == result["auroc_none"] == pytest.approx(binary_auroc(values, present.long()).item())
    assert "auroc_box" not in result


def test_added_scores_are_those_of_the_masks_that_are_predicted(
    pairs: Path, adapters: dict[str, Path], evaluated: tuple[Path, dict[str, Any]]
):
    predictor = Predictor(load(adapters["one"]), device="cpu", precision="32")
    for row in rows_of(evaluated[0], model="one", prompt="box"):
        truth = truth_of(pairs, int(row["name"].removeprefix("img_")))
        predictor.set_image(pairs / f"images/{row['name']}.png")
        mask = predictor.predict(box=box_from_mask(truth)).masks[0].numpy()
        answer = FullSizeAnswer.of_mask(mask, truth, spacing=(0.5, 2.0))
        assert float(row["hd95"]) == pytest.approx(hd95(answer), abs=1e-6)
        assert float(row["boundary_iou"]) == pytest.approx(boundary_iou(answer), abs=1e-6)
        assert float(row["precision"]) == pytest.approx((mask & truth).sum() / max(mask.sum(), 1), abs=1e-6)


def test_only_what_is_asked_for_is_added_and_nothing_else_changes(
    pairs: Path, adapters: dict[str, Path], tmp_path: Path
):
    plain = scored(pairs, adapters["one"], tmp_path / "a", prompt="mixed")
    more = scored(pairs, adapters["one"], tmp_path / "b", prompt="mixed", metrics="recall, iou+hd95")
    assert {name: more[name] for name in plain} == plain
    assert "pixels" not in scores_text(plain, "one")
    added = {name.split("_")[0] for name in more.keys() - plain.keys()}
    assert added == {"hd95", "recall", "metrics", "spacing"}
    assert more["metrics"] == ["hd95", "recall"]
    for row, other in zip(rows_of(tmp_path / "a"), rows_of(tmp_path / "b"), strict=True):
        assert {name: other[name] for name in row} == row


def test_spacing_changes_distances(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    found = {
        spacing: scored(pairs, adapters["one"], tmp_path / str(at), metrics="hd95,boundary_iou", spacing=spacing)
        for at, spacing in enumerate((1.0, 2.5, "2.5,2.5", "0.1,2.5"))
    }
    assert found[2.5]["hd95"] == pytest.approx(2.5 * found[1.0]["hd95"])
    assert found["2.5,2.5"]["hd95"] == found[2.5]["hd95"]
    assert 0.1 * found[1.0]["hd95"] < found["0.1,2.5"]["hd95"] < found[2.5]["hd95"]
    assert "HD95 in pixels." in scores_text(found[1.0], "one")
    assert "HD95 in mm." in scores_text(found["0.1,2.5"], "one")
    for one in found.values():
        assert one["boundary_iou"] == found[1.0]["boundary_iou"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> TrainConfig:
    """A run with a picture without foreground in its validation, whose best epoch is that of the least distance."""
    place = tmp_path_factory.mktemp("run")
    pairs, held_out = write_pairs(place / "pairs", 4), write_pairs(place / "held_out", 3, seed=9)
    path = held_out / "masks/img_01.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    validation = {"val_images": held_out / "images", "val_masks": held_out / "masks", "precision": "32"}
    options: dict[str, Any] = {"metrics": ALL, "spacing": 0.5, "monitor": "hd95_box", "epochs": 4, "lr": 2e-2}
    run = config(pairs, sam_folder, place / "run", **validation, **options, batch_size=1, warmup=0.0)
    train(run)
    return run


def test_training_has_added_scores_in_all_that_scores_are_in(run: TrainConfig):
    table = rows(run.output)
    own = [name for name in table[0] if any(name.startswith(f"val_{one}") for one in MORE_METRICS)]
    expected = []
    for name in MORE_METRICS:
        expected += [f"val_{name}", *(f"val_{name}_{kind}" for kind in KINDS if name != "auroc" or kind == "none")]
    assert own == expected
    assert list(table[0])[-2:] == ["val_empty_correct", "seconds"]
    assert all(row[name] for row in table for name in own)
    description = json.loads((run.output / "adapter/sam_adapter.json").read_text())
    best = min(table[1:], key=lambda row: float(row["val_hd95_box"]))
    assert description["epoch"] == int(best["epoch"])
    for scores, row in ((description["scores"], best), (description["frozen_scores"], table[0])):
        for name in own:
            assert scores[name.removeprefix("val_")] == pytest.approx(float(row[name]))
    with Image.open(run.output / "curves.png") as picture:
        assert picture.height > 2 * picture.width  # a panel for each


def test_curves_have_an_empty_panel_where_no_picture_has_the_score(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,val_loss,train_iou,val_hd95_box\n1,2.0,2.0,0.5,\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png", ["hd95"])
    with Image.open(tmp_path / "curves.png") as picture:
        assert 0.7 * picture.width < picture.height < 0.8 * picture.width  # two lines of panels


def test_validation_scores_are_those_that_evaluate_gives(run: TrainConfig, tmp_path: Path):
    assert run.val_images is not None
    found = scored(run.val_images.parent, run.output / "adapter", tmp_path, prompt="mixed", metrics=ALL, spacing=0.5)
    description = json.loads((run.output / "adapter/sam_adapter.json").read_text())
    for name in MORE_METRICS:
        assert description["scores"][name] == pytest.approx(found[name], abs=1e-6), name


def test_the_log_of_a_run_names_added_scores(sam_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    pairs = write_pairs(tmp_path / "pairs", 3)
    done = config(pairs, sam_folder, tmp_path / "run", metrics="specificity,hd95", epochs=1, val_fraction=0.34)
    with caplog.at_level("INFO"):
        train(done)
    told = [record.getMessage() for record in caplog.records]
    for begin in ("frozen base: ", "epoch 1 of 1: "):
        line = next(one for one in told if one.startswith(begin))
        assert line.index("val ber ") < line.index("val hd95 ") < line.index("val specificity ")


def made(**options: Any) -> TrainConfig:
    return TrainConfig(images="i", masks="m", model="tiny", output="o", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("hd95", "min"), ("hd95_box", "min"), ("stretched_mae_none", "min"), ("s_measure", "max"), ("auroc_none", "max")],
)
def test_what_is_best(monitor: str, mode: str):
    assert monitor_mode(monitor) == mode
    assert made(monitor=monitor, metrics=ALL).monitor == monitor


def test_a_monitor_that_is_not_added_says_what_to_add():
    with pytest.raises(ConfigError, match="monitor: the run has no 'hd95_box'; add it with '--metrics hd95'"):
        made(monitor="hd95_box")
    with pytest.raises(ConfigError, match="add it with '--metrics recall,boundary_iou'"):
        made(monitor="boundary_iou", metrics="recall")
    with pytest.raises(
        ConfigError,
        match=r"prompt box is never scored by 'hd95_none'; possible are .* hd95, each alone or with _box; ",
    ):
        made(monitor="hd95_none", metrics="hd95", prompt="box")
    with pytest.raises(ConfigError, match="is never scored by 'auroc_box'"):
        made(monitor="auroc_box", metrics="auroc")


@pytest.mark.parametrize("kind", ["box", "points"])
def test_auroc_is_refused_where_pictures_are_not_asked_alike(kind: str):
    for kind_of_config in (TrainConfig, EvaluateConfig):

        def make(made_of: Any = kind_of_config, **options: Any) -> Any:
            return made_of(images="i", masks="m", model="tiny", output="o", **options)

        with pytest.raises(ConfigError, match=f"metrics: 'auroc' needs .* with prompt {kind} leave it out"):
            make(metrics="recall,auroc", prompt=kind)
        assert make(metrics="recall,auroc", prompt="none").added_metrics == ("recall", "auroc")


def test_names_are_read_as_they_are_written():
    assert parse_metrics("") == parse_metrics("iou, dice+ber,") == ()
    assert parse_metrics("recall,hd95+recall , s_measure") == ("s_measure", "hd95", "recall")
    with pytest.raises(ConfigError, match=r"metrics: 'hd96' is not a score\..*iou, dice, mae, ber are .* auroc, "):
        made(metrics="hd95,hd96", monitor="recall")


def test_the_command_line_takes_spacing_in_each_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert made(spacing=0.7).pixel_spacing == made(spacing="0.7,0.7").pixel_spacing == (0.7, 0.7)
    assert made(spacing="0.7, 1").pixel_spacing == (0.7, 1.0)
    for value in ("0", "-1", "nan", "wide", "1,2,3", "1,", "0,1", "1,inf", "nan,1"):
        with pytest.raises(SystemExit):
            cli.main(["train", "--images", "i", "--masks", "m", "--model", "tiny", "--output", "o",
                      f"--spacing={value}"])  # fmt: skip
        assert "spacing: expected" in capsys.readouterr().err
    text = made(spacing="0.7,1", metrics="hd95").to_yaml()
    (tmp_path / "c.yaml").write_text(text)
    assert TrainConfig.from_yaml(tmp_path / "c.yaml").pixel_spacing == (0.7, 1.0)


def test_the_help_names_all_scores(capsys: pytest.CaptureFixture[str]):
    for name in ("train", "evaluate"):
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        assert f"Known are {', '.join(MORE_METRICS)}." in told


def test_a_table_of_all_answers_has_the_order_of_the_columns(evaluated: tuple[Path, dict[str, Any]]):
    with (evaluated[0] / "per_image.csv").open(newline="") as file:
        names = next(csv.reader(file))
    assert names[:7] == ["name", "model", "prompt", "iou", "dice", "mae", "ber"]
    assert names[-4:] == ["tp", "fp", "fn", "tn"]
