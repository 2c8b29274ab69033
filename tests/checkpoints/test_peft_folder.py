"""The folder for `peft` inside an adapter folder: `peft` alone gives the same encoder, and it never contradicts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import SamModel

from lora_models import PIXELS, VARIANTS, lora, spread
from sam_adapter.checkpoints import peft_folder
from sam_adapter.checkpoints.adapter import load, read_adapter_config, save_adapter
from sam_adapter.errors import CheckpointError, OutputError
from sam_adapter.methods.lora.module import LoraAdapter
from sam_adapter.segmenter import SamSegmenter
from test_model import config


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_peft_alone_gives_the_same_encoder(sam_folder: str, tmp_path: Path, options: dict[str, Any]):
    segmenter = spread(lora(sam_folder, lora_dropout=0.1, **options))
    save_adapter(tmp_path, segmenter)
    sam = PeftModel.from_pretrained(SamModel.from_pretrained(sam_folder), str(tmp_path / "peft"))
    with torch.no_grad():
        found = sam.get_image_embeddings(PIXELS)
        wanted, base = (segmenter.encode(PIXELS, frozen=frozen)["image_embeddings"] for frozen in (False, True))
    assert (found - wanted).abs().max() < 1e-5
    assert (found - base).abs().max() > 1e-3
    own = load(tmp_path)
    with torch.no_grad():
        assert torch.equal(own.encode(PIXELS)["image_embeddings"], wanted)


def test_settings_are_in_both_descriptions(sam_folder: str, tmp_path: Path):
    options: dict[str, Any] = {"lora_rank": 3, "lora_alpha": 5.0, "lora_dropout": 0.2, "dora": True, "rslora": True}
    save_adapter(tmp_path, lora(sam_folder, lora_targets="attention", **options))
    theirs = json.loads((tmp_path / "peft/adapter_config.json").read_text())
    names = {"lora_rank": "r", "dora": "use_dora", "rslora": "use_rslora"}
    assert {name: theirs[names.get(name, name)] for name in options} == options
    assert theirs["base_model_name_or_path"] is None  # no path of this machine
    own = read_adapter_config(tmp_path).method_settings.adapter
    assert {name: getattr(own, name.removeprefix("lora_")) for name in options} == options
    assert own.targets == "attention"


def test_a_base_of_the_hub_is_named(sam_folder: str, tmp_path: Path):
    segmenter = lora(sam_folder)
    assert isinstance(segmenter.adapter, LoraAdapter)
    for name, known in (("vit_b", "facebook/sam-vit-base"), ("a/b", "a/b"), ("tiny", None), ("/a/b", None)):
        assert segmenter.adapter.peft_form(name).config["base_model_name_or_path"] == known


@pytest.mark.parametrize("change", ["weights", "name", "setting", "damaged"])
def test_a_folder_that_contradicts_its_adapter_is_refused(sam_folder: str, tmp_path: Path, change: str):
    save_adapter(tmp_path, lora(sam_folder))
    inner = tmp_path / "peft"
    weights, settings = inner / "adapter_model.safetensors", inner / "adapter_config.json"
    state = load_file(weights)
    name = sorted(state)[0]
    if change == "weights":
        save_file(state | {name: state[name] + 1e-6}, weights)
    elif change == "name":
        save_file(state | {"other": state[name].clone()}, weights)
    elif change == "setting":
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"lora_alpha": 99}))
    else:
        settings.write_text("{")
    word = {"weights": name, "name": "other", "setting": "lora_alpha", "damaged": "cannot be read"}[change]
    with pytest.raises(CheckpointError, match=f"(?s)peft: .*{word}.*The adapter itself is whole: remove"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="is the adapter as peft reads it"):
        load(inner)
    shutil.rmtree(inner)
    load(tmp_path)


def test_another_method_in_the_same_folder_takes_it_away(sam_folder: str, tmp_path: Path):
    save_adapter(tmp_path, lora(sam_folder))
    assert (tmp_path / "peft/adapter_config.json").is_file()
    save_adapter(tmp_path, SamSegmenter.from_config(config(sam_folder)))
    assert not (tmp_path / "peft").exists()
    load(tmp_path)


@pytest.mark.parametrize("failing", ["sam_adapter.safetensors", "sam_adapter.json", "adapter_model.safetensors"])
def test_an_adapter_whose_writing_stops_is_never_contradicted(
    sam_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    save_adapter(tmp_path, lora(sam_folder))
    tensors, beside = peft_folder.write_tensors, peft_folder.written_beside

    def stopping(write: Any) -> Any:
        def written(path: Path, *args: Any, **kwargs: Any) -> Any:
            if path.name == failing:
                raise OutputError("stopped")
            return write(path, *args, **kwargs)

        return written

    for module in ("adapter", "peft_folder"):
        monkeypatch.setattr(f"sam_adapter.checkpoints.{module}.write_tensors", stopping(tensors))
        monkeypatch.setattr(f"sam_adapter.checkpoints.{module}.written_beside", stopping(beside))
    with pytest.raises(OutputError, match="stopped"):
        save_adapter(tmp_path, spread(lora(sam_folder)))
    load(tmp_path)
