"""The SAM-Adapter of an encoder with several stages against its definition, written down once more."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from plain_adapter import ACTIVATIONS, high_pass
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.base import BlockShape
from sam_adapter.backbones.sam2 import FINER, Sam2Backbone
from sam_adapter.checkpoints.adapter import load, save_adapter
from sam_adapter.config.options import AdapterOptions
from sam_adapter.errors import CheckpointError, ConfigError
from sam_adapter.methods.sam_adapter.hiera import HieraAdapter, stage_widths
from sam_adapter.methods.sam_adapter.method import SamAdapterMethod
from sam_adapter.methods.sam_adapter.module import AdapterSettings, SamAdapter
from sam_adapter.segmenter import SamSegmenter
from test_checkpoint import spoiled
from test_model import config

METHOD = SamAdapterMethod()
LARGE = tuple(
    BlockShape(width, stage)
    for stage, (width, blocks) in enumerate([(144, 3), (288, 6), (576, 36), (1152, 3)])
    for _ in range(blocks)
)
"""Inputs of Hiera-L's blocks: the first block of a stage still has the input of the one before."""


@pytest.fixture(scope="module")
def folder(family_folders: dict[str, str]) -> str:
    return family_folders["sam2"]


def encode_plainly(segmenter: SamSegmenter, pixels: Tensor) -> list[Tensor]:
    """The neck's three finest levels, the finest first, with the definition's prompts, one block after another."""
    assert isinstance(segmenter.backbone, Sam2Backbone)
    vision: Any = segmenter.backbone.sam.vision_encoder
    adapter: Any = segmenter.adapter
    settings, weights = adapter.settings, dict(adapter.named_parameters())

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def level(stage: int, image: Tensor) -> Tensor:
        name = f"high_frequency_tune.{stage}"
        stride = 2 if stage else 4
        rest = {"stride": stride, "padding": stride - 1}
        found = functional.conv2d(image, weights[f"{name}.project.weight"], weights[f"{name}.project.bias"], **rest)
        centred = found - found.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        scale, shift = (weights[f"{name}.norm.{one}"][:, None, None] for one in ("weight", "bias"))
        return normed * scale + shift

    embedding = vision.backbone.patch_embed(pixels)
    hidden = embedding + vision.backbone._get_pos_embed(embedding.shape[1:3])
    entering = embedding if settings.embedding_from == "before_position" else hidden
    image, stage, width, outputs = high_pass(pixels, settings.high_frequency_rate), -1, 0, []
    features: Any = 0
    for number, block in enumerate(vision.backbone.blocks):
        if block.dim != width:
            stage, width, features = stage + 1, block.dim, 0
            if settings.use_embedding:
                features = linear(f"embedding_tune.{stage}", entering if stage == 0 else hidden)
            if settings.use_high_frequency:
                image = level(stage, image)
                features = features + image.permute(0, 2, 3, 1)
        down = ACTIVATIONS[settings.activation](linear(f"down.{number}", features))
        hidden = block(hidden + linear(f"shared_up.{stage}" if settings.share_up else f"up.{number}", down))
        outputs.append(hidden)
    ends = [outputs[end] for end in vision.backbone.stage_ends]
    return list(vision.neck(tuple(ends))[0][::-1][:3])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preset": "paper"},
        {"embedding_from": "before_position", "activation": "silu"},
        {"share_up": False, "tune_dim": 7, "hidden_dim": 5, "high_frequency_rate": 0.04},
        {"use_high_frequency": False},
        {"use_embedding": False, "activation": "relu"},
    ],
    ids=str,
)
def test_adapter_prompts_enter_every_block_of_every_stage(folder: str, changes: dict[str, Any]):
    torch.manual_seed(0)
    segmenter = SamSegmenter.from_config(config(folder, **changes))
    assert isinstance(segmenter.adapter, HieraAdapter)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for parameter in segmenter.adapter.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        found, wanted = segmenter.encode(pixels), encode_plainly(segmenter, pixels)
        base = segmenter.encode(pixels, frozen=True)
    for name, right in zip(FINER, wanted, strict=False):
        torch.testing.assert_close(found[name], right, rtol=1e-4, atol=2e-5)
        assert (found[name] - base[name]).abs().max() > 0.01
    no_memory = segmenter.get_parameter("backbone.sam.no_memory_embedding").detach().reshape(1, -1, 1, 1)
    torch.testing.assert_close(found["image_embeddings"], wanted[2] + no_memory, rtol=1e-4, atol=2e-5)


def test_an_adapter_that_adds_nothing_leaves_the_base(folder: str):
    segmenter = SamSegmenter.from_config(config(folder, adapter_init="zero"))
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, wanted = segmenter.encode(pixels), SamSegmenter.frozen(folder).encode(pixels)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted.tensors)
        segmenter.get_parameter("adapter.shared_up.1.bias").fill_(0.1)
        assert not torch.equal(segmenter.encode(pixels)[FINER[1]], wanted[FINER[1]])


def test_widths_follow_those_of_the_stages(folder: str):
    backbone = load_backbone(folder)
    assert stage_widths(backbone.blocks) == [8, 16, 32, 64]
    assert [shape.stage for shape in backbone.blocks] == [0, 0, 1, 1, 2, 2, 3]
    backbone.blocks = LARGE
    paper, wide = METHOD.settings(AdapterOptions(preset="paper"), backbone), METHOD.settings(AdapterOptions(), backbone)
    assert paper.tune_dim == paper.hidden_dim == (4, 9, 18, 36)
    assert (wide.tune_dim, wide.hidden_dim) == ((36, 72, 144, 288), (32,) * 4)
    assert {paper.neck_prompt, wide.neck_prompt} == {False}
    named = METHOD.settings(AdapterOptions(tune_dim=5, hidden_dim=6), backbone)
    assert (named.tune_dim, named.hidden_dim) == ((5,) * 4, (6,) * 4)
    with pytest.raises(ConfigError, match="neck_prompt: the neck of family sam2 takes the levels of 4 stages"):
        METHOD.settings(AdapterOptions(neck_prompt=True), backbone)


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({}, "every_block"),
        ({"preset": "paper"}, "once"),
        ({"embedding_from": "before_position"}, "once"),
        ({"use_embedding": False}, "once"),
        ({"embedding_read": "once"}, "once"),
        ({"preset": "paper", "embedding_read": "every_block"}, "every_block"),
    ],
)
def test_where_the_embedding_is_read_unless_an_option_says(
    folder: str, sam_folder: str, options: dict[str, Any], read: str
):
    assert METHOD.settings(AdapterOptions(**options), load_backbone(sam_folder)).embedding_read == read
    if "embedding_read" not in options:
        assert METHOD.settings(AdapterOptions(**options), load_backbone(folder)).embedding_read == "once"


def test_the_blocks_decide_which_side_path_it_is(folder: str, sam_folder: str):
    """And not the name of the family."""
    several, one = load_backbone(folder), load_backbone(sam_folder)
    assert isinstance(METHOD.added(METHOD.settings(AdapterOptions(), several), several), HieraAdapter)
    assert isinstance(METHOD.added(METHOD.settings(AdapterOptions(), one), one), SamAdapter)
    blocks = several.blocks
    several.blocks, one.blocks = one.blocks, blocks
    assert isinstance(METHOD.added(METHOD.settings(AdapterOptions(), several), several), SamAdapter)
    assert isinstance(METHOD.added(METHOD.settings(AdapterOptions(), one), one), HieraAdapter)


def test_settings_of_other_stages_are_refused(folder: str, sam_folder: str):
    several, one = load_backbone(folder), load_backbone(sam_folder)
    own, single = METHOD.settings(AdapterOptions(), several), METHOD.settings(AdapterOptions(), one)
    with pytest.raises(CheckpointError, match=r"one tune_dim and one hidden_dim.* got \(3, 4, 8, 16\)"):
        METHOD.added(own, one)
    with pytest.raises(CheckpointError, match="each of the 4 stages of this base, got 192 and 32"):
        METHOD.added(single, several)
    with pytest.raises(CheckpointError, match="each of the 4 stages"):
        METHOD.added(replace(own, tune_dim=(4, 4, 4)), several)
    with pytest.raises(CheckpointError, match=r"neck_prompt, misread_embedding and embedding_read .* belong to"):
        METHOD.added(replace(own, neck_prompt=True), several)


def test_settings_come_back_from_a_file_as_they_were(folder: str, tmp_path: Path):
    segmenter = SamSegmenter.from_config(config(folder, preset="paper", hidden_dim=6, activation="relu"))
    save_adapter(tmp_path / "adapter", segmenter)
    again = load(tmp_path / "adapter")
    assert again.method == segmenter.method
    assert again.preprocessing == segmenter.preprocessing
    assert isinstance(again.method.adapter, AdapterSettings)
    assert again.method.adapter.hidden_dim == (6, 6, 6, 6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([3], "at least 2 items"),
        ([3, 4, 0, 5], "greater than or equal to 1, got 0"),
        ([3, 4, 8], "each of the 4 stages of this base"),
        ([3, 4, 8, 17], "has shape"),
    ],
)
def test_widths_of_a_file_are_checked(folder: str, tmp_path: Path, value: list[int], message: str):
    save_adapter(tmp_path / "adapter", SamSegmenter.from_config(config(folder)))
    spoiled(tmp_path / "adapter", "method.adapter.tune_dim", value)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "adapter")


def test_the_papers_initial_weights(folder: str):
    torch.manual_seed(0)
    backbone = load_backbone(folder)
    backbone.blocks = LARGE
    adapter = METHOD.added(METHOD.settings(AdapterOptions(preset="paper"), backbone), backbone)
    parameters = dict(adapter.named_parameters())
    for name in ("embedding_tune.3", "down.40", "shared_up.2"):
        assert parameters[f"{name}.weight"].std().item() == pytest.approx(0.02, rel=0.1)
        assert not parameters[f"{name}.bias"].any()
    for level, fan_out in ((0, 49 * 4), (3, 9 * 36)):
        weight = parameters[f"high_frequency_tune.{level}.project.weight"]
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
