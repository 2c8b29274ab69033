"""`predict` and `evaluate` find objects by a grid of points, or ask again for those of the maps, as options say."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from object_scenes import options
from sam_adapter import EvaluateConfig, PredictConfig, Predictor, evaluate, load, predict, train
from sam_adapter.checkpoints.adapter import read_adapter_config
from sam_adapter.config.object_options import ObjectOptions
from sam_adapter.errors import ConfigError
from sam_adapter.evaluation import object_cases
from sam_adapter.tasks import object_prediction
from sam_adapter.tasks.metrics import answers
from sam_adapter.tasks.metrics.matching import count_objects, find_overlaps, object_scores
from sam_adapter.tasks.metrics.object_errors import ObjectErrors
from sam_adapter.tasks.metrics.objects import ObjectMetrics
from sam_adapter.tasks.object_prediction import ObjectPrediction
from sam_adapter.tasks.splitting import FoundObjects, split_objects
from training_runs import rows

pytest_plugins = ("object_scenes",)

GRID: dict[str, Any] = {"grid": 8, "grid_multimask": False, "quality_threshold": 0.5, "stability_threshold": 0.5}
NAMES = {field.name for field in fields(ObjectOptions)}
WAYS: list[dict[str, Any]] = [GRID, {"refine": "outlines", "tile": 64, "batch_size": 3}, {"core_rise": 0.001}]
WORDS = ("grid of 8 x 8 points", "have the outlines of the answers to their boxes", "rise by 0.001")
"""That the report has."""


@pytest.fixture(scope="module")
def few(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the scenes, and the one without objects."""
    folder = tmp_path_factory.mktemp("few")
    for file in [file for name in ("03", "04", "05", "11") for file in scenes.glob(f"*/{name}.png")]:
        (folder / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    return folder


def label_maps(run: Path, scenes: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    given: dict[str, Any] = {"workers": 0, "precision": "32", **options}
    predict(PredictConfig(adapter=run / "adapter", input=str(scenes / "images"), output=output, **given))
    return {path.stem: np.asarray(Image.open(path)).astype(np.int32) for path in sorted((output / "masks").iterdir())}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Label maps that reports draw the errors of, of all images."""
    maps: list[np.ndarray] = []
    draw = object_cases.errors_drawn

    def watched(image: np.ndarray, truth: np.ndarray, found: np.ndarray, errors: ObjectErrors) -> np.ndarray:
        times = len(found) // 72
        maps.append(found[::times, ::times])
        assert set(np.unique(found)) == {0, *errors.matched, *errors.false}
        return draw(image, truth, found, errors)

    monkeypatch.setattr(object_cases, "errors_drawn", watched)
    monkeypatch.setattr(ObjectMetrics, "telling_wholes", lambda _: dict.fromkeys(range(4), "all of them"))
    return maps


@pytest.fixture
def rises(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Of the peaks that objects are split at, in the order of splitting."""
    asked: list[float | None] = []

    def split(*maps: np.ndarray | None, core_rise: float | None, **more: Any) -> FoundObjects:
        asked.append(core_rise)
        return split_objects(*maps, core_rise=core_rise, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(object_prediction, "split_objects", split)
    return asked


@pytest.mark.parametrize("way", WAYS)
def test_scores_and_the_report_are_those_of_the_label_maps(
    run: Path, few: Path, tmp_path: Path, way: dict[str, Any], drawn: list[np.ndarray], rises: list[float | None]
):
    found = label_maps(run, few, tmp_path / "found", **way)
    own: dict[str, Any] = {"images": few / "images", "masks": few / "masks", "workers": 0, "precision": "32"}
    own |= {"adapter": run / "adapter", "prompt": "none", "report": True}
    scores = evaluate(EvaluateConfig(output=tmp_path / "scores", **own, **way))
    for labels, shown in zip(found.values(), drawn, strict=True):
        assert np.array_equal(labels, shown)
    assert WORDS[WAYS.index(way)] in (tmp_path / "scores/report.html").read_text()
    rows = []
    for name, labels in found.items():
        truth = np.asarray(Image.open(few / f"masks/{name}.png")).astype(np.int32)
        truth[truth == 255] = 2000  # void in label maps that were read
        rows.append(count_objects(find_overlaps(truth, labels, scores=np.ones(labels.max(), np.float32))))
    counts = np.sum(rows, axis=0)
    assert scores["f1"] == pytest.approx(float(object_scores(counts)["f1"]), abs=1e-9)
    assert scores["f1"] > 0.5
    predictor = Predictor(load(run / "adapter"), precision="32", tile=way.get("tile"))
    predictor.set_image(few / "images/03.png")
    again = predictor.predict_all(
        objects=ObjectOptions(**{name: value for name, value in way.items() if name in NAMES})
    )
    assert isinstance(again, ObjectPrediction)
    assert np.array_equal(again.objects.labels, found["03"])
    if "core_rise" in way:  # cores of these scenes have one peak each
        assert set(rises) == {way["core_rise"]}
        return
    plain = label_maps(run, few, tmp_path / "plain", tile=way.get("tile"))
    assert any(not np.array_equal(plain[name], found[name]) for name in plain)


def test_peaks_are_those_that_the_adapter_says_unless_others_are_asked_for(
    run: Path, few: Path, tmp_path: Path, rises: list[float | None]
):
    adapter = Path(shutil.copytree(run / "adapter", tmp_path / "run/adapter"))
    description = json.loads((adapter / "sam_adapter.json").read_text())
    assert description["core_rise"] is None  # its discs are found as well without
    (adapter / "sam_adapter.json").write_text(json.dumps({**description, "core_rise": 0.2}))
    own: dict[str, Any] = {"images": few / "images", "masks": few / "masks", "workers": 0, "prompt": "none"}
    own |= {"adapter": adapter, "report": True, "with_frozen": True}
    ways: list[tuple[dict[str, Any], float | None]] = [({}, 0.2), ({"core_rise": 0.1}, 0.1), ({"core_rise": 0.0}, None)]
    for asked, rise in ways:
        label_maps(adapter.parent, few, tmp_path / f"found {rise}", **asked)
        assert set(rises) == {rise}
        rises.clear()
        output = tmp_path / f"scores {rise}"
        scores = evaluate(EvaluateConfig(output=output, **own, **asked))
        assert (set(rises), scores["core_rise"]) == ({rise, asked.get("core_rise") or None}, rise or 0)
        said = re.findall(r"Objects.{0,10} were split at peaks[^.]*[.]\d", (output / "report.html").read_text())
        whose = "" if asked else " of run"
        assert said == ([f"Objects{whose} were split at peaks of their cores that rise by {rise}"] if rise else [])
        assert scores["frozen"].get("core_rise") == (rise if asked else None)
        rises.clear()
    predictor = Predictor(load(adapter), precision="32")
    predictor.set_image(few / "images/03.png")
    for asked, rise in ((None, 0.2), (ObjectOptions(core_rise=0.0), None)):
        found = predictor.predict_all(objects=asked)
        assert isinstance(found, ObjectPrediction)
        assert len(found.objects)
        assert set(rises) == {rise}
        rises.clear()
    assert "core_rise" not in evaluate(EvaluateConfig(output=tmp_path / "box", **{**own, "prompt": "box"}))
    both = evaluate(EvaluateConfig(output=tmp_path / "both", **{**own, "compare": (run / "adapter",)}))
    (other,) = both["compared"].values()
    assert (both["core_rise"], "core_rise" in other, "core_rise" in both["frozen"]) == (0.2, False, False)
    page = (tmp_path / "both/report.html").read_text()
    assert re.search(r"Objects of [^.]* were split at peaks of their cores that rise by 0\.2\.", page)


def test_the_best_peaks_of_validation_go_into_the_adapter(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answers, "TRIED_RISES", (0.2, 0.1))
    result = train(options(scenes, tmp_path / "run", epochs=1, objects_per_image=1, prompt="none", batch_size=4))
    rise = read_adapter_config(tmp_path / "run/adapter").core_rise
    assert rise in (0.2, 0.1)
    assert result.summary.endswith(f"kept epoch 1 of 1; objects are split at peaks of their cores that rise by {rise}")
    assert not any(name.startswith("best_") for name in [*result.scores, *rows(tmp_path / "run")[0]])


def test_objects_that_prompts_ask_for_are_found_by_their_prompts_alone(run: Path, few: Path, tmp_path: Path):
    (tmp_path / "p.json").write_text(json.dumps({"04.png": [{"box": [10, 10, 40, 40]}]}))
    given: dict[str, Any] = {"prompts": tmp_path / "p.json"}
    plain = label_maps(run, few, tmp_path / "plain", **given)
    refined = label_maps(run, few, tmp_path / "refined", refine="outlines", **given)
    assert np.array_equal(plain["04"], refined["04"])
    assert any(not np.array_equal(plain[name], refined[name]) for name in plain)


@pytest.mark.parametrize("way", [GRID, {"refine": "scores"}, {"core_rise": 0.1}])
def test_tasks_without_objects_have_none_to_find(pairs: Path, tmp_path: Path, way: dict[str, Any]):
    own: dict[str, Any] = {"model": "tiny", "image_size": 64, "workers": 0, **way}
    with pytest.raises(ConfigError, match="has no objects"):
        predict(PredictConfig(input=str(pairs / "images"), output=tmp_path / "out", **own))
    data = {"images": pairs / "images", "masks": pairs / "masks"}
    with pytest.raises(ConfigError, match="has no objects"):
        evaluate(EvaluateConfig(prompt="none", output=tmp_path / "out", **data, **own))


def test_ways_to_find_objects_need_to_be_asked_without_prompts(tmp_path: Path):
    data = {"images": tmp_path / "images", "masks": tmp_path / "masks", "output": tmp_path / "scores"}
    asked: dict[str, Any] = {"model": "tiny", "task": "instance", **data}
    with pytest.raises(ConfigError, match="grid: objects are found without prompts; give '--prompt none'"):
        EvaluateConfig(**asked, prompt="box", grid=4)
    with pytest.raises(ConfigError, match="grid and refine: objects of a grid have the outlines of their own answers"):
        EvaluateConfig(**asked, prompt="none", grid=4, refine="outlines")
    with pytest.raises(ConfigError, match="grid and core_rise: with a grid nothing is split"):
        EvaluateConfig(**asked, prompt="none", grid=4, core_rise=0.1)
    with pytest.raises(ConfigError, match=r"core_rise: expected a number from 0 for no peaks to 1, or .*, got 'none'"):
        EvaluateConfig(**{**asked, "prompt": "none", "core_rise": "none"})
    assert EvaluateConfig(**asked, prompt="mixed", grid=4).finding == {"grid": 4}
