"""A folder whose config.json contradicts itself is refused as it is loaded, by the name of the file and the field."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sam_adapter.backbones import load_backbone
from sam_adapter.errors import CheckpointError

VISION, TRUNK = "vision_config", "vision_config.backbone_config"
PROMPTS, DECODER = "prompt_encoder_config", "mask_decoder_config"
SAM = (
    (f"{VISION}.num_attention_heads", 5, f"'{VISION}.hidden_size' is 32, expected a multiple of"),
    (f"{VISION}.global_attn_indexes", [7], "expected numbers of blocks from 0 to"),
    (f"{VISION}.global_attn_indexes", [-1], "expected numbers of blocks from 0 to"),
    (f"{VISION}.image_size", 70, f"is 70, expected a multiple of '{VISION}.patch_size', which is 16"),
    (f"{VISION}.patch_size", 0, "which is 0"),
    (f"{VISION}.window_size", -2, "is -2, expected 0 or more"),
    (f"{VISION}.output_channels", 48, f"'{PROMPTS}.hidden_size' is 32, expected 48"),
    (f"{PROMPTS}.image_size", 128, "is 128, expected 64"),
    (f"{PROMPTS}.image_embedding_size", 9, "is 9, expected 4"),
)
HIERA = (
    (f"{TRUNK}.num_attention_heads_per_stage", [3, 2, 4, 8], r"expected to divide \[8, 16, 32, 64\]"),
    (f"{TRUNK}.num_attention_heads_per_stage", [1, 2], "expected 4 positive numbers"),
    (f"{TRUNK}.global_attention_blocks", [40], "expected numbers of blocks from 0 to 6"),
    (f"{TRUNK}.window_size_per_stage", [8, 4, 0, 0], "expected 4 positive numbers"),
    (f"{TRUNK}.blocks_per_stage", [1, 2, 2], f"'{TRUNK}.embed_dim_per_stage' .* expected 3 positive numbers"),
    (f"{VISION}.backbone_channel_list", [64, 32, 16, 9], r"expected \[64, 32, 16, 8\]"),
    (f"{VISION}.num_feature_levels", 2, "is 2, expected 3"),
    (f"{PROMPTS}.image_size", 70, "is 70, expected a multiple of 32"),
    (f"{PROMPTS}.patch_size", 8, "is 8, expected 16"),
)
VIT = (
    (f"{TRUNK}.num_attention_heads", 5, f"'{TRUNK}.hidden_size' is 32, expected a multiple of"),
    (f"{TRUNK}.global_attn_indexes", [44], "expected numbers of blocks from 0 to 2"),
    (f"{TRUNK}.window_size", -1, "is -1, expected 0 or more"),
    (f"{TRUNK}.image_size", 70, f"is 70, expected a multiple of '{TRUNK}.patch_size', which is 16"),
    (f"{PROMPTS}.image_size", 128, "is 128, expected 64"),
    (f"{PROMPTS}.patch_size", 8, "is 8, expected 16"),
    (f"{VISION}.scale_factors", [4.0, 2.0], r"is \[4.0, 2.0\], expected"),
)
DECODERS = (
    (f"{PROMPTS}.hidden_size", 48, "is 48, expected 32"),
    (f"{DECODER}.hidden_size", 64, "is 64, expected 32"),
    (f"{DECODER}.num_attention_heads", 7, "is 7, expected to divide 16"),
    (f"{DECODER}.attention_downsample_rate", 3, "is 3, expected to divide 32"),
)
HQ = (
    (f"{DECODER}.vit_dim", 48, f"is 48, expected 32 as '{VISION}.hidden_size' is"),
    (f"{VISION}.global_attn_indexes", [], "expected at least one block"),
)
CHANGES = [
    (family, *change)
    for family, changes in {"sam": SAM, "sam_hq": (*SAM, *HQ), "sam2": HIERA, "sam3": VIT}.items()
    for change in (*changes, *DECODERS)
]


def changed(folder: str, field: str, value: Any, place: Path) -> str:
    """A copy of a model's folder with another value of a field."""
    shutil.copytree(folder, place)
    settings = json.loads((place / "config.json").read_text())
    *parts, last = field.split(".")
    within = settings
    for part in parts:
        within = within[part]
    within[last] = value
    (place / "config.json").write_text(json.dumps(settings))
    return str(place)


@pytest.mark.parametrize(("family", "field", "value", "told"), CHANGES)
def test_a_contradiction_is_named(
    family_folders: dict[str, str], family: str, field: str, value: Any, told: str, tmp_path: Path
):
    with pytest.raises(CheckpointError, match=rf"config\.json: \d fields? contradicts? others: .*{told}") as error:
        load_backbone(changed(family_folders[family], field, value, tmp_path / "model"))
    assert field.rpartition(".")[2] in str(error.value)


def test_shapes_that_the_tensors_do_not_have_are_named(
    family_folders: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder = changed(family_folders["sam"], f"{DECODER}.iou_head_hidden_dim", 40, tmp_path / "model")
    with pytest.raises(CheckpointError) as error:
        load_backbone(folder)
    assert "mask_decoder.iou_prediction_head.proj_in.bias has shape (32,), config.json asks for (40,)" in str(
        error.value
    )
    assert "MISMATCH" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("family", "fields", "told"),
    [
        (
            "sam",
            {f"{VISION}.num_hidden_layers": 1, f"{VISION}.global_attn_indexes": [0]},
            "vision_encoder.layers.1.attn.proj.bias",
        ),
        ("sam2", {f"{TRUNK}.blocks_per_stage": [1, 2, 2, 1]}, "vision_encoder.backbone.blocks.6.attn.proj.bias"),
        (
            "sam3",
            {f"{TRUNK}.num_hidden_layers": 1, f"{TRUNK}.global_attn_indexes": [0]},
            "vision_encoder.backbone.layers.1.attention.k_proj.bias",
        ),
    ],
)
def test_blocks_that_the_configuration_has_not_are_not_dropped(
    family_folders: dict[str, str], family: str, fields: dict[str, Any], told: str, tmp_path: Path
):
    folder = family_folders[family]
    for field, value in fields.items():
        folder = changed(folder, field, value, tmp_path / field)
    with pytest.raises(
        CheckpointError, match=rf"tensors that do not fit: .*{told} is of a block that config.json has not"
    ):
        load_backbone(folder)
