"""Which files 'predict' takes for pictures and prompts, and where it refuses."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sam_adapter import PredictConfig, predict
from sam_adapter.errors import ConfigError

ADAPTER = Path(__file__).parent / "adapters" / "format_1"


def writing(source: Path, output: Path) -> PredictConfig:
    return PredictConfig(adapter=ADAPTER, input=str(source), output=output, accelerator="cpu", workers=0)


def test_predict_never_takes_its_own_results_for_pictures(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(2):
        Image.open(pairs / f"images/img_{index:02}.png").save(pictures / f"{index}.png")
    inside = writing(pictures, pictures / "results")
    first = predict(inside)
    assert predict(inside) == first
    assert "lie where results are written" in caplog.text
    with pytest.raises(ConfigError, match="is the folder of the pictures"):
        predict(inside.but(output=pictures))
    with pytest.raises(ConfigError, match=r"all pictures at .* lie where results are written"):
        predict(inside.but(input=str(pictures / "results/masks")))


def test_results_of_another_task_do_not_stay_silently(pairs: Path, tmp_path: Path, caplog):
    """A run with objects leaves tables of all pictures; one with classes a folder a picture."""
    older = ["masks/gone.tif", "masks/img_00.png", "probabilities/img_00/core.png"]
    for name in ("objects.csv", "objects.json", "notes.csv", "masks/notes.txt", *older):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("older")
    with pytest.raises(ConfigError, match=r"removes '.*objects.json' when it writes .*choose another --output"):
        predict(writing(pairs / "images", tmp_path).but(prompts=tmp_path / "objects.json"))
    with caplog.at_level(logging.INFO):
        predict(writing(pairs / "images", tmp_path))
    assert "Removed objects.csv and objects.json of an earlier run" in caplog.text
    assert "2 files of an earlier run stay in" in caplog.text
    assert "('masks/gone.tif', 'probabilities/img_00/core.png')" in caplog.text
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert not {"objects.csv", "objects.json"} & kept
    assert {"notes.csv", "masks/notes.txt"} < kept
    caplog.clear()
    predict(writing(pairs / "images", tmp_path / "new"))
    predict(writing(pairs / "images", tmp_path / "new"))
    assert "earlier run" not in caplog.text


def test_names_of_pictures_that_are_long_or_no_unicode(pairs: Path, tmp_path: Path):
    names = ["n" * 248 + ".png", os.fsdecode(b"caf\xe9.png")]
    (tmp_path / "in").mkdir()
    for name in names:
        shutil.copy(pairs / "images/img_00.png", tmp_path / "in" / name)
    written = predict(writing(tmp_path / "in", tmp_path / "out"))
    assert sorted(path.name for path in written) == sorted(names)
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "should map file names to prompts"),
        ("{}", "has no prompt; expected one or more by file name"),
        ('{"images": [], "annotations": []}', "has no prompt; expected one or more by file name"),
        ('{"img_00.png": {"box": null}}', "expected {'box'"),
        ('{"img_00.png": {"box": "all"}}', "box: expected"),
        ('{"img_00.png": {"box": [0, 0, NaN, 9]}}', "box: .* is not inside"),
        ('{"img_00.png": {"box": [0, 0, 1' + "0" * 400 + ", 9]}}", "box: expected numbers"),
        ('{"img_00.png": {"points": [[1, 2]], "labels": [0.5]}}', "labels: expected 1 values"),
        ('{"img_00.png": {"points": [[1, 2]], "labels": [true]}}', "labels: expected 1 values"),
        ('{"img_00.png": {"box": [1, 1, 9, 9]}, "img_00.png": {"box": [2, 2, 9, 9]}}', "the key 'img_00.png' twice"),
        ('{"img_00.png": [{"box": [1, 1, 9, 9], "box": [2, 2, 9, 9]}]}', "has the key 'box' twice"),
        ('{"img_00.png": [], "x/img_00.png": []}', "and 'x/img_00.png' in .*p.json' both mean"),
        ('{"img_00.png": {"points": [' + "[1, 2]," * 2000 + "[1, 2]]}}", "points: expected at most 1000, got 2001"),
    ],
)
def test_prompts_that_cannot_be_used(pairs: Path, tmp_path: Path, text: str, message: str):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        predict(writing(pairs / "images", tmp_path / "out").but(prompts=tmp_path / "p.json"))


def test_a_folder_is_no_file_of_prompts(pairs: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="prompts: there is no file"):
        predict(writing(pairs / "images", tmp_path / "out").but(prompts=tmp_path))


@pytest.mark.parametrize("empty", [[], [{"learned": True}]])
def test_an_empty_list_of_prompts_is_no_prompt(pairs: Path, tmp_path: Path, empty: list[Any], caplog):
    """Also where no picture has any, and where the prompts are those that 'evaluate' writes."""
    plain = writing(pairs / "images", tmp_path / "plain")
    given = {f"img_{index:02}.png": empty for index in range(len(predict(plain)))}
    (tmp_path / "p.json").write_text(json.dumps(given))
    predict(plain.but(prompts=tmp_path / "p.json", output=tmp_path / "given"))
    for file in sorted((tmp_path / "plain/masks").iterdir()):
        assert (tmp_path / "given/masks" / file.name).read_bytes() == file.read_bytes()
    assert f"names 0 pictures of {len(given)}; the others are answered without a prompt" in caplog.text
    assert ("'img_00.png', 'img_01.png'" in caplog.text) == (empty == [])
    assert ("have an empty list" in caplog.text) == (empty == [])


def test_classes_in_prompts_for_an_adapter_without_any(pairs: Path, tmp_path: Path, caplog):
    (tmp_path / "p.json").write_text(json.dumps({"img_00.png": {"box": [1, 1, 9, 9], "class": "cat"}}))
    predict(writing(pairs / "images", tmp_path / "out").but(prompts=tmp_path / "p.json"))
    assert "classes are named ('cat'), and the adapter tells none apart (task 'binary', one foreground" in caplog.text
