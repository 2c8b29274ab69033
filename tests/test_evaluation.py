"""What `evaluate` scores and writes is what was asked and answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import write_pairs
from evaluation_runs import EMPTY, KINDS, eight_pairs, overlap, rows_of, scored, truth_of
from sam_adapter import Predictor, load
from sam_adapter.errors import DataError
from sam_adapter.evaluation.text import scores_text
from sam_adapter.tasks.prompts import box_from_mask, innermost_point


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("eval"))


def test_mixed_asks_each_image_once_with_each_kind(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    """Against masks that `Predictor` makes of prompts made here, thresholds included."""
    result = scored(pairs, adapters["one"], tmp_path, prompt="mixed", batch_size=3)
    predictor = Predictor(load(adapters["one"]), device="cpu", precision="32")
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    silent = []
    for index in range(8):
        truth = truth_of(pairs, index)
        predictor.set_image(pairs / f"images/img_{index:02}.png")
        if not truth.any():
            silent.append(not predictor.predict().masks.any())
            continue
        prompts: dict[str, dict[str, Any]] = {
            "box": {"box": box_from_mask(truth)},
            "points": {"points": innermost_point(truth)},
            "none": {},
        }
        for kind, prompt in prompts.items():
            found[kind].append(overlap(predictor.predict(**prompt).masks[0].numpy(), truth))
    for at, name in enumerate(("iou", "dice")):
        for kind in KINDS:
            assert result[f"{name}_{kind}"] == pytest.approx(np.mean([pair[at] for pair in found[kind]]), abs=1e-6)
        assert result[name] == pytest.approx(np.mean([result[f"{name}_{kind}"] for kind in KINDS]))
        assert result[f"{name}_low"] < result[name] < result[f"{name}_high"]
    assert len({round(result[f"iou_{kind}"], 6) for kind in KINDS}) == 3
    assert (result["images"], result["empty"], result["empty_masks"]) == (8, 2, 2)
    assert result["empty_correct"] == np.mean(silent)
    assert len(rows_of(tmp_path)) == 6 * 3 + 2


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_scores_as_it_does_among_others(pairs: Path, adapters: dict[str, Path], tmp_path: Path, kind: str):
    mixed = scored(pairs, adapters["one"], tmp_path / "m", prompt="mixed")
    alone = scored(pairs, adapters["one"], tmp_path / "a", prompt=kind)
    for name in ("iou", "dice", "mae", "ber"):
        assert alone[name] == alone[f"{name}_{kind}"] == pytest.approx(mixed[f"{name}_{kind}"], abs=1e-6)
    assert alone["prompt"] == kind
    assert not {f"iou_{other}" for other in KINDS if other != kind} & alone.keys()


def test_what_is_written(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    result = scored(
        pairs, adapters["one"], tmp_path, with_frozen=True, compare=(adapters["other"],), prompt="mixed", batch_size=3
    )
    assert json.loads((tmp_path / "metrics.json").read_text()) == result
    assert (result["method"], result["image_size"], result["threshold"]) == ("decoder", 64, 0.5)
    tables = {
        "one": result,
        "frozen": result["frozen"],
        "other": result["compared"]["other"],
        **result["baselines"],
    }
    assert {row["model"] for row in rows_of(tmp_path)} == set(tables)
    for model, scores in tables.items():
        for kind in KINDS:
            rows = [row for row in rows_of(tmp_path, model=model, prompt=kind) if row["iou"]]
            assert bool(rows) == (f"iou_{kind}" in scores)
            for name in ("iou", "dice", "mae") if rows else ():
                assert np.mean([float(row[name]) for row in rows]) == pytest.approx(scores[f"{name}_{kind}"])
    empty = [row for row in rows_of(tmp_path, model="one") if not row["iou"]]
    assert [(row["name"], row["prompt"], row["tp"], row["fn"]) for row in empty] == [
        (f"img_{index:02}", "none", "0", "0") for index in EMPTY
    ]
    assert len({scores["iou"] for scores in tables.values()}) == len(tables)


def test_an_empty_mask_is_no_success_of_a_dead_model(tmp_path: Path, sam_folder: str):
    """One picture without foreground among 52, and a model that never answers: its IoU is 0, not .019."""
    pairs = write_pairs(tmp_path / "pairs", 52, size=(20, 24))
    empty = pairs / "masks/img_07.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(empty)))).save(empty)
    options: dict[str, Any] = {"model": sam_folder, "prompt": "none", "batch_size": 8, "report": True}
    result = scored(pairs, None, tmp_path / "dead", **options, threshold=1.0)
    assert result["iou"] < 1e-4
    assert result["iou_high"] < 1e-4
    assert (result["images"], result["empty"], result["empty_correct"]) == (52, 1, 1.0)
    assert "empty correct" in (tmp_path / "dead/report.html").read_text()
    always = scored(pairs, None, tmp_path / "always", **options, threshold=0.0)
    assert always["empty_correct"] == 0.0
    assert "false alarm: img_07" in (tmp_path / "always/report.html").read_text()


def test_a_set_without_any_foreground_has_no_means(tmp_path: Path, sam_folder: str):
    pairs = write_pairs(tmp_path / "pairs", 2)
    for path in (pairs / "masks").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    result = scored(pairs, None, tmp_path / "e", model=sam_folder, report=True, prompt="mixed")
    assert "iou" not in result
    assert result["empty"] == 2
    assert "Without foreground, not in the means: 2 images" in scores_text(result, "frozen")


def test_a_single_picture_has_no_interval(tmp_path: Path, sam_folder: str):
    pairs = write_pairs(tmp_path / "pairs", 1)
    options: dict[str, Any] = {"model": sam_folder, "prompt": "box", "report": True}
    result = scored(pairs, None, tmp_path / "single", **options)
    cells = scores_text(result, "frozen").splitlines()[2].split()
    assert cells[:3] == ["frozen", f"{result['iou']:.4f}", "-"]
    assert not [name for name in result if name.endswith(("_low", "_high"))]
    assert "intervals" not in (tmp_path / "single/report.html").read_text()


def test_prompts_hold_all_that_was_asked(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    options = {"positive_points": 2, "negative_points": 1}
    scored(pairs, adapters["one"], tmp_path / "m", prompt="mixed", **options)
    mixed = json.loads((tmp_path / "m/prompts.json").read_text())
    assert set(mixed) == set(KINDS)
    filled = [f"img_{index:02}.png" for index in range(8) if index not in EMPTY]
    for kind in ("box", "points"):
        assert list(mixed[kind]) == filled
        scored(pairs, adapters["one"], tmp_path / kind, prompt=kind, **options)
        assert json.loads((tmp_path / kind / "prompts.json").read_text()).keys() == mixed[kind].keys()
    assert mixed["none"] == [f"img_{index:02}.png" for index in range(8)]
    assert json.loads((tmp_path / "box/prompts.json").read_text()) == mixed["box"]
    for name, entry in mixed["points"].items():
        truth = truth_of(pairs, int(name[4:6]))
        assert [truth[int(y), int(x)] for x, y in entry["points"]] == [True, True, False]
        assert entry["labels"] == [1, 1, 0]


@pytest.fixture
def half_void(pairs: Path, tmp_path: Path) -> Path:
    """The pairs, with ground truth that says nothing about the right half of each picture."""
    folder = tmp_path / "void"
    (folder / "masks").mkdir(parents=True)
    (folder / "images").symlink_to(pairs / "images")
    for path in (pairs / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[:, mask.shape[1] // 2 :] = 128
        Image.fromarray(mask).save(folder / "masks" / path.name)
    return folder


def test_void_counts_nowhere(half_void: Path, pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    with pytest.raises(DataError, match="--ignore-value"):
        scored(half_void, adapters["one"], tmp_path)
    options = {"ignore_value": (128,), "prompt": "none", "with_frozen": True, "report": True}
    result = scored(half_void, adapters["one"], tmp_path, **options)
    predictor = Predictor(load(adapters["one"]), device="cpu", precision="32")
    ious = []
    for index in range(8):
        truth = truth_of(pairs, index)
        left = truth[:, : truth.shape[1] // 2]
        if left.any():
            predictor.set_image(pairs / f"images/img_{index:02}.png")
            answer = predictor.predict().masks[0].numpy()[:, : left.shape[1]]
            ious.append(overlap(answer, left)[0])
    assert result["iou"] == pytest.approx(np.mean(ious), abs=1e-6)
    for row in rows_of(tmp_path):
        height, width = truth_of(pairs, int(row["name"][4:])).shape
        assert sum(int(row[name]) for name in ("tp", "fp", "fn", "tn")) == height * (width // 2)
    assert "void, not scored" in (tmp_path / "report.html").read_text()


def test_report_of_mixed_prompts(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    result = scored(pairs, adapters["one"], tmp_path, prompt="mixed", with_frozen=True, report=True)
    text = (tmp_path / "report.html").read_text()
    for scores in (result, result["frozen"]):
        for kind in KINDS:
            assert f' data-value="{scores[f"iou_{kind}"]}">' in text
        assert f"{scores['iou_low']:.3f}–{scores['iou_high']:.3f}" in text
    assert text.count("<figcaption>Precision and recall over all pixels, ") == 3
    assert "one, no prompt, best mean IoU" in text
    assert text.count("<img") == (3 + 2) * (6 * 3 + text.count("false alarm: "))
    assert "void, not scored" not in text
    median = np.median(
        [
            np.mean([float(row["iou"]) for row in rows_of(tmp_path, model="one", name=f"img_{index:02}")])
            for index in range(8)
            if index not in EMPTY
        ]
    )
    assert f'data-label="median IoU" data-value="{median}"' in text
