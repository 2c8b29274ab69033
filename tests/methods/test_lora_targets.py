"""The layers that LoRA finds in the encoders of `transformers`, and what becomes of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2Model,
    Sam2VisionConfig,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3VisionConfig,
    Sam3ViTConfig,
)

from conftest import random_sam
from lora_models import with_keys
from sam_adapter.backbones import Backbone
from sam_adapter.checkpoints.peft_folder import write_peft_folder
from sam_adapter.errors import ConfigError
from sam_adapter.methods.lora.module import LoraAdapter
from sam_adapter.methods.lora.settings import LoraSettings
from sam_adapter.methods.lora.targets import target_layers


def small_sam2() -> nn.Module:
    """A SAM 2 with five blocks in four stages, each wider than the one before."""
    hiera: dict[str, Any] = {
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 4, 4, 2],
        "global_attention_blocks": [3],
        "image_size": [64, 64],
    }
    neck: dict[str, Any] = {"backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16}
    vision = Sam2VisionConfig(backbone_config=Sam2HieraDetConfig(**hiera), backbone_feature_sizes=[[16, 16]], **neck)
    return Sam2Model(Sam2Config(vision_config=vision)).eval()


def small_sam3() -> nn.Module:
    """A SAM 3 with three blocks."""
    vit: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "image_size": 56,
        "window_size": 2,
        "global_attn_indexes": [2],
    }
    vision = Sam3VisionConfig(backbone_config=Sam3ViTConfig(**vit), fpn_hidden_size=16)
    return Sam3TrackerModel(Sam3TrackerConfig(vision_config=vision)).eval()


def test_layers_are_found_in_a_hiera():
    encoder = small_sam2().get_submodule("vision_encoder")
    found = target_layers(encoder, 5, "attention")
    assert list(found) == [f"backbone.blocks.{block}.attn.qkv" for block in range(5)]
    every = target_layers(encoder, 5, "all_linear")
    inner = ("attn.qkv", "attn.proj", "mlp.proj_in", "mlp.proj_out")
    wanted = {f"backbone.blocks.{block}.{name}" for block in range(5) for name in inner}
    assert every.keys() == wanted | {f"backbone.blocks.{block}.proj" for block in (1, 2, 4)}  # where the width changes


def test_layers_are_found_in_a_plain_transformer():
    encoder = small_sam3().get_submodule("vision_encoder")
    found = target_layers(encoder, 3, "attention")
    assert found.keys() == {f"backbone.layers.{block}.attention.{one}_proj" for block in range(3) for one in "qv"}
    inner = (*(f"attention.{one}_proj" for one in "qkvo"), "mlp.fc1", "mlp.fc2")
    every = target_layers(encoder, 3, "all_linear")
    assert every.keys() == {f"backbone.layers.{block}.{name}" for block in range(3) for name in inner}


@pytest.mark.parametrize(("make", "depth", "size"), [(small_sam2, 5, 64), (small_sam3, 3, 56)])
@pytest.mark.parametrize("dora", [False, True])
def test_encoders_of_other_families_are_adapted_for_peft_too(
    tmp_path: Path, make: Callable[[], nn.Module], depth: int, size: int, dora: bool
):
    torch.manual_seed(0)
    model, pixels = make(), torch.randn(1, 3, size, size)
    plain, encoder = copy.deepcopy(model), model.get_submodule("vision_encoder")
    backbone = Mock(Backbone, blocks=[None] * depth, part=lambda _: encoder)
    settings = LoraSettings(rank=2, alpha=2.0, dropout=0.0, targets="attention", dora=dora, rslora=False)
    adapter = LoraAdapter(settings, backbone).train(False)
    for name, one in adapter.named_parameters():
        with torch.no_grad():
            moved = one + 0.3 * torch.randn_like(one)
            one.copy_(with_keys(moved, 0) if "qkv.lora_B" in name else one if "qkv.magnitude" in name else moved)
    form = adapter.peft_form("some/base")
    assert form is not None
    write_peft_folder(tmp_path, form)
    theirs: Any = PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path / "peft"))  # pyright: ignore

    def encoded(one: Any) -> Tensor:
        with torch.no_grad():
            return one.get_submodule("vision_encoder")(pixels).last_hidden_state

    assert (encoded(theirs.get_base_model()) - encoded(model)).abs().max() < 1e-5
    assert (encoded(plain) - encoded(model)).abs().max() > 1e-3
    with adapter.left_out():
        assert torch.equal(encoded(model), encoded(plain))
    adapter.fold()
    assert (encoded(theirs.get_base_model()) - encoded(model)).abs().max() < 1e-5
    assert dict(model.named_parameters()).keys() == dict(plain.named_parameters()).keys()


def test_an_encoder_without_such_layers_is_refused():
    with pytest.raises(ConfigError, match="its linear layers are named lin1, lin2, proj, qkv"):
        target_layers(random_sam().vision_encoder, 3, "attention")
