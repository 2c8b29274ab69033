"""Class maps, probabilities, overlays and the contact sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter import PredictConfig, Predictor, load, predict, train
from sam_adapter.check.sheet import write_sheet
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import DataError
from sam_adapter.prediction.writers import file_names
from sam_adapter.tasks.prediction import ClassPrediction
from semantic_scenes import COLOURS, options

pytest_plugins = ("semantic_scenes",)


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
    assert [kind.name for kind in found.regions().shown] == [
        name for label, name in enumerate(("ball", "box"), start=1) if (found.class_map == label).any()
    ]
    assert not isinstance(predictor.predict(box=[5, 5, 30, 40]), ClassPrediction)


def test_names_of_classes_that_files_cannot_have_or_share():
    assert file_names(["a/b", "a_b", "A:B", "cat"]) == ["a_b", "a_b_2", "A_B_3", "cat"]


def test_the_contact_sheet_has_the_colours_of_the_classes(scenes: Path, tmp_path: Path):
    check = CheckConfig(
        images=scenes / "images", masks=scenes / "masks", task="semantic", classes=scenes / "classes.yaml"
    )
    write_sheet(tmp_path / "sheet.png", inspect(check))
    pixels = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3)
    for colour in (COLOURS[3], COLOURS[9]):
        assert (pixels == colour).all(1).sum() > 100
