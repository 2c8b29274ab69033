"""Adapters folded into their base: the same answers from a model folder alone."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SamModel

from lora_models import BATCH, PIXELS, VARIANTS, lora, spread
from sam_adapter import MergeConfig, load, merge
from sam_adapter.annotations.reading.brightness import Brightness
from sam_adapter.annotations.reading.rules import ReadingRules
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.cli import main
from sam_adapter.errors import ConfigError
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tiling.grid import Tiling
from test_model import config


def merged(segmenter: SamSegmenter, folder: Path) -> SamSegmenter:
    save_adapter(folder / "adapter", segmenter)
    identity = merge(MergeConfig(adapter=folder / "adapter", output=folder / "base"))
    base = load(model=str(folder / "base"))
    assert base.backbone.identity.sha256 == identity.sha256 != segmenter.backbone.identity.sha256
    return base


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_folded_lora_gives_the_same_answers(sam_folder: str, tmp_path: Path, options: dict[str, Any]):
    segmenter = spread(lora(sam_folder, **options))
    with torch.no_grad():
        segmenter.backbone.part("mask_decoder").get_parameter("mask_tokens.weight").mul_(1.5)
    base = merged(segmenter, tmp_path)
    with torch.no_grad():
        found, wanted, frozen = base(BATCH), segmenter(BATCH), SamSegmenter.frozen(sam_folder)(BATCH)
        theirs = SamModel.from_pretrained(tmp_path / "base").get_image_embeddings(PIXELS)
        torch.testing.assert_close(theirs, segmenter.encode(PIXELS)["image_embeddings"], rtol=1e-4, atol=1e-5)
    wrong, effect = ((one.mask_logits - wanted.mask_logits).abs().max() for one in (found, frozen))
    assert wrong < 0.005 * effect
    if options.get("lora_targets") != "all_linear":
        before = SamModel.from_pretrained(sam_folder).state_dict()
        after = SamModel.from_pretrained(tmp_path / "base").state_dict()
        name = "vision_encoder.layers.0.attn.qkv.weight"
        kept = [torch.equal(one, other) for one, other in zip(before[name].chunk(3), after[name].chunk(3), strict=True)]
        assert kept == [False, True, False]


@pytest.mark.parametrize("options", [{"method": "decoder"}, {"method": "full"}], ids=str)
def test_fine_tuned_parts_are_written_as_they_are(sam_folder: str, tmp_path: Path, options: dict[str, Any]):
    segmenter = SamSegmenter.from_config(config(sam_folder, **options))
    torch.manual_seed(0)
    for tensor in segmenter.trained_state().values():
        tensor += 0.02 * torch.randn_like(tensor)
    base = merged(segmenter, tmp_path)
    with torch.no_grad():
        assert torch.equal(base(BATCH).mask_logits, segmenter(BATCH).mask_logits)
        assert not torch.equal(base(BATCH).mask_logits, SamSegmenter.frozen(sam_folder)(BATCH).mask_logits)


def test_an_adapter_of_another_image_size_makes_a_base_of_that_size(sam_folder: str, tmp_path: Path):
    segmenter = spread(lora(sam_folder, image_size=96))
    base = merged(segmenter, tmp_path)
    assert base.preprocessing.image_size == 96
    pixels = torch.nn.functional.interpolate(PIXELS, 96)
    with torch.no_grad():
        found, wanted = (one.encode(pixels)["image_embeddings"] for one in (base, segmenter))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_depends_on_the_picture_or_on_classes_is_refused(sam_folder: str, tmp_path: Path):
    save_adapter(tmp_path / "side", SamSegmenter.from_config(config(sam_folder)))
    with pytest.raises(ConfigError, match=r"method sam_adapter: what it adds is computed anew from each picture"):
        merge(MergeConfig(adapter=tmp_path / "side", output=tmp_path / "base"))
    chosen = config(sam_folder, method="lora", task="semantic")
    save_adapter(tmp_path / "classes", SamSegmenter.from_config(chosen, ("a", "b")))
    with pytest.raises(ConfigError, match="learned prompts of the task 'semantic'"):
        merge(MergeConfig(adapter=tmp_path / "classes", output=tmp_path / "base"))
    assert not (tmp_path / "base").exists()


def test_the_command_writes_into_a_new_folder_and_says_what_is_left_behind(
    sam_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, logger="sam_adapter")
    segmenter = lora(sam_folder, resize="squash")
    segmenter.tiling = Tiling(tile=64, overlap=8)
    segmenter.reading = ReadingRules(brightness=Brightness(integer=(0, 900)))
    save_adapter(tmp_path / "adapter", segmenter)
    words = ["merge", "--adapter", str(tmp_path / "adapter"), "--output", str(tmp_path / "base")]
    main(words)
    assert capsys.readouterr().out.startswith(f"Model: {tmp_path / 'base'} (SHA-256 ")
    assert "squashed" in caplog.text
    assert "--tile 64 --overlap 8" in caplog.text
    assert "scale of brightness" in caplog.text
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "holds files already" in capsys.readouterr().err
