"""Above which probability `evaluate` takes a pixel for foreground."""

from pathlib import Path

import numpy as np
import pytest

from evaluation_runs import BEST, EMPTY, eight_pairs, overlap, scored, truth_of
from sam_adapter import Predictor, cli, load
from sam_adapter.errors import ConfigError
from sam_adapter.tasks.prompts import box_from_mask


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eight_pairs(tmp_path_factory.mktemp("eval"))


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
