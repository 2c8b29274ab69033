"""The demonstration at a tiny scale: real scenes, the bundled model, two processes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter import cli
from sam_adapter.config.commands import DemoConfig

MODELS = ("box_fill", "frozen", "decoder", "sam_adapter")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder, and what was printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "sam_adapter", "demo", "--output", str(folder)]
    command += ["--scenes", "8", "--test-scenes", "6", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr.strip()
    return folder, done.stdout


def rows(folder: Path) -> dict[tuple[str, str], dict]:
    return {(row["model"], row["prompt"]): row for row in json.loads((folder / "metrics.json").read_text())["rows"]}


def test_metrics_have_every_row(demo: tuple[Path, str]):
    found = rows(demo[0])
    assert list(found) == [(model, prompt) for model in MODELS for prompt in ("box", "none")]
    for row in found.values():
        assert 0 < row["iou"] < row["dice"] < 1
        assert row["seconds"] > 0
    assert found["box_fill", "box"]["trained_parameters"] == found["frozen", "none"]["trained_parameters"] == 0
    assert 0 < found["decoder", "box"]["trained_parameters"] < found["sam_adapter", "box"]["trained_parameters"]


def test_filling_the_box_is_scored_as_defined(demo: tuple[Path, str]):
    boxed, whole = [], []
    for path in (demo[0] / "scenes/camouflage_test/masks").iterdir():
        mask = np.asarray(Image.open(path)) > 0
        height, width = (np.ptp(np.nonzero(mask.any(axis=axis))[0]) + 1 for axis in (1, 0))
        boxed.append(mask.sum() / (height * width))
        whole.append(mask.mean())
    found = rows(demo[0])
    assert found["box_fill", "box"]["iou"] == pytest.approx(np.mean(boxed), abs=1e-4)
    assert found["box_fill", "none"]["iou"] == pytest.approx(np.mean(whole), abs=1e-4)


def test_report_is_self_contained_and_has_its_pictures(demo: tuple[Path, str]):
    text = (demo[0] / "report.html").read_text()
    assert not re.search(r'https?://|@import|url\(|(src|href)="(?!data:)', text)
    assert text.count("<img") == 6 * 7 + 6 + 4 * 4  # six scenes of each kind and four crowds exist at this scale
    assert text.count("<svg viewBox") >= 2
    for words in ("ground truth", "frozen, with box", "adapted, no prompt", "high frequencies"):
        assert text.count(words) >= 6
    for row in rows(demo[0]).values():
        assert f'data-value="{row["iou"]}"' in text
    assert len(text) < 5e6


def test_objects_are_scored_and_counted(demo: tuple[Path, str]):
    folder, printed = demo
    crowds = {row["model"]: row for row in json.loads((folder / "metrics.json").read_text())["crowds"]}
    assert list(crowds) == ["otsu", "frozen", "sam_adapter"]
    scores = json.loads((folder / "scores/objects/metrics.json").read_text())
    for model, own in (("otsu", scores["baselines"]["otsu"]), ("frozen", scores["frozen"]), ("sam_adapter", scores)):
        for name in ("ap50", "f1", "count_error"):
            assert crowds[model][name] == own[name]
        assert f"{crowds[model]['ap50']:.3f}" in printed
    text = (folder / "report.html").read_text()
    for path in sorted((folder / "scenes/crowds_test/masks").iterdir()):
        count = len(np.unique(np.asarray(Image.open(path)))) - 1
        assert f"{path.stem.replace('_', ' ')}: {count} objects" in text
        assert re.search(rf"SAM-Adapter: \d+ found, \d+ of {count} missed", text)


def test_what_is_printed(demo: tuple[Path, str]):
    folder, printed = demo
    assert str(folder / "report.html") in printed
    for title in ("fill the box", "SAM, frozen", "decoder only", "SAM-Adapter", "frozen on plain scenes"):
        assert title in printed
    commands = re.findall(r"^  (sam-adapter .*)$", printed, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["check", "train", "evaluate"]
    for command in commands:
        name, *arguments = command.split()[1:]
        cli.parse(name, arguments)  # they are commands of this version


def test_only_writing_the_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cli.main(["demo", "--write-data", str(tmp_path / "data"), "--scenes", "3"])
    for kind in ("plain", "camouflage", "shadow"):
        images, masks = (sorted((tmp_path / "data" / kind / part).iterdir()) for part in ("images", "masks"))
        assert len(images) == 3
        assert [path.name for path in images] == [path.name for path in masks]
    # A smaller set in the same place leaves nothing of the larger one.
    cli.main(["demo", "--write-data", str(tmp_path / "data"), "--scenes", "2"])
    assert len(list((tmp_path / "data/plain/images").iterdir())) == 2
    assert str(tmp_path / "data" / "shadow") in capsys.readouterr().out


def test_defaults_are_those_of_make_demo():
    assert cli.parse("demo", ["--output", "demo"]) == DemoConfig()
