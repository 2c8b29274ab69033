"""Each option of `evaluate` has a test that it changes what it should; those that others do not show are here."""

from pathlib import Path
from typing import Any

import pytest
import torch

import golden_cases
from conftest import write_pages, write_pairs
from option_table import FINDING, SOURCES, TILES, HeldBy, require_all_options
from sam_adapter import EvaluateConfig, evaluate
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.errors import ConfigError, DataError
from sam_adapter.segmenter import SamSegmenter

HERE, THERE = "test_evaluate_options.py", "test_evaluation.py"
SCORED, READ = "test_evaluation_scores.py", "test_evaluation_files.py"
SCORES, NO_SCORE = (
    HeldBy(SCORED, "test_an_option_changes_the_scores"),
    HeldBy(SCORED, "test_an_option_changes_no_score"),
)
EVALUATE = {
    "adapter": SCORES,
    "model": HeldBy(SCORED, "test_model_is_where_the_base_lies_now"),
    "image_size": HeldBy(SCORED, "test_image_size_of_a_base"),
    "images": HeldBy(THERE, "test_what_is_written"),
    "masks": HeldBy(THERE, "test_what_is_written"),
    **SOURCES,
    **TILES,
    **FINDING,
    "task": HeldBy("semantic/test_classes_in_scores.py", "test_other_classes_than_the_adapters_are_refused"),
    "classes": HeldBy("semantic/test_classes_in_scores.py", "test_other_classes_than_the_adapters_are_refused"),
    "with_class": HeldBy(
        "semantic/test_classes_in_scores.py", "test_telling_the_class_changes_scores_with_prompts_alone"
    ),
    "mask_pattern": HeldBy(READ, "test_masks_are_found_by_their_pattern"),
    "mask_rule": SCORES,
    "ignore_value": HeldBy(HERE, "test_what_masks_mean_changes_the_scores"),
    "mask_invert": HeldBy(HERE, "test_what_masks_mean_changes_the_scores"),
    "pages": HeldBy(HERE, "test_all_pages_are_scored_if_asked_for"),
    "max_pixels": HeldBy(HERE, "test_pictures_above_the_limit_are_refused"),
    "faulty": HeldBy(READ, "test_faulty_pairs_are_refused_or_left_out"),
    "prompt": HeldBy(THERE, "test_mixed_asks_each_image_once_with_each_kind"),
    "box_scale": SCORES,
    "box_jitter": NO_SCORE,
    "prompts_per_image": NO_SCORE,
    "objects_per_image": NO_SCORE,
    "positive_points": SCORES,
    "negative_points": SCORES,
    "mask_error": SCORES,
    "metrics": HeldBy("test_added_metrics.py", "test_only_what_is_asked_for_is_added_and_nothing_else_changes"),
    "spacing": HeldBy("test_added_metrics.py", "test_spacing_changes_distances"),
    "precision": HeldBy(SCORED, "test_precision_is_what_is_computed_in"),
    "attention": HeldBy(HERE, "test_how_blocks_are_computed"),
    "compile": HeldBy(HERE, "test_how_blocks_are_computed"),
    "accelerator": HeldBy(HERE, "test_a_gpu_that_is_not_there_is_refused"),
    "workers": NO_SCORE,
    "seed": SCORES,
    "output": HeldBy(THERE, "test_what_is_written"),
    "with_frozen": HeldBy(THERE, "test_what_is_written"),
    "compare": HeldBy(THERE, "test_what_is_written"),
    "embedding_cache": HeldBy(SCORED, "test_kept_embeddings_change_no_score_and_are_used"),
    "threshold": HeldBy("test_evaluation_thresholds.py", "test_threshold_by_number_own_and_best"),
    "report": HeldBy(THERE, "test_report_of_mixed_prompts"),
    "batch_size": NO_SCORE,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pairs(tmp_path_factory.mktemp("evaluating"), 4, size=(40, 40))
    write_pages(folder / "paged", folder)
    save_adapter(folder / "adapter", golden_cases.segmenter(golden_cases.CASES[0]))
    return folder


def scored(place: Path, output: Path, *, pairs: str = "", **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"precision": "32", "accelerator": "cpu", "workers": 0, **options}
    folder = place / pairs
    return evaluate(
        EvaluateConfig(
            images=folder / "images", masks=folder / "masks", adapter=place / "adapter", output=output, **given
        )
    )


def test_no_option_is_left_out():
    require_all_options(EvaluateConfig, EVALUATE)


def test_what_masks_mean_changes_the_scores(place: Path, tmp_path: Path):
    """Without the foreground nothing is left that could be missed."""
    plain = scored(place, tmp_path / "plain", prompt="none")
    inverted = scored(place, tmp_path / "inverted", prompt="none", mask_invert=True)
    void = scored(place, tmp_path / "void", prompt="none", ignore_value=("255",), mask_rule="nonzero")
    assert abs(plain["iou"] - inverted["iou"]) > 1e-3
    assert plain["mae"] == pytest.approx(1 - inverted["mae"], abs=1e-5)
    assert (plain["empty"], void["empty"]) == (0, 4)


def test_all_pages_are_scored_if_asked_for(place: Path, tmp_path: Path):
    first = scored(place, tmp_path / "first", pairs="paged")
    every = scored(place, tmp_path / "all", pairs="paged", pages="all")
    assert (first["images"], every["images"]) == (2, 4)


def test_pictures_above_the_limit_are_refused(place: Path, tmp_path: Path):
    with pytest.raises(DataError, match="max-pixels"):
        scored(place, tmp_path, max_pixels=1000)


def test_how_blocks_are_computed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The segmenter that encodes has the attention that was asked for."""
    seen = []

    def encode(segmenter: SamSegmenter, _: torch.Tensor, **options: Any) -> None:
        seen.append((segmenter.backbone.attention, segmenter.backbone.compiled))
        raise KeyboardInterrupt

    monkeypatch.setattr(SamSegmenter, "encode", encode)
    monkeypatch.setenv("CXX", "true")  # any program is a compiler as long as nothing is compiled
    for number, options in enumerate(({}, {"attention": "folded"}, {"attention": "plain", "compile": True})):
        with pytest.raises(KeyboardInterrupt):
            scored(place, tmp_path / str(number), **options)
    assert seen == [("blocked", False), ("folded", False), ("plain", True)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(place: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="accelerator: PyTorch finds no GPU"):
        scored(place, tmp_path, accelerator="gpu")
