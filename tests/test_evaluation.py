"""Each option of ``evaluate`` changes what it should, and what is written is what was scored."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import random_sam, write_pairs
from sam_adapter import EvaluateConfig, Predictor, cli, evaluate, load
from sam_adapter.baselines import filled_box, otsu_mask
from sam_adapter.checkpoint import save_adapter
from sam_adapter.data.brightness import Brightness
from sam_adapter.data.rules import ReadingRules
from sam_adapter.errors import ConfigError, DataError
from sam_adapter.methods import MethodSettings
from sam_adapter.model import SamSegmenter
from sam_adapter.prompts import box_from_mask, innermost_point
from sam_adapter.report.text import scores_text

KINDS = ("box", "points", "none")
EMPTY = (2, 5)
"""Pairs without foreground."""
BEST = {"box": 0.35, "points": 0.6, "none": 0.45}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs, two of them without foreground."""
    folder = write_pairs(tmp_path_factory.mktemp("eval") / "pairs", 8)
    for index in EMPTY:
        path = folder / f"masks/img_{index:02}.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> dict[str, Path]:
    """Adapters of the decoder with random changes: as different as trained ones, and made at once.

    'one' and 'other' differ in weights, 'squash' from 'one' in resizing alone; all but 'other' know best thresholds.
    """
    folder = tmp_path_factory.mktemp("adapters")
    result = {}
    for name, seed, resize in (("one", 1, "pad"), ("other", 2, "pad"), ("squash", 1, "squash")):
        base = SamSegmenter.frozen(sam_folder)
        preprocessing = type(base.preprocessing)(image_size=64, resize=resize)  # type: ignore[arg-type]
        segmenter = SamSegmenter(
            base.backbone, MethodSettings(name="decoder", parts=("mask_decoder",)), preprocessing, prompt="mixed"
        )
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in segmenter.trained_state().values():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        save_adapter(folder / name, segmenter, best_thresholds=BEST if name != "other" else {})
        result[name] = folder / name
    return result


def scored(pairs: Path, adapter: Path | None, output: Path, /, **changes: Any) -> dict[str, Any]:
    values = {"images": pairs / "images", "masks": pairs / "masks", "adapter": adapter, "precision": "32"}
    return evaluate(EvaluateConfig(output=output, workers=0, accelerator="cpu", **{**values, **changes}))


def rows_of(output: Path, **of: str) -> list[dict[str, str]]:
    with (output / "per_image.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[name] == value for name, value in of.items())]


def truth_of(pairs: Path, index: int) -> np.ndarray:
    return np.asarray(Image.open(pairs / f"masks/img_{index:02}.png")) > 0


def overlap(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    both, total = (mask & truth).sum(), mask.sum() + truth.sum()
    return (both + 1e-3) / (total - both + 1e-3), (2 * both + 1e-3) / (total + 1e-3)


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


def probabilities(predictor: Predictor, pairs: Path, index: int) -> np.ndarray:
    predictor.set_image(pairs / f"images/img_{index:02}.png")
    return predictor.predict(box=box_from_mask(truth_of(pairs, index))).probabilities[0].numpy()


def test_threshold_by_number_own_and_best(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    predictor = Predictor(load(adapters["one"]), device="cpu", precision="32")
    answers = {index: probabilities(predictor, pairs, index) for index in range(8) if index not in EMPTY}
    for threshold, expected in ((None, 0.5), (0.45, 0.45), ("best", BEST["box"])):
        result = scored(pairs, adapters["one"], tmp_path, threshold=threshold)
        ious = [overlap(answer > expected, truth_of(pairs, index))[0] for index, answer in answers.items()]
        assert result["iou"] == pytest.approx(np.mean(ious), abs=1e-6)
        assert (result["threshold"], result["thresholds"]) == (expected, {"box": expected})
    mixed = scored(pairs, adapters["one"], tmp_path, threshold="best", prompt="mixed", with_frozen=True)
    assert (mixed["threshold"], mixed["thresholds"]) == ("best", BEST)
    assert mixed["iou_box"] == pytest.approx(result["iou"], abs=1e-6)
    assert mixed["frozen"]["threshold"] == 0.5


def test_a_best_threshold_that_is_not_known_is_an_error_before_any_work(
    pairs: Path, adapters: dict[str, Path], tmp_path: Path, sam_folder: str
):
    with pytest.raises(ConfigError, match=r"other' has no best threshold for box \(known: none at all\)"):
        scored(pairs, adapters["one"], tmp_path / "e", threshold="best", compare=(adapters["other"],))
    assert not (tmp_path / "e").exists()
    with pytest.raises(ConfigError, match="threshold: 'best' is known of adapters alone"):
        scored(pairs, None, tmp_path, model=sam_folder, threshold="best")
    for wrong in (1.5, -0.1):
        with pytest.raises(ConfigError, match="threshold: expected a value from 0 to 1"):
            scored(pairs, adapters["one"], tmp_path, threshold=wrong)
    for wrong in ("first", float("nan")):
        with pytest.raises(ConfigError, match="threshold: expected a number or best or null"):
            scored(pairs, adapters["one"], tmp_path, threshold=wrong)
    given = ["--images", "i", "--masks", "m", "--adapter", "a", "--output", "o", "--threshold"]
    assert [cli.parse("evaluate", [*given, text]).threshold for text in ("best", "0.25")] == ["best", 0.25]  # type: ignore[attr-defined]


CHANGES: dict[str, Callable[[dict[str, Path]], dict[str, Any]]] = {
    "box_scale": lambda _: {"box_scale": 2.0},
    "positive_points": lambda _: {"prompt": "points", "positive_points": 4},
    "negative_points": lambda _: {"prompt": "points", "negative_points": 3},
    "seed": lambda _: {"prompt": "points", "positive_points": 4, "seed": 7},
    "adapter": lambda adapters: {"adapter": adapters["other"]},
    "resize": lambda adapters: {"adapter": adapters["squash"]},
    "mask_rule": lambda _: {"mask_rule": "half"},
    "threshold": lambda _: {"threshold": 0.3},
}
WITHOUT: dict[str, Callable[[dict[str, Path]], dict[str, Any]]] = {
    "positive_points": lambda _: {"prompt": "points"},
    "negative_points": lambda _: {"prompt": "points"},
    "seed": lambda _: {"prompt": "points", "positive_points": 4},
    "mask_rule": lambda _: {"mask_rule": "nonzero"},
}


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_the_scores(pairs: Path, adapters: dict[str, Path], tmp_path: Path, option: str):
    if option == "mask_rule":
        pairs = write_pairs(tmp_path / "grey", 3)
        for path in (pairs / "masks").iterdir():
            mask = np.asarray(Image.open(path)).copy()
            mask[: len(mask) // 2][mask[: len(mask) // 2] > 0] = 60
            Image.fromarray(mask).save(path)
    before = scored(pairs, adapters["one"], tmp_path / "a", **WITHOUT.get(option, lambda _: {})(adapters))
    after = scored(pairs, adapters["one"], tmp_path / "b", **CHANGES[option](adapters))
    assert abs(before["iou"] - after["iou"]) > 1e-5
    assert before["images"] == after["images"]


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 3},
        {"workers": 2},
        {"attention": "plain"},
        {"attention": "folded"},
        {"report": True},
        {"box_jitter": 0.5, "prompts_per_image": 3},
    ],
    ids=str,
)
def test_an_option_changes_no_score(pairs: Path, adapters: dict[str, Path], tmp_path: Path, changes: dict[str, Any]):
    options = {"prompt": "mixed", "positive_points": 2, "negative_points": 1}
    before = scored(pairs, adapters["one"], tmp_path / "a", **options)
    config = {"images": pairs / "images", "masks": pairs / "masks", "adapter": adapters["one"], "precision": "32"}
    config |= {"output": tmp_path / "b", "workers": 0, "accelerator": "cpu", **options, **changes}
    after = evaluate(EvaluateConfig(**config))
    for name in ("iou_box", "iou_points", "iou_none", "mae", "ber"):
        assert after[name] == pytest.approx(before[name], abs=1e-5)
    assert (tmp_path / "a/prompts.json").read_text() == (tmp_path / "b/prompts.json").read_text()
    assert (tmp_path / "b/report.html").exists() == bool(changes.get("report"))


def test_precision_is_what_is_computed_in(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    exact = scored(pairs, adapters["one"], tmp_path / "a")
    rounded = scored(pairs, adapters["one"], tmp_path / "b", precision="bf16-mixed")
    assert exact["mae"] != rounded["mae"]
    assert exact["mae"] == pytest.approx(rounded["mae"], abs=0.02)


def test_kept_embeddings_change_no_score_and_are_used(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    options = {"with_frozen": True, "prompt": "mixed"}
    plain = scored(pairs, adapters["one"], tmp_path / "a", **options)
    kept = scored(pairs, adapters["one"], tmp_path / "b", embedding_cache=tmp_path / "cache", **options)
    files = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(files) == 8
    times = [file.stat().st_mtime_ns for file in files]
    again = scored(pairs, adapters["one"], tmp_path / "c", embedding_cache=tmp_path / "cache", **options)
    assert [file.stat().st_mtime_ns for file in files] == times
    for name in ("iou", "dice", "mae"):
        assert plain[name] == pytest.approx(kept[name], abs=1e-6) == again[name]
        assert plain["frozen"][name] == pytest.approx(kept["frozen"][name], abs=1e-6)


def test_image_size_of_a_base(pairs: Path, tmp_path: Path, sam_folder: str):
    options: dict[str, Any] = {"model": sam_folder}
    own, larger = (scored(pairs, None, tmp_path, **options, image_size=size) for size in (None, 96))
    assert (own["image_size"], larger["image_size"]) == (64, 96)
    assert own["iou"] != larger["iou"]


def test_model_is_where_the_base_lies_now(pairs: Path, adapters: dict[str, Path], tmp_path: Path, sam_folder: str):
    random_sam(seed=3).save_pretrained(tmp_path / "foreign")
    moved = scored(pairs, adapters["one"], tmp_path / "a", model=sam_folder)
    assert moved["model"] == sam_folder
    with pytest.raises(Exception, match="SHA-256"):
        scored(pairs, adapters["one"], tmp_path / "b", model=str(tmp_path / "foreign"))


def test_faulty_pairs_are_refused_or_left_out(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    folder = write_pairs(tmp_path / "pairs", 3)
    (folder / "masks/img_01.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="img_01"):
        scored(folder, adapters["one"], tmp_path / "e")
    result = scored(folder, adapters["one"], tmp_path / "e", faulty="skip")
    assert (result["images"], result["skipped_faulty"]) == (2, 1)
    assert [row["name"] for row in rows_of(tmp_path / "e")] == ["img_00", "img_02"]


def test_deep_pictures_have_the_brightness_of_each_adapter(adapters: dict[str, Path], tmp_path: Path, sam_folder: str):
    """As 8-bit pictures made with that scale; the frozen base has that of the adapter beside it."""
    deep, plain = write_pairs(tmp_path / "deep", 3), write_pairs(tmp_path / "plain", 3)
    for path in (deep / "images").iterdir():
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 4
        Image.fromarray(values).save(path)
        eight = np.round(values / 3600 * 255).astype(np.uint8)
        Image.fromarray(np.repeat(eight[..., None], 3, 2)).save(plain / "images" / path.name)
    segmenter = load(adapters["one"], model=sam_folder)
    segmenter.reading = ReadingRules(brightness=Brightness(integer=(0, 3600)))
    save_adapter(tmp_path / "scaled", segmenter)
    options = {"with_frozen": True, "compare": (adapters["one"],)}
    result = scored(deep, tmp_path / "scaled", tmp_path / "a", **options)
    expected = scored(plain, tmp_path / "scaled", tmp_path / "b", **options)
    assert result["mae"] == pytest.approx(expected["mae"])
    assert result["frozen"]["mae"] == pytest.approx(expected["frozen"]["mae"])
    assert result["compared"]["one"]["mae"] != pytest.approx(result["mae"])  # the set's own scale, without another


def test_inverted_masks(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    folder = write_pairs(tmp_path / "pairs", 3)
    right = scored(folder, adapters["one"], tmp_path / "a")
    for path in (folder / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert scored(folder, adapters["one"], tmp_path / "b")["iou"] != right["iou"]
    assert scored(folder, adapters["one"], tmp_path / "c", mask_invert=True)["iou"] == right["iou"]


def test_pages_of_files_are_scored_alone_or_all(adapters: dict[str, Path], tmp_path: Path):
    single, folder = write_pairs(tmp_path / "single", 4, size=(48, 48)), tmp_path / "pages"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        files = sorted((single / kind).iterdir())
        pages = [Image.open(path).resize((60, 48), Image.Resampling.NEAREST) for path in files]
        pages[0].save(folder / kind / "stack.tif", save_all=True, append_images=pages[1:])
        for path, page in zip(files, pages, strict=True):
            page.save(path)
    result = scored(folder, adapters["one"], tmp_path / "all", pages="all")
    assert result["images"] == 4
    assert result["iou"] == pytest.approx(scored(single, adapters["one"], tmp_path / "one")["iou"])
    assert scored(folder, adapters["one"], tmp_path / "first", pages="first")["images"] == 1


def test_too_large_pictures_are_refused(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    with pytest.raises(DataError, match="pixels"):
        scored(pairs, adapters["one"], tmp_path, max_pixels=1000)


def test_masks_are_found_by_their_pattern(adapters: dict[str, Path], tmp_path: Path):
    folder = write_pairs(tmp_path / "pairs", 2)
    for path in list((folder / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert scored(folder, adapters["one"], tmp_path / "e", mask_pattern="{stem}_mask")["images"] == 2


def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    pairs: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: Any) -> None:
        raise AssertionError("the set was read already")

    monkeypatch.setattr("sam_adapter.evaluation.inspect", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output: .* is a file"):
        scored(pairs, adapters["one"], tmp_path / "file" / "scores")


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


def test_filled_boxes_and_otsu_beside_the_models(pairs: Path, adapters: dict[str, Path], tmp_path: Path):
    result = scored(pairs, adapters["one"], tmp_path, with_frozen=True, prompt="mixed")
    boxes, cuts = [], []
    for index in range(8):
        truth = truth_of(pairs, index)
        if truth.any():
            box = np.zeros_like(truth)
            rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
            box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
            boxes.append(overlap(box, truth)[0])
            cuts.append(overlap(otsu_mask(np.asarray(Image.open(pairs / f"images/img_{index:02}.png"))), truth)[0])
    baselines = result["baselines"]
    assert set(baselines) == {"fill_box", "otsu"}
    assert baselines["fill_box"]["iou"] == pytest.approx(np.mean(boxes))
    assert baselines["otsu"]["iou"] == pytest.approx(np.mean(cuts))
    assert baselines["otsu"]["empty_correct"] == 0.0
    assert {"fill the box", "Otsu's threshold"} <= set(scores_text(result, "one").replace("  ", "\n").split("\n"))
    assert "baselines" not in scored(pairs, adapters["one"], tmp_path / "b")
    scaled = scored(pairs, adapters["one"], tmp_path / "c", with_frozen=True, box_scale=1.5)["baselines"]
    assert set(scaled) == {"fill_box", "otsu"}  # the pictures without foreground are asked without a prompt
    assert scaled["fill_box"]["iou"] < 0.8 * baselines["fill_box"]["iou"]


def test_a_filled_box_and_the_smaller_part_of_a_picture():
    truth = np.zeros((9, 12), bool)
    truth[2:5, 3:7] = True
    assert np.array_equal(filled_box(box_from_mask(truth).tolist(), truth.shape), truth)
    truth[6:, 8:] = True  # up to the last pixel, where a box is kept within the picture
    box = filled_box(box_from_mask(truth).tolist(), truth.shape)
    assert np.array_equal(box, np.outer(np.arange(9) >= 2, np.arange(12) >= 3))
    image = np.full((10, 10, 3), 200, np.uint8)
    image[:3] = 40
    assert np.array_equal(otsu_mask(image), np.repeat(np.arange(10) < 3, 10).reshape(10, 10))
    assert np.array_equal(otsu_mask(255 - image), np.repeat(np.arange(10) < 3, 10).reshape(10, 10))


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
