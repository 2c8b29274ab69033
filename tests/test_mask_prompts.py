"""Masks as prompts in the commands: trained, scored beside the mask as given, and given to `predict` by a user."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation_runs import eight_pairs, overlap, rows_of, scored, truth_of
from object_scenes import options
from sam_adapter import EvaluateConfig, PredictConfig, Predictor, evaluate, load, predict, train
from sam_adapter.annotations.objects import AnnotatedObject
from sam_adapter.annotations.run_lengths import checked, run_lengths_of
from sam_adapter.batch import GivenMask, Prompt
from sam_adapter.checkpoints.adapter import read_adapter_config, save_adapter
from sam_adapter.config.options import PromptOptions
from sam_adapter.data.dataset import PictureDataset
from sam_adapter.errors import ConfigError, DataError
from sam_adapter.methods.base import MethodSettings
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tasks.binary import BinaryTask
from training_runs import config, rows

pytest_plugins = ("object_scenes",)

PICTURE = "img_01.png"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as an adapter, whose answers depend on prompts."""
    base, folder = SamSegmenter.frozen("tiny", image_size=128), tmp_path_factory.mktemp("adapter")
    method = MethodSettings(name="decoder", parts=("mask_decoder",))
    save_adapter(folder, SamSegmenter(base.backbone, method, base.preprocessing), best_thresholds={"box": 0.4})
    return folder


def predicted(adapter: Path, pictures: Path, output: Path, prompts: Any, **changes: Any) -> Path:
    path = output.with_suffix(".json")
    path.write_text(json.dumps(prompts))
    own = {"input": str(pictures), "prompts": path, "precision": "32", "accelerator": "cpu", "workers": 0}
    predict(PredictConfig(adapter=adapter, output=output, **{**own, **changes}))
    return output


def mask_of(lengths: dict[str, Any]) -> np.ndarray:
    height, width = lengths["size"]
    return AnnotatedObject(class_name="", run_lengths=checked(lengths, (height, width))).mask((height, width))


def test_a_binary_run_is_trained_scored_and_predicts_by_masks(pairs: Path, sam_folder: str, tmp_path: Path):
    run = config(pairs, sam_folder, tmp_path / "run", prompt="mask", epochs=1, correction_rounds=1, val_fraction=0.4)
    train(run)
    (row,) = rows(run.output)[1:]
    assert row["val_iou_mask"] == row["val_iou"] != ""
    assert row["val_iou_box"] == ""
    described = read_adapter_config(run.output / "adapter")
    assert described.prompt == "mask"
    best = described.best_thresholds["mask"]
    scores = tmp_path / "scores"
    result = scored(
        pairs, run.output / "adapter", scores, prompt="mask", with_frozen=True, report=True, threshold="best"
    )
    assert (result["iou"], result["mask_error"]) == (result["iou_mask"], 0.25)
    assert result["thresholds"] == {"mask": best}
    asked = json.loads((scores / "prompts.json").read_text())
    ious = [overlap(mask_of(one["mask"]), truth_of(pairs, int(name[4:6])))[0] for name, one in asked.items()]
    assert len(ious) == 6  # two have no foreground
    assert set(result["baselines"]) == {"given_mask", "otsu"}
    assert result["baselines"]["given_mask"]["iou"] == pytest.approx(np.mean(ious), abs=1e-4)
    assert 0.5 < np.mean(ious) < 0.9
    assert "the mask as given" in (scores / "report.html").read_text()
    again = tmp_path / "again"
    scored(pairs, run.output / "adapter", again, prompt="mask", seed=1)
    assert json.loads((again / "prompts.json").read_text()) != asked
    written = predicted(run.output / "adapter", pairs / "images", tmp_path / "out", asked, threshold=best)
    for name in asked:
        mask = np.asarray(Image.open(written / "masks" / name)) > 0
        (own,) = rows_of(scores, name=name[:-4], model=run.output.name)
        assert own["prompt"] == "mask"
        assert overlap(mask, truth_of(pairs, int(name[4:6])))[0] == pytest.approx(float(own["iou"]), abs=1e-4)


def test_objects_are_trained_by_masks_and_scored_and_predicted_in_tiles(scenes: Path, tmp_path: Path):
    few = tmp_path / "few"
    for path in (f"{kind}/{at:02}.png" for kind in ("images", "masks") for at in range(4)):
        (few / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scenes / path, few / path)
    run = options(few, tmp_path / "run", prompt="mask", epochs=1, objects_per_image=4)
    train(run)
    scores = tmp_path / "scores"
    result = evaluate(
        EvaluateConfig(
            adapter=run.output / "adapter",
            images=few / "images",
            masks=few / "masks",
            prompt="mask",
            with_frozen=True,
            tile=64,
            workers=0,
            precision="32",
            output=scores,
        )
    )
    given = result["baselines"]["given_mask"]
    assert 0.5 < given["iou_mask"] < 0.95
    assert result["object_iou_mask"] > 0.4
    asked = json.loads((scores / "prompts.json").read_text())["00.png"]
    assert {"mask", "object", "learned"} == set(asked[0])
    written = predicted(run.output / "adapter", scenes / "images/00.png", tmp_path / "out", {"00.png": asked}, tile=64)
    found = json.loads((written / "objects.json").read_text())["annotations"]
    truth = np.asarray(Image.open(scenes / "masks/00.png"))
    assert len(found) == len(asked) == len(np.unique(truth)) - 1
    expected = {row["object"]: float(row["iou"]) for row in rows_of(scores, name="00", model=run.output.name)}
    for one, entry in zip(found, asked, strict=True):
        number = np.bincount(truth[mask_of(entry["mask"])])[1:].argmax() + 1
        iou, _ = overlap(mask_of(one["segmentation"]), truth == number)
        assert iou == pytest.approx(expected[entry["object"]], abs=1e-3)


def test_a_file_run_lengths_and_an_array_mean_the_same(pairs: Path, adapter: Path, tmp_path: Path):
    truth = truth_of(pairs, 1)
    (tmp_path / "own").mkdir()
    Image.fromarray(truth.astype(np.uint8) * 255).save(tmp_path / "own/coarse.png")
    (lengths,) = run_lengths_of(truth.astype(np.int32)).values()
    picture = pairs / "images" / PICTURE
    entries = {"file": "own/coarse.png", "lengths": lengths, "whole": str(tmp_path / "own/coarse.png")}
    masks = []
    for name, entry in entries.items():
        written = predicted(adapter, picture, tmp_path / name, {PICTURE: {"mask": entry}})
        masks.append(np.asarray(Image.open(written / "masks" / PICTURE)) > 0)
    predictor = Predictor(load(adapter), device="cpu", precision="32")
    predictor.set_image(picture)
    answer = predictor.predict(mask=truth)
    for mask in masks:
        assert np.array_equal(mask, answer.masks[0].numpy())
    both = predictor.predict(mask=np.stack([truth, truth[::-1]]))
    torch.testing.assert_close(both.probability(0), answer.probability(), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(both.probability(1), answer.probability(), atol=1e-3)
    torch.testing.assert_close(
        predictor.predict(mask=truth.astype(np.uint8) * 7).probability(), answer.probability(), rtol=1e-3, atol=1e-4
    )
    boxed = predictor.predict(mask=truth, box=[2, 2, 55, 45])
    assert not torch.allclose(boxed.probability(), answer.probability(), atol=1e-3)


def test_masks_beside_the_pictures_are_not_answered(pairs: Path, adapter: Path, tmp_path: Path):
    shutil.copytree(pairs / "images", tmp_path / "photos")
    for at, name in ((1, f"photos/rough/{PICTURE}"), (3, "photos/rough.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(truth_of(pairs, at)).save(tmp_path / name)
    prompts = {PICTURE: {"mask": f"photos/rough/{PICTURE}"}, "img_03.png": {"mask": "photos/rough.png"}}
    written = predicted(adapter, tmp_path / "photos", tmp_path / "out", prompts)
    answered = {path.relative_to(written / "masks").as_posix() for path in (written / "masks").rglob("*.png")}
    assert answered == {path.name for path in (pairs / "images").iterdir()}


def test_all_that_is_wrong_with_masks_of_a_file_is_reported(pairs: Path, adapter: Path, tmp_path: Path):
    truth = truth_of(pairs, 1)
    Image.fromarray(truth[:-1].astype(np.uint8) * 255).save(tmp_path / "small.png")
    Image.fromarray(np.zeros_like(truth, np.uint8)).save(tmp_path / "empty.png")
    Image.fromarray((truth + 2 * truth[::-1]).astype(np.uint8)).save(tmp_path / "numbered.png")
    (lengths,) = run_lengths_of(truth.astype(np.int32)).values()
    height, width = truth.shape
    cases: list[tuple[Any, str]] = [
        ("nowhere.png", f"mask: there is no file '{tmp_path / 'nowhere.png'}'"),
        ("small.png", f"is {width}x{height - 1}, and the picture {width}x{height}"),
        ("empty.png", "mask: has no foreground"),
        ("numbered.png", "has the values 0, 1, "),
        (17, "mask: expected the name of a file, or COCO's run lengths"),
        ({**lengths, "size": [height, width + 1]}, f"run lengths of {width + 1}x{height} pixels for an image of"),
        ({**lengths, "counts": "not"}, "mask: has run lengths"),
        ({"size": [height, width], "counts": [height * width]}, "mask: has no foreground"),
    ]
    for entry, message in cases:
        with pytest.raises(ConfigError) as error:
            predicted(adapter, pairs / "images", tmp_path / "o", {PICTURE: {"mask": entry}, "img_00.png": {"bocks": 1}})
        first, second = error.value.problems
        assert first.startswith(f"prompts: '{PICTURE}': ")
        assert message in first
        assert "--mask-rule" not in first  # which predict has not
        assert "'mask'" in second
    with pytest.raises(ConfigError, match=r"no best threshold for the prompt 'mask' \(known: box"):
        predicted(adapter, pairs / "images" / PICTURE, tmp_path / "o", {PICTURE: {"mask": lengths}}, threshold="best")


def test_a_page_of_another_size_than_the_mask_is_an_error_of_its_own(pairs: Path):
    path, prompt = pairs / "images" / PICTURE, Prompt(mask=GivenMask.of(np.ones((5, 7), bool)))
    task = BinaryTask.from_options(PromptOptions())
    found = PictureDataset([path], Preprocessing(image_size=64), task=task, prompts={path: ([prompt], [1])})[0]
    assert isinstance(found, DataError)
    height, width = truth_of(pairs, 1).shape
    assert f"page 1 is {width}x{height} and the mask of its prompt 7x5" in str(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.ones((9, 9))}, "is 9x9, and the picture 60x48"),
        ({"mask": np.zeros((48, 60))}, "has no foreground"),
        ({"mask": np.linspace(0, 1, 48 * 60).reshape(48, 60)}, "several values but 0"),
        ({"mask": np.ones(48)}, r"expected \(H, W\) for one prompt"),
        ({"mask": "here"}, r"expected \(H, W\) for one prompt"),
        ({"mask": np.ones((2, 48, 60)), "box": [[1, 2, 3, 4]] * 3}, "got 2 of mask and 3 of box"),
        ({"mask": np.ones((2, 48, 60)), "points": [[1, 2]]}, "got 2 of mask and 1 of points"),
        ({"mask": np.ones((48, 60)), "mask_input": torch.zeros(1, 16, 16)}, "give one of them"),
    ],
)
def test_wrong_masks_are_explained(adapter: Path, arguments: dict[str, Any], message: str):
    predictor = Predictor(load(adapter), device="cpu")
    predictor.set_image(np.zeros((48, 60, 3), np.uint8))
    with pytest.raises(DataError, match=message):
        predictor.predict(**arguments)
