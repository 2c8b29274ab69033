"""Adapter folders: what is refused and how, old formats, and what is kept."""

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sam_adapter.backbones.families import BUNDLED, FAMILIES
from sam_adapter.batch import Batch, Output, Prompt, Query
from sam_adapter.checkpoints.adapter import (
    CONFIG_FILE,
    FORMER_FILES,
    WEIGHTS_FILE,
    load,
    read_adapter_config,
    save_adapter,
)
from sam_adapter.checkpoints.description import FORMAT
from sam_adapter.config.registry import METHODS
from sam_adapter.errors import CheckpointError
from sam_adapter.methods.sam_adapter.module import AdapterSettings
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system import writing
from sam_adapter.tiling.grid import Tiling
from sam_adapter.training.run_folder import clear_output
from test_model import config

ADAPTERS = Path(__file__).parent / "adapters"
"""Folders of older formats, written by the programs of their time, with answers that those gave."""
FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4 = (ADAPTERS / f"format_{number}" for number in (1, 2, 3, 4))


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
        core_rise=0.2,
    )
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "adapter"))


def spoiled(folder: Path, place: str, value: Any) -> None:
    """Put a value at a place of the description, such as 'method.adapter.tune_dim'; `...` takes the field away."""
    path = folder / "sam_adapter.json"
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
    assert found.core_rise == load(written).core_rise == 0.2


def test_weights_say_their_format_as_those_of_other_libraries_do(written: Path):
    with safe_open(written / WEIGHTS_FILE, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_an_adapter_is_on_the_disk_before_it_takes_the_old_ones_place(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A power failure cannot be had; that each file is flushed, moved, and its folder flushed is what can go wrong."""
    steps: list[str | Path] = []
    flush, move = writing._flush, os.replace
    monkeypatch.setattr(writing, "_flush", lambda path: steps.append(path) or flush(path))
    monkeypatch.setattr(os, "replace", lambda partial, place: steps.append(place) or move(partial, place))
    folder = tmp_path / "adapter"
    save_adapter(folder, load(written))
    for place in (folder / WEIGHTS_FILE, folder / CONFIG_FILE):
        partial, moved, inside = steps[:3]
        del steps[:3]
        assert (Path(partial).parent, moved, inside) == (folder, place, folder)
    assert not steps


def test_an_adapter_of_the_former_bundled_model_is_told_how_to_go_on(folder: Path, tmp_path: Path):
    spoiled(folder, "base.sha256", "ab" * 32)
    with pytest.raises(CheckpointError) as error:
        load(folder)
    assert "ab" * 32 in str(error.value)
    assert str(error.value).endswith(
        "The bundled model 'tiny' was pretrained again: train the adapter again with 'sam-adapter train --config "
        "RUN/config.yaml --overwrite true', or give the former weights with --model."
    )
    elsewhere = shutil.copytree(BUNDLED["tiny"], tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"has [0-9a-f]{64}\. Give the right base with --model\.$"):
        load(folder, model=str(elsewhere))


def test_an_adapter_of_format_1_gives_the_answers_of_its_time():
    segmenter = load(FORMAT_1)
    assert (segmenter.prompt, segmenter.threshold, segmenter.preprocessing.resize) == ("mixed", 0.4, "squash")
    logits = answer(segmenter, Prompt(box=torch.tensor([8.0, 8.0, 40.0, 44.0]))).mask_logits
    expected = torch.tensor(json.loads((FORMAT_1 / "expected.json").read_text())).reshape(4, 4)
    torch.testing.assert_close(logits[0, 0, ::5, ::5], expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_format_2_under_its_former_names_gives_the_answers_of_its_time():
    segmenter, expected = load(FORMAT_2), json.loads((FORMAT_2 / "expected.json").read_text())
    for kind, prompt in {
        "box": Prompt(box=torch.tensor([8.0, 8.0, 40.0, 44.0])),
        "points": Prompt(points=torch.tensor([[20.0, 30.0], [50.0, 12.0]]), point_labels=torch.tensor([1, 0])),
        "none": Prompt(),
    }.items():
        found, wanted = answer(segmenter, prompt), expected[kind]
        logits = torch.tensor(wanted["mask_logits"]).reshape(4, 4)
        torch.testing.assert_close(found.mask_logits[0, 0, ::5, ::5], logits, rtol=1e-4, atol=1e-4)
        assert found.iou_scores[0, 0].item() == pytest.approx(wanted["iou_score"], abs=1e-4)


def test_an_adapter_of_format_3_gives_the_answers_of_its_time():
    segmenter = load(FORMAT_3)
    assert (segmenter.task, segmenter.class_names, segmenter.class_tokens) == ("semantic", ("cat", "dog"), 2)
    assert segmenter.preprocessing == Preprocessing(image_size=64, resize="squash")
    assert not segmenter.method.prepare_frozen
    logits = answer(segmenter, Prompt(), learned=1).mask_logits
    expected = torch.tensor(json.loads((FORMAT_3 / "expected.json").read_text())).reshape(4, 4)
    torch.testing.assert_close(logits[0, 0, ::5, ::5], expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_format_4_gives_the_answers_of_its_time():
    found, segmenter = read_adapter_config(FORMAT_4), load(FORMAT_4)
    assert (segmenter.task, segmenter.class_names, segmenter.tiling) == (
        "instance",
        ("cat", "dog"),
        Tiling(tile=64, overlap=16),
    )
    assert (found.scores, segmenter.best_thresholds, segmenter.core_rise) == ({"f1": 0.5}, {"none": 0.35}, None)
    logits = answer(segmenter, Prompt(), learned=1).mask_logits
    expected = torch.tensor(json.loads((FORMAT_4 / "expected.json").read_text())).reshape(4, 4)
    torch.testing.assert_close(logits[0, 0, ::5, ::5], expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_format_2_keeps_all_that_it_says():
    found, segmenter = read_adapter_config(FORMAT_2), load(FORMAT_2)
    assert (found.scores, found.frozen_scores) == ({"iou": 0.625, "iou_box": 0.75}, {"iou": 0.5})
    assert (found.epoch, found.epochs, found.warnings) == (3, 4, ("Made for the tests.",))
    assert (segmenter.task, segmenter.prompt, segmenter.threshold) == ("binary", "points", 0.45)
    assert segmenter.best_thresholds == {"box": 0.35, "points": 0.55}
    assert (segmenter.preprocessing.image_size, segmenter.preprocessing.resize) == (64, "pad")
    assert (segmenter.method.name, segmenter.method.parts) == ("sam_adapter", ("prompt_encoder",))
    assert segmenter.method.adapter == AdapterSettings(
        tune_dim=4,
        hidden_dim=2,
        high_frequency_rate=0.3,
        embedding_from="before_position",
        neck_prompt=False,
        activation="silu",
        share_up=False,
        adapter_init="paper",
    )
    assert segmenter.method.carried == ("backbone.sam.shared_image_embedding.positional_embedding",)
    assert segmenter.reading is not None
    assert segmenter.reading.masks is not None
    assert segmenter.reading.masks.described() == {"0": "background", "1": "foreground", "255": "void"}
    assert segmenter.reading.brightness is not None
    assert segmenter.reading.brightness.integer == (0, 1023)


@pytest.mark.parametrize("former", [FORMAT_1, FORMAT_2, FORMAT_3], ids=lambda path: path.name)
def test_an_older_adapter_written_again_is_the_same(former: Path, tmp_path: Path):
    segmenter = load(former)
    save_adapter(tmp_path / "again", segmenter)
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"sam_adapter.json", "sam_adapter.safetensors"}
    again = load(tmp_path / "again")
    assert again.method == segmenter.method
    assert again.reading == segmenter.reading
    state = segmenter.trained_state()
    assert again.trained_state().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.trained_state().items())


def test_an_adapter_written_over_one_of_the_former_names_is_the_one_that_counts(tmp_path: Path):
    folder = Path(shutil.copytree(FORMAT_1, tmp_path / "adapter"))
    save_adapter(folder, load(FORMAT_2))
    assert load(folder).prompt == "points"


@pytest.mark.parametrize(
    ("former", "missing"),
    [(True, "adapter_model.safetensors"), (False, "sam_adapter.safetensors"), (False, "sam_adapter.json")],
)
def test_a_missing_file_is_named_as_the_folder_names_its_own(written: Path, tmp_path: Path, former: bool, missing: str):
    folder = Path(shutil.copytree(FORMAT_1 if former else written, tmp_path / "adapter"))
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"has no {missing}"):
        load(folder)


@pytest.mark.parametrize("names", [FORMER_FILES, (CONFIG_FILE, WEIGHTS_FILE)], ids=lambda names: names[0])
def test_a_run_that_starts_anew_takes_the_earlier_adapter_away(tmp_path: Path, names: tuple[str, ...]):
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    for name in names:
        (adapter / name).write_bytes(b"")
    clear_output(config("tiny", output=tmp_path / "run", overwrite=True))
    assert not list(adapter.iterdir())


def answer(segmenter: SamSegmenter, prompt: Prompt, learned: int | None = None) -> Output:
    """What is said of a picture of 64 pixels that every version can make."""
    batch = Batch(
        indices=[0],
        names=[""],
        pixel_values=torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64),
        annotations=[None],
        queries=[Query(prompt=prompt, learned=learned)],
        original_sizes=[(64, 64)],
    )
    with torch.inference_mode():
        return segmenter(batch)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("format", FORMAT + 1, f"format {FORMAT + 1} is newer"),
        ("format", "2", "'format' to be a whole number"),
        ("format", ..., "'format' to be a whole number"),
        ("method", ..., "method is missing"),
        ("method.name", "no_such", f"method.name: input should be one of {', '.join(METHODS)}, none, got 'no_such'"),
        ("method.adapter", None, "'adapter' has the settings of what the method adds"),
        ("method.adapter.tune_dim", 4.0, "method.adapter.tune_dim"),
        ("method.adapter.tune_dim", True, "method.adapter.tune_dim"),
        ("method.adapter.hidden_dim", 10**30, "method.adapter.hidden_dim"),
        ("method.adapter.hidden_dim", 0, "greater than or equal to 1, got 0"),
        ("method.adapter.high_frequency_rate", float("nan"), "method.adapter.high_frequency_rate"),
        ("method.adapter.gain", 2, "method.adapter.gain is not known"),
        ("method.parts", ["iou_head"], "method.parts.0"),
        ("method.parts", "mask_decoder", "method.parts: "),
        ("base.sha256", "abc", "base.sha256"),
        ("base.family", "no_such", f"base.family: input should be one of {', '.join(FAMILIES)}, got 'no_such'"),
        ("base.name", "", "base.name"),
        ("preprocessing.image_size", 16384, "preprocessing.image_size: .* less than or equal to 4096, got 16384"),
        ("preprocessing.image_size", 65, "preprocessing.image_size: expected a multiple"),
        ("preprocessing.resize", "stretch", "preprocessing.resize"),
        ("preprocessing.interpolation", "float64", "preprocessing.interpolation"),
        ("preprocessing.restore", ..., "preprocessing.restore is missing"),
        ("preprocessing.std", [1.0, 0.0, 1.0], "preprocessing.std.1"),
        ("preprocessing.mean", [1.0, 2.0], "preprocessing.mean"),
        ("preprocessing.mean", [1.0, float("inf"), 2.0], "preprocessing.mean.1"),
        ("prompt", "circle", "prompt"),
        ("threshold", float("nan"), "threshold: .*finite number, got nan"),
        ("threshold", 1.5, "threshold"),
        ("best_thresholds", {"mixed": 0.5}, "best_thresholds.mixed"),
        ("core_rise", 0.0, "core_rise: input should be greater than 0, got 0.0"),
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
    assert str(folder / "sam_adapter.json") in str(error.value)


def test_padding_is_not_undone_directly(folder: Path):
    spoiled(folder, "preprocessing.resize", "pad")
    spoiled(folder, "preprocessing.restore", "direct")
    with pytest.raises(CheckpointError, match="preprocessing: 'restore' should be 'square' where 'resize' is 'pad'"):
        load(folder)


def test_all_problems_come_together(folder: Path):
    spoiled(folder, "threshold", 2)
    spoiled(folder, "prompt", ...)
    with pytest.raises(CheckpointError, match=r"prompt is missing[^$]*threshold"):
        load(folder)


@pytest.mark.parametrize(
    "text", ["", "null", "[1]", "{", "[" * 100_000, '{"format": 2, "x": ' + "9" * 5000 + "}", "\x00"]
)
def test_what_is_no_description(folder: Path, text: str):
    (folder / "sam_adapter.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"sam_adapter\.json"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, value: float):
    path = folder / "sam_adapter.safetensors"
    state = load_file(path)
    state["adapter.shared_up.bias"][1] = value
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"sam_adapter\.safetensors: NaN or infinite .* adapter\.shared_up\.bias"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 300])
def test_cut_weights_are_refused(folder: Path, keep: int):
    path = folder / "sam_adapter.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"sam_adapter\.safetensors: cannot be read"):
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
