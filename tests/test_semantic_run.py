"""Classes from files to scores and pictures, through the commands: what a user of several classes does."""

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from sam_adapter import EvaluateConfig, PredictConfig, Predictor, TrainConfig, evaluate, load, predict, train
from sam_adapter.check.sheet import write_sheet
from sam_adapter.checkpoints.adapter import read_adapter_weights
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import CheckpointError, ConfigError, DataError
from sam_adapter.prediction.writers import file_names
from sam_adapter.tasks.prediction import ClassPrediction
from sam_adapter.training.setup import module_and_data
from training_runs import command, config, require_same_training, rows

COLOURS = {0: (0, 0, 0), 3: (200, 0, 0), 9: (0, 0, 200)}
CLASSES = "ball: 3\nbox: 9\nignore: [255]\n"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls and boxes of different brightness; a third of the pictures has one of the two alone."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :64]
    palette = np.zeros((256, 3), np.uint8)
    for value, colour in COLOURS.items():
        palette[value] = colour
    for index in range(12):
        mask = np.zeros((48, 64), np.uint8)
        if index % 3 != 1:
            mask[(rows - 24) ** 2 + (columns - 16) ** 2 < rng.integers(60, 120)] = 3
        if index % 3 != 2:
            mask[14:34, 38 : rng.integers(48, 60)] = 9
        mask[0, :4] = 255
        image = np.select([mask == 3, mask == 9], [210, 130], 40) + rng.integers(0, 20, (48, 64))
        Image.fromarray(np.repeat(image.astype(np.uint8)[..., None], 3, 2)).save(folder / f"images/{index:02}.png")
        indexed = Image.fromarray(mask, mode="P")
        indexed.putpalette(palette.tobytes())
        indexed.save(folder / f"masks/{index:02}.png")
    (folder / "classes.yaml").write_text(CLASSES)
    return folder


def options(scenes: Path, sam_folder: str, output: Path, **changes) -> TrainConfig:
    own = {"task": "semantic", "classes": scenes / "classes.yaml", "val_fraction": 0.25, "batch_size": 2}
    return config(scenes, sam_folder, output, **{**own, **changes})


@pytest.fixture(scope="module")
def run(scenes: Path, sam_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "run"
    train(options(scenes, sam_folder, output, class_tokens=3, epochs=3))
    return output


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
    assert described["format"] == 3


def test_scores_are_of_classes_and_the_frozen_base_has_them_too(scenes: Path, run: Path, tmp_path: Path):
    found = evaluate(
        EvaluateConfig(
            adapter=run / "adapter",
            images=scenes / "images",
            masks=scenes / "masks",
            output=tmp_path,
            prompt="mixed",
            workers=0,
            accelerator="cpu",
            with_frozen=True,
            report=True,
        )
    )
    assert found["task"] == "semantic"
    assert found["miou_box"] == pytest.approx((found["iou_box[ball]"] + found["iou_box[box]"]) / 2)
    assert found["confusion"]["labels"] == ["background", "ball", "box"]
    pixels = sum(int((np.asarray(Image.open(path)) != 255).sum()) for path in sorted((scenes / "masks").iterdir()))
    assert sum(map(sum, found["confusion"]["none"])) == pixels
    assert "miou_none" in found["frozen"]
    with (tmp_path / "per_image.csv").open() as file:
        table = list(csv.DictReader(file))
    one = [row for row in table if row["name"] == "01" and row["model"] == found_name(table)]
    assert {(row["class"], row["prompt"]) for row in one} == {
        ("box", "box"),
        ("box", "points"),
        ("box", "none"),
        ("ball", "none"),  # not there: asked for by its learned prompt alone
    }
    page = (tmp_path / "report.html").read_text()
    assert "Classes over all pixels" in page
    assert "IoU ball" in page


def found_name(table: list[dict[str, str]]) -> str:
    return table[0]["model"]


def test_telling_the_class_changes_scores_with_prompts_alone(scenes: Path, run: Path, tmp_path: Path):
    asked = EvaluateConfig(
        adapter=run / "adapter",
        images=scenes / "images",
        masks=scenes / "masks",
        output=tmp_path / "plain",
        prompt="mixed",
        workers=0,
        accelerator="cpu",
    )
    plain, told = evaluate(asked), evaluate(asked.but(with_class="always", output=tmp_path / "told"))
    assert plain["mae_box"] != told["mae_box"]
    assert plain["mae_none"] == told["mae_none"]


def test_predicted_masks_have_the_values_and_colours_of_the_masks(scenes: Path, run: Path, tmp_path: Path):
    files = predict(
        PredictConfig(
            adapter=run / "adapter",
            input=str(scenes / "images"),
            output=tmp_path,
            save="masks,overlays,probabilities",
            workers=0,
            accelerator="cpu",
        )
    )
    assert len(files) == 12
    values = set()
    for path in files:
        image = Image.open(path)
        assert image.mode == "P"
        palette = image.getpalette()
        assert palette is not None
        assert tuple(palette[9:12]) == COLOURS[3]
        assert tuple(palette[27:30]) == COLOURS[9]
        values |= set(np.unique(np.asarray(image)).tolist())
    assert values <= {0, 3, 9}
    assert values > {0}
    assert sorted(path.name for path in (tmp_path / "probabilities/00").iterdir()) == ["ball.png", "box.png"]
    assert Image.open(tmp_path / "overlays/00.png").size == (64, 48)
    first = np.asarray(Image.open(files[0]))
    ball, box = (np.asarray(Image.open(tmp_path / f"probabilities/00/{name}.png")) / 65535 for name in ("ball", "box"))
    sure = np.abs(ball - box) > 1e-3
    assert np.array_equal((first == 3)[sure], ((ball > box) & (ball > 0.5))[sure])


def test_colours_come_back_as_colours(scenes: Path, sam_folder: str, tmp_path: Path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in sorted((scenes / "masks").iterdir()):
        values = np.asarray(Image.open(path))
        pixels = np.zeros((*values.shape, 3), np.uint8)
        for value, colour in COLOURS.items():
            pixels[values == value] = colour
        Image.fromarray(pixels).save(masks / path.name)
    (tmp_path / "classes.yaml").write_text("ball: [200, 0, 0]\nbox: [0, 0, 200]\n")
    changes = {"masks": masks, "classes": tmp_path / "classes.yaml", "epochs": 1, "prompt": "none"}
    train(options(scenes, sam_folder, tmp_path / "run", **changes))
    (written, *_) = predict(
        PredictConfig(
            adapter=tmp_path / "run/adapter", input=str(scenes / "images/00.png"), output=tmp_path, accelerator="cpu"
        )
    )
    colours = {tuple(one) for one in np.asarray(Image.open(written)).reshape(-1, 3).tolist()}
    assert colours <= set(COLOURS.values())


def test_other_classes_than_the_adapters_are_refused(scenes: Path, run: Path, sam_folder: str, tmp_path: Path):
    (tmp_path / "swapped.yaml").write_text("box: 9\nball: 3\nignore: [255]\n")
    asked = EvaluateConfig(
        adapter=run / "adapter",
        images=scenes / "images",
        masks=scenes / "masks",
        output=tmp_path / "out",
        accelerator="cpu",
        classes=tmp_path / "swapped.yaml",
        task="semantic",
    )
    with pytest.raises(ConfigError, match=r"names box, ball; .* ball, box"):
        evaluate(asked)
    with pytest.raises(ConfigError, match=r"has the task 'semantic', got 'binary'"):
        evaluate(asked.but(classes=None, task="binary"))
    starting = {"start_from": run / "adapter", "classes": tmp_path / "swapped.yaml"}
    with pytest.raises(CheckpointError, match=r"trained on the classes ball, box, the run has box, ball"):
        train(options(scenes, sam_folder, tmp_path / "run", **starting))
    values = np.asarray(Image.open(scenes / "masks/00.png")).copy()
    values[5, 5] = 77
    (tmp_path / "masks").mkdir()
    Image.fromarray(values).save(tmp_path / "masks/00.png")
    with pytest.raises(DataError, match=r"00\.png: 77"):
        evaluate(asked.but(classes=None, masks=tmp_path / "masks", faulty="stop"))


def test_a_run_starts_from_an_adapter_of_the_same_classes(scenes: Path, run: Path, sam_folder: str, tmp_path: Path):
    module, _ = module_and_data(options(scenes, sam_folder, tmp_path / "run", start_from=run / "adapter"))
    assert module.segmenter.class_tokens == 3
    assert module.start is not None
    assert "learned_prompts.table.weight" in module.start


@pytest.mark.parametrize("prompt", ["mixed", "box"])
def test_two_processes_train_as_one(scenes: Path, sam_folder: str, tmp_path: Path, prompt: str):
    """With boxes alone a process may have no query that asks by class."""
    shared = {"prompt": prompt, "augment": "none", "precision": "32", "val_fraction": 0.0, "epochs": 1, "lr": 1e-2}
    one = options(scenes, sam_folder, tmp_path / "one", batch_size=4, **shared)
    two = options(scenes, sam_folder, tmp_path / "two", batch_size=2, devices=2, **shared)
    train(one)
    subprocess.run(command(two), check=True, capture_output=True)
    require_same_training(one, two, steps=3)


def test_parts_of_a_split_have_like_shares_of_classes(scenes: Path, sam_folder: str, tmp_path: Path):
    for seed in range(3):
        _, data = module_and_data(options(scenes, sam_folder, tmp_path / "run", seed=seed))
        held_out = [data.looks[record].classes for record in data.val_records]
        assert len(held_out) == 3
        for label in (1, 2):
            assert sum(any(one.label == label for one in classes) for classes in held_out) == 2


def test_a_coco_file_is_trained_on_and_scored(scenes: Path, sam_folder: str, tmp_path: Path):
    """The same objects as in the masks give the same scores."""
    size, images, annotations = (48, 64), [], []
    for number, path in enumerate(sorted((scenes / "masks").iterdir())):
        values = np.asarray(Image.open(path))
        images.append({"id": number, "file_name": f"old/{path.name}", "height": 48, "width": 64})
        for value, crowd in ((3, 0), (9, 0), (255, 1)):
            mask = np.asfortranarray((values == value).astype(np.uint8))
            if mask.any():
                encoded: Any = coco.encode(mask)
                lengths = {"size": list(size), "counts": encoded["counts"].decode()}
                category = {3: 1, 9: 2, 255: 1}[value]
                entry = {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": crowd}
                annotations.append({**entry, "segmentation": lengths})
    file = tmp_path / "coco.json"
    names = [{"id": 1, "name": "ball"}, {"id": 2, "name": "box"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    output, changes = tmp_path / "run", {"masks": None, "annotations": file, "classes": None}
    train(options(scenes, sam_folder, output, epochs=1, **changes))
    assert load(output / "adapter").class_names == ("ball", "box")
    asked = EvaluateConfig(
        adapter=output / "adapter",
        images=scenes / "images",
        annotations=file,
        output=tmp_path / "coco",
        workers=0,
        accelerator="cpu",
    )
    found = evaluate(asked)
    masks = {"annotations": None, "masks": scenes / "masks", "output": tmp_path / "masks"}
    assert evaluate(asked.but(**masks, task="semantic", classes=scenes / "classes.yaml")) == found


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


def test_python_gets_the_class_of_every_pixel(scenes: Path, run: Path, tmp_path: Path):
    (written,) = predict(
        PredictConfig(adapter=run / "adapter", input=str(scenes / "images/03.png"), output=tmp_path, accelerator="cpu")
    )
    predictor = Predictor(load(run / "adapter"), device="cpu")
    with pytest.raises(DataError, match="call set_image first"):
        predictor.predict_all()
    predictor.set_image(scenes / "images/03.png")
    found = predictor.predict_all()
    assert isinstance(found, ClassPrediction)
    values = np.array([0, 3, 9])[found.class_map.numpy()]
    assert (values == np.asarray(Image.open(written))).mean() > 0.99  # the command may compute in bfloat16
    assert [layer.name for layer in found.layers()] == [
        name for label, name in enumerate(("ball", "box"), start=1) if (found.class_map == label).any()
    ]
    assert not isinstance(predictor.predict(box=[5, 5, 30, 40]), ClassPrediction)


def test_the_contact_sheet_has_the_colours_of_the_classes(scenes: Path, tmp_path: Path):
    check = CheckConfig(
        images=scenes / "images", masks=scenes / "masks", task="semantic", classes=scenes / "classes.yaml"
    )
    write_sheet(tmp_path / "sheet.png", inspect(check))
    pixels = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3)
    for colour in (COLOURS[3], COLOURS[9]):
        assert (pixels == colour).all(1).sum() > 100


def test_names_of_classes_that_files_cannot_have_or_share():
    assert file_names(["a/b", "a_b", "A:B", "cat"]) == ["a_b", "a_b_2", "A_B_3", "cat"]


def test_boxes_of_classes_are_filled_each_for_its_own_class(scenes: Path, run: Path, tmp_path: Path):
    found = evaluate(
        EvaluateConfig(
            adapter=run / "adapter",
            images=scenes / "images",
            masks=scenes / "masks",
            output=tmp_path,
            prompt="box",
            workers=0,
            accelerator="cpu",
            with_frozen=True,
        )
    )
    with (tmp_path / "per_image.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["model"] == "fill_box"]
    assert len(table) == 16  # one for each class that is there
    ball = [float(row["iou"]) for row in table if row["class"] == "ball"]
    assert np.mean(ball) == pytest.approx(np.pi / 4, abs=0.06)  # a disc in its box
    assert found["baselines"]["fill_box"]["iou"] > 0.85
    asked = json.loads((tmp_path / "prompts.json").read_text())
    assert [one["class"] for one in asked["00.png"]] == ["ball", "box"]


def test_what_starts_from_another_task_or_names_another_class_is_told(
    scenes: Path, run: Path, sam_folder: str, tmp_path: Path
):
    starting = {"start_from": run / "adapter", "task": "binary", "classes": None, "ignore_value": ("255",)}
    with pytest.raises(CheckpointError, match="trained for the task 'semantic', the run has 'binary'"):
        train(options(scenes, sam_folder, tmp_path / "run", **starting, mask_rule="nonzero"))
    (tmp_path / "x.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "00.png", "height": 48, "width": 64}],
                "categories": [{"id": 1, "name": "cone"}],
                "annotations": [
                    {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": 0}
                ],
            }
        )
    )
    asked = EvaluateConfig(
        adapter=run / "adapter",
        images=scenes / "images",
        annotations=tmp_path / "x.json",
        output=tmp_path / "out",
        accelerator="cpu",
    )
    with pytest.raises(
        DataError, match=r"unknown class \(1\).*\n.*00\.png: .*has the class 'cone'; known are ball, box"
    ):
        evaluate(asked)
