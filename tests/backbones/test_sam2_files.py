"""SAM 2's files: Meta's checkpoints with their settings beside them, and folders of `transformers`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Sam2VideoConfig, Sam2VideoModel

from conftest import random_sam2
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.families import ALIASES
from sam_adapter.backbones.sam2 import Sam2Family
from sam_adapter.backbones.sam2_config import KNOWN
from sam_adapter.errors import CheckpointError
from test_model import BOX


@pytest.fixture(scope="module")
def folder(family_folders: dict[str, str]) -> str:
    return family_folders["sam2"]


def meta_state(sam: Any) -> dict[str, Tensor]:
    """Tensors of a SAM 2 under Meta's names, written down from their code; `sam` has MLPs of two and three layers."""
    names = {
        "vision_encoder.backbone.": "image_encoder.trunk.",
        "patch_embed.projection.": "patch_embed.proj.",
        "layer_norm_final_attn": "norm_final_attn",
        "shared_embedding.positional_embedding": "pe_layer.positional_encoding_gaussian_matrix",
        "mask_embed.conv1": "mask_downscaling.0",
        "mask_embed.layer_norm1": "mask_downscaling.1",
        "mask_embed.conv2": "mask_downscaling.3",
        "mask_embed.layer_norm2": "mask_downscaling.4",
        "mask_embed.conv3": "mask_downscaling.6",
        "upscale_conv1": "output_upscaling.0",
        "upscale_layer_norm": "output_upscaling.1",
        "upscale_conv2": "output_upscaling.3",
        "layer_norm": "norm",
        "o_proj": "out_proj",
        "proj_in": "layers.0",
    }
    state = {}
    for name, tensor in sam.state_dict().items():
        if name.startswith("shared_image_embedding"):
            continue
        if name == "prompt_encoder.point_embed.weight":
            state |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": row[None] for i, row in enumerate(tensor)}
            continue
        theirs = name.replace("no_memory_embedding", "no_mem_embed")
        deep = any(part in name for part in ("hypernetworks", "prediction_head", "obj_score_head"))
        theirs = theirs.replace("proj_out", "layers.2" if deep else "layers.1")
        theirs = theirs.replace(".layers.0.", ".layers.1.") if deep and ".layers.0." in name else theirs
        for ours, meta in names.items():
            theirs = theirs.replace(ours, meta)
        if theirs.startswith("vision_encoder.neck"):
            level, kind = theirs.split(".")[-2:]
            theirs = f"image_encoder.neck.convs.{level}.conv.{kind}"
        if theirs.startswith(("prompt_encoder", "mask_decoder")):
            theirs = f"sam_{theirs}"
        state[theirs] = tensor.clone()
    return state


SETTINGS = {"global_att_blocks": [4], "window_spec": [8, 4, 4, 2], "image_size": 64}
MEMORY = {"memory_attention.norm.weight": torch.ones(3), "maskmem_tpos_enc": torch.ones(7, 1, 1, 4)}


@pytest.fixture
def meta_file(tmp_path: Path) -> Path:
    """A file of Meta's with memory, beside its settings."""
    torch.save({"model": meta_state(random_sam2()) | MEMORY}, tmp_path / "random.pt")
    (tmp_path / "random.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "rand.json").write_text("[1, 2]")  # a shorter name, and about something else
    (tmp_path / "other.yaml").write_text("global_att_blocks: [0]")
    return tmp_path / "random.pt"


def test_a_file_of_metas_is_the_folder_that_it_became(meta_file: Path, folder: str):
    found, wanted = load_backbone(str(meta_file)), load_backbone(folder)
    assert found.identity.sha256 == wanted.identity.sha256
    assert (found.image_size, found.blocks) == (wanted.image_size, wanted.blocks)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = [one.decode(one.prepare(one.encode(pixels)), [BOX], [0]) for one in (found, wanted)]
    torch.testing.assert_close(*(one.mask_logits for one in answers), rtol=1e-4, atol=1e-6)


def test_the_digest_knows_every_tensor(meta_file: Path):
    before = load_backbone(str(meta_file)).identity.sha256
    for name in ("no_mem_embed", "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"):
        state = meta_state(random_sam2())
        state[name] += 1
        torch.save({"model": state}, meta_file)
        assert load_backbone(str(meta_file)).identity.sha256 != before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sam_mask_decoder.conv_s1.bias", None, "'mask_decoder.conv_s1.bias' is missing"),
        ("sam_mask_decoder.extra", torch.ones(1), "'mask_decoder.extra' is not part of SAM 2"),
        ("no_mem_embed", torch.ones(1, 1, 5), r"'no_memory_embedding' has shape \(1, 1, 5\), expected \(1, 1, 32\)"),
        ("image_encoder.trunk.pos_embed", None, "shapes are not those of a SAM 2"),
    ],
)
def test_a_file_of_metas_is_loaded_strictly(meta_file: Path, name: str, value: Tensor | None, message: str):
    state = meta_state(random_sam2())
    state.pop(name, None)
    torch.save({"model": state if value is None else state | {name: value}}, meta_file)
    with pytest.raises(CheckpointError, match=rf"random\.pt: .*{message}"):
        load_backbone(str(meta_file))


def test_metas_four_sizes_are_known_and_other_ones_are_told_apart():
    wanted = {"t": (1, 5), "s": (1, 7), "b+": (2, 12), "l": (2, 23)}
    found = [(one.num_heads, one.global_att_blocks[0]) for one in KNOWN.values()]
    assert found == list(wanted.values())
    assert {alias for alias in ALIASES if alias.startswith("sam2")} == {
        f"{version}_{size}" for version in ("sam2", "sam2.1") for size in wanted
    }
    assert ALIASES["sam2.1_b+"] == "facebook/sam2.1-hiera-base-plus"


def test_a_named_model_that_is_not_here_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"'sam2\.1_t' is not on this machine.*facebook/sam2\.1-hiera-tiny"):
        load_backbone("sam2.1_t")


def test_a_folder_of_a_video_model_gives_the_image_model_in_it(
    folder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    image = random_sam2()
    own = image.config.to_dict()
    parts = {
        name: {key: value for key, value in own[name].items() if key != "model_type"}
        for name in ("prompt_encoder_config", "mask_decoder_config")
    }
    memory = dict.fromkeys(
        (
            "memory_attention_hidden_size",
            "memory_attention_feed_forward_hidden_size",
            "memory_encoder_hidden_size",
            "memory_encoder_output_channels",
            "mask_downsampler_embed_dim",
            "memory_fuser_embed_dim",
            "memory_fuser_intermediate_dim",
        ),
        32,
    )
    video = Sam2VideoModel(Sam2VideoConfig(vision_config=image.config.vision_config, **parts, **memory))
    assert not video.load_state_dict(image.state_dict(), strict=False).unexpected_keys
    video.save_pretrained(tmp_path / "video")
    capfd.readouterr()
    assert load_backbone(str(tmp_path / "video")).identity.sha256 == load_backbone(folder).identity.sha256
    assert "model of type" not in capfd.readouterr().err


def test_sam2_knows_its_authors_names():
    names = list(meta_state(random_sam2()))
    assert Sam2Family().is_own(iter(names))
    for part in ("image_encoder.trunk.", "sam_mask_decoder.", "sam_prompt_encoder."):
        assert not Sam2Family().is_own(name for name in names if not name.startswith(part))
    # EdgeTAM's trunk is a convolutional network under the same name.
    other = [name.replace("trunk.blocks.", "trunk.body.stages_0.") for name in names]
    assert not Sam2Family().is_own(other)
