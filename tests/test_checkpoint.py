"""Adapter folders: what is refused and how, old formats, and what is kept."""

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam_adapter.batch import Prompt
from sam_adapter.checkpoints.adapter import load, read_adapter_config, save_adapter
from sam_adapter.errors import CheckpointError

FORMAT_1 = Path(__file__).parent / "adapters" / "format_1"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter folder of the present format."""
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(
        folder,
        load(FORMAT_1),
        scores={"iou": 0.5, "ber": float("nan")},
        frozen_scores={"iou": 0.25},
        epoch=3,
        epochs=4,
        warnings=["Worse with a box."],
        best_thresholds={"box": 0.25},
    )
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "adapter"))


def spoiled(folder: Path, place: str, value: Any) -> None:
    """Put a value at a place of the description, such as 'method.adapter.tune_dim'; `...` takes the field away."""
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    *parents, last = place.split(".")
    at = values
    for name in parents:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    path.write_text(json.dumps(values))


def test_what_a_description_keeps(written: Path):
    found = read_adapter_config(written)
    assert (found.scores, found.frozen_scores, found.epoch, found.epochs) == ({"iou": 0.5}, {"iou": 0.25}, 3, 4)
    assert (found.warnings, found.best_thresholds) == (("Worse with a box.",), {"box": 0.25})
    assert load(written).best_thresholds == {"box": 0.25}


def test_an_adapter_of_format_1_gives_the_answers_of_its_time():
    segmenter = load(FORMAT_1)
    assert (segmenter.prompt, segmenter.threshold, segmenter.preprocessing.resize) == ("mixed", 0.4, "squash")
    pixel_values = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    box = Prompt(boxes=torch.tensor([[8.0, 8.0, 40.0, 44.0]]))
    with torch.inference_mode():
        logits = segmenter.decode(segmenter.encode(pixel_values), [box], [(64, 64)]).mask_logits[0]
    expected = torch.tensor(json.loads((FORMAT_1 / "expected.json").read_text())).reshape(4, 4)
    torch.testing.assert_close(logits[0, ::5, ::5], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("format", 3, "format 3 is newer"),
        ("format", "2", "'format' to be a whole number"),
        ("format", ..., "'format' to be a whole number"),
        ("method", ..., "method is missing"),
        ("method.name", "lora", "method.name: input should be 'sam_adapter', 'decoder', 'full' or 'none', got 'lora'"),
        ("method.adapter", None, "needs the settings of its adapter"),
        ("method.adapter.tune_dim", 4.0, "method.adapter.tune_dim"),
        ("method.adapter.tune_dim", True, "method.adapter.tune_dim"),
        ("method.adapter.hidden_dim", 10**30, "method.adapter.hidden_dim"),
        ("method.adapter.hidden_dim", 0, "greater than or equal to 1, got 0"),
        ("method.adapter.high_frequency_rate", float("nan"), "method.adapter.high_frequency_rate"),
        ("method.adapter.gain", 2, "method.adapter.gain is not known"),
        ("method.parts", ["iou_head"], "method.parts.0"),
        ("method.parts", "mask_decoder", "method.parts: "),
        ("base.sha256", "abc", "base.sha256"),
        ("base.family", "sam9", "base.family"),
        ("base.name", "", "base.name"),
        ("preprocessing.image_size", 16384, "preprocessing.image_size: .* less than or equal to 4096, got 16384"),
        ("preprocessing.image_size", 65, "preprocessing.image_size: expected a multiple"),
        ("preprocessing.resize", "stretch", "preprocessing.resize"),
        ("preprocessing.std", [1.0, 0.0, 1.0], "preprocessing.std.1"),
        ("preprocessing.mean", [1.0, 2.0], "preprocessing.mean"),
        ("preprocessing.mean", [1.0, float("inf"), 2.0], "preprocessing.mean.1"),
        ("prompt", "circle", "prompt"),
        ("threshold", float("nan"), "threshold: .*finite number, got nan"),
        ("threshold", 1.5, "threshold"),
        ("best_thresholds", {"mixed": 0.5}, "best_thresholds.mixed"),
        ("epoch", -1, "epoch"),
        ("scores", {"iou": "good"}, "scores.iou"),
        ("warnings", [1], "warnings.0"),
        ("reading", [], "reading"),
    ],
)
def test_a_broken_description_is_refused_by_field(folder: Path, place: str, value: Any, message: str):
    spoiled(folder, place, value)
    with pytest.raises(CheckpointError, match=message) as error:
        load(folder)
    assert str(folder / "adapter_config.json") in str(error.value)


def test_all_problems_come_together(folder: Path):
    spoiled(folder, "threshold", 2)
    spoiled(folder, "prompt", ...)
    with pytest.raises(CheckpointError, match=r"prompt is missing[^$]*threshold"):
        load(folder)


@pytest.mark.parametrize(
    "text", ["", "null", "[1]", "{", "[" * 100_000, '{"format": 2, "x": ' + "9" * 5000 + "}", "\x00"]
)
def test_what_is_no_description(folder: Path, text: str):
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, value: float):
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    state["adapter.shared_up.bias"][1] = value
    save_file(state, path)
    with pytest.raises(
        CheckpointError, match=r"adapter_model\.safetensors: NaN or infinite .* adapter\.shared_up\.bias"
    ):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 300])
def test_cut_weights_are_refused(folder: Path, keep: int):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: cannot be read"):
        load(folder)


def test_widths_that_the_weights_do_not_have_take_no_memory(folder: Path):
    for name in ("tune_dim", "hidden_dim"):
        spoiled(folder, f"method.adapter.{name}", 65536)  # 17 GB for each block
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        CheckpointError, match=r"'adapter\.down\.0\.weight' has shape \(2, 4\), expected \(65536, 65536\)"
    ):
        load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10
