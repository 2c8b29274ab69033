"""Runs of several classes through the commands: the doctor, training, resuming, splitting."""

import json
from pathlib import Path

import pytest
import torch

from sam_adapter import load, train
from sam_adapter.annotations.reading.classes import Classes
from sam_adapter.checkpoints.adapter import read_adapter_weights
from sam_adapter.checkpoints.description import FORMAT
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import ConfigError
from sam_adapter.training.outcome import worse_than_frozen
from sam_adapter.training.setup import module_and_data
from semantic_scenes import CLASSES, COLOURS, options
from training_runs import rows

pytest_plugins = ("semantic_scenes",)


def test_the_doctor_speaks_of_classes(scenes: Path, tmp_path: Path):
    check = CheckConfig(
        images=scenes / "images", masks=scenes / "masks", task="semantic", classes=scenes / "classes.yaml"
    )
    found = inspect(check)
    report = found.report()
    assert "ball (value 3): 8 pictures, 8 objects" in report
    assert "box (value 9): 8 pictures, 8 objects" in report
    assert found.rules.classes is not None
    assert found.rules.classes.colours == (COLOURS[3], COLOURS[9])
    (tmp_path / "few.yaml").write_text("ball: 3\nignore: [255]\n")
    report = inspect(check.but(classes=tmp_path / "few.yaml")).report()
    assert "unknown class (8)" in report
    assert "00.png: 9" in report
    (tmp_path / "more.yaml").write_text(CLASSES + "cone: 4\n")
    assert "no picture has the class cone" in inspect(check.but(classes=tmp_path / "more.yaml")).report()


def test_classes_are_for_tasks_that_have_some(scenes: Path):
    with pytest.raises(ConfigError, match=r"classes: the task 'binary' has none; '--task semantic' has"):
        CheckConfig(images=scenes / "images", masks=scenes / "masks", classes=scenes / "classes.yaml")


def test_a_run_trains_learned_prompts_and_keeps_the_best_class_maps(scenes: Path, run: Path):
    table = rows(run)
    assert len(table) == 4
    assert all(0 <= float(row["val_miou"]) <= 1 for row in table)
    assert float(table[-1]["train_loss"]) < float(table[1]["train_loss"])
    segmenter = load(run / "adapter")
    assert (segmenter.task, segmenter.class_names, segmenter.class_tokens) == ("semantic", ("ball", "box"), 3)
    assert segmenter.classes is not None
    assert segmenter.classes.void == ((255.0,),)
    saved = read_adapter_weights(run / "adapter")["learned_prompts.table.weight"]
    assert saved.shape == (2, 3 * 32)
    assert segmenter.learned_prompts is not None
    assert torch.equal(segmenter.learned_prompts.table.weight, saved)
    described = json.loads((run / "adapter/sam_adapter.json").read_text())
    best = max(table[1:], key=lambda row: float(row["val_miou"]))
    assert described["scores"]["miou"] == pytest.approx(float(best["val_miou"]))
    assert described["format"] == FORMAT


def test_a_run_starts_from_an_adapter_of_the_same_classes(scenes: Path, run: Path, sam_folder: str, tmp_path: Path):
    module, _ = module_and_data(options(scenes, sam_folder, tmp_path / "run", start_from=run / "adapter"))
    assert module.segmenter.class_tokens == 3
    assert module.start is not None
    assert "learned_prompts.table.weight" in module.start


def test_parts_of_a_split_have_like_shares_of_classes(scenes: Path, sam_folder: str, tmp_path: Path):
    for seed in range(3):
        _, data = module_and_data(options(scenes, sam_folder, tmp_path / "run", seed=seed))
        held_out = [data.looks[record].classes for record in data.val_records]
        assert len(held_out) == 3
        for label in (1, 2):
            assert sum(any(one.label == label for one in classes) for classes in held_out) == 2


def test_the_groups_of_a_table_stay_together(scenes: Path, sam_folder: str, tmp_path: Path):
    lines = ["image,mask,group"]
    lines += [f"{scenes}/images/{at:02}.png,{scenes}/masks/{at:02}.png,patient{at // 3}" for at in range(12)]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(lines))
    for seed in range(3):
        changes = {"images": None, "masks": None, "table": table, "seed": seed}
        _, data = module_and_data(options(scenes, sam_folder, tmp_path / "run", **changes))
        sides = [{int(record.image.stem) // 3 for record in side} for side in (data.train_records, data.val_records)]
        assert sides[1]
        assert not sides[0] & sides[1]


def test_a_run_goes_on_with_its_classes(scenes: Path, sam_folder: str, tmp_path: Path):
    """Also from kept embeddings, and with what was found out about the set read from the run's folder."""
    shared = {"method": "decoder", "embedding_cache": tmp_path / "cache", "precision": "32"}
    whole = options(scenes, sam_folder, tmp_path / "whole", epochs=2, **shared)
    parts = options(scenes, sam_folder, tmp_path / "parts", epochs=1, **shared)
    train(whole)
    train(parts)
    train(parts.but(epochs=2, resume=True, warmup=parts.warmup))
    first, second = (read_adapter_weights(run.output / "adapter") for run in (whole, parts))
    assert first.keys() == second.keys()
    assert load(parts.output / "adapter").class_names == ("ball", "box")
    assert len(rows(parts.output)) == 3


def test_class_maps_that_are_worse_than_the_frozen_ones_are_told():
    (told,) = worse_than_frozen({"miou": 0.4, "iou_box": 0.6}, {"miou": 0.5, "iou_box": 0.6})
    assert "mIoU .500 → .400" in told
    assert not worse_than_frozen({"miou": 0.6}, {"miou": 0.5})


def test_a_background_that_an_adapter_never_answers_is_told(scenes: Path, caplog: pytest.LogCaptureFixture):
    known = Classes(names=("ball", "box"), values=((3.0,), (9.0,)), void=((255.0,),), has_background=False)
    check = CheckConfig(images=scenes / "images", masks=scenes / "masks", task="semantic")
    found = inspect(check, classes=known)
    assert not found.faults
    assert "these have a background" in caplog.text
