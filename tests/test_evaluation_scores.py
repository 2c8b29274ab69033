"""Which options of `evaluate` change scores, and which do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import random_sam, write_pairs
from evaluation_runs import eight_pairs, scored
from sam_adapter import EvaluateConfig, evaluate


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("eval"))


CHANGES: dict[str, Callable[[dict[str, Path]], dict[str, Any]]] = {
    "box_scale": lambda _: {"box_scale": 2.0},
    "positive_points": lambda _: {"prompt": "points", "positive_points": 4},
    "negative_points": lambda _: {"prompt": "points", "negative_points": 3},
    "mask_error": lambda _: {"prompt": "mask", "mask_error": 0.4},
    "seed": lambda _: {"prompt": "points", "positive_points": 4, "seed": 7},
    "adapter": lambda adapters: {"adapter": adapters["other"]},
    "resize": lambda adapters: {"adapter": adapters["squash"]},
    "mask_rule": lambda _: {"mask_rule": "half"},
    "threshold": lambda _: {"threshold": 0.3},
}


WITHOUT: dict[str, Callable[[dict[str, Path]], dict[str, Any]]] = {
    "positive_points": lambda _: {"prompt": "points"},
    "negative_points": lambda _: {"prompt": "points"},
    "mask_error": lambda _: {"prompt": "mask"},
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
