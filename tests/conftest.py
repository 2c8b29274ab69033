"""Small random SAMs of the real architecture, and folders of pictures made on the spot."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import SamModel

    from sam_adapter.backbones import Backbone
    from sam_adapter.batch import Prompt
    from sam_adapter.segmenter import SamSegmenter

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SHARED = Path(os.environ.get("SAM_ADAPTER_SHARED", Path(__file__).parents[2] / "shared"))
GOLDEN = SHARED / "golden"
DATA = SHARED / "data"


def small_encoder(image_size: int, hidden_size: int, depth: int) -> dict[str, Any]:
    """Settings of the image encoder of a small random SAM or SAM-HQ."""
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": depth,
        "num_attention_heads": 4,
        "image_size": image_size,
        "output_channels": 32,
        "num_pos_feats": 16,
        "window_size": 3,
        "mlp_dim": 64,
    }


def random_sam(image_size: int = 64, *, hidden_size: int = 32, depth: int = 2, heads: int = 4, seed: int = 0):
    """A SAM of the real architecture with random weights of sensible size; its mask decoder has so many heads."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    torch.manual_seed(seed)
    config = SamConfig(
        vision_config=SamVisionConfig(**small_encoder(image_size, hidden_size, depth), global_attn_indexes=[depth - 1]),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=32, image_size=image_size),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=heads, iou_head_hidden_dim=32, layer_norm_eps=1e-5
        ),
    )
    sam = SamModel(config)
    with torch.no_grad():
        for parameter in sam.vision_encoder.parameters():
            parameter.normal_(std=0.1)
        for parameter in sam.mask_decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        sam.shared_image_embedding.positional_embedding.normal_(std=1.0)
    return sam


def random_sam2(image_size: int = 64, *, seed: int = 0):
    """A SAM 2 of the real architecture, four stages of Hiera, with random weights of sensible size."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    torch.manual_seed(seed)
    trunk = Sam2HieraDetConfig(
        hidden_size=8,
        blocks_per_stage=[1, 2, 2, 2],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        global_attention_blocks=[4],
        image_size=[image_size, image_size],
    )
    vision = Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[image_size // stride] * 2 for stride in (4, 8, 16)],
        fpn_hidden_size=32,
    )
    prompt = Sam2PromptEncoderConfig(hidden_size=32, image_size=image_size)
    decoder = Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=64, iou_head_hidden_dim=32)
    sam = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    with torch.no_grad():
        for parameter in [*sam.vision_encoder.parameters(), sam.no_memory_embedding]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for parameter in sam.mask_decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        table = sam.shared_image_embedding.positional_embedding
        sam.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
    return sam


def sam_of(model: "SamSegmenter | Backbone") -> "SamModel":
    """The library's SAM inside a backbone, or inside a segmenter's."""
    from sam_adapter.backbones.sam import SamBackbone
    from sam_adapter.segmenter import SamSegmenter

    backbone = model.backbone if isinstance(model, SamSegmenter) else model
    assert isinstance(backbone, SamBackbone)
    return backbone.sam


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sam")
    random_sam().save_pretrained(folder)
    return str(folder)


def random_sam_hq(image_size: int = 64, *, hidden_size: int = 32, depth: int = 3, seed: int = 0):
    """A SAM-HQ of the real architecture, see `random_sam`; its first block with global attention is the second."""
    from transformers import SamHQConfig, SamHQMaskDecoderConfig, SamHQPromptEncoderConfig, SamHQVisionConfig

    from sam_adapter.backbones.sam_hq_decoder import MendedSamHQModel

    torch.manual_seed(seed)
    config = SamHQConfig(
        vision_config=SamHQVisionConfig(
            **small_encoder(image_size, hidden_size, depth), global_attn_indexes=[1, depth - 1]
        ),
        prompt_encoder_config=SamHQPromptEncoderConfig(hidden_size=32, image_size=image_size),
        mask_decoder_config=SamHQMaskDecoderConfig(
            hidden_size=32, mlp_dim=64, iou_head_hidden_dim=32, layer_norm_eps=1e-5, vit_dim=hidden_size
        ),
    )
    hq = MendedSamHQModel(config)
    with torch.no_grad():
        for parameter in (*hq.vision_encoder.parameters(), *hq.mask_decoder.parameters()):
            parameter.normal_(std=0.1)
        hq.shared_image_embedding.positional_embedding.normal_(std=1.0)
    return hq


def random_sam3(image_size: int = 64, *, patch_size: int = 16, hidden_size: int = 32, depth: int = 3, seed: int = 0):
    """A SAM 3 of the real architecture with random weights of sensible size; its last block is global."""
    from transformers import (
        Sam3TrackerConfig,
        Sam3TrackerMaskDecoderConfig,
        Sam3TrackerModel,
        Sam3TrackerPromptEncoderConfig,
        Sam3VisionConfig,
        Sam3ViTConfig,
    )

    torch.manual_seed(seed)
    trunk = Sam3ViTConfig(
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=depth,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch_size,
        window_size=2,
        global_attn_indexes=[depth - 1],
        pretrain_image_size=2 * patch_size,
    )
    grid = image_size // patch_size
    vision = Sam3VisionConfig(
        backbone_config=trunk,
        fpn_hidden_size=32,
        backbone_feature_sizes=[[finer * grid] * 2 for finer in (4, 2, 1)],
    )
    prompt = Sam3TrackerPromptEncoderConfig(hidden_size=32, image_size=image_size, patch_size=patch_size)
    decoder = Sam3TrackerMaskDecoderConfig(hidden_size=32, mlp_dim=64, iou_head_hidden_dim=32)
    sam = Sam3TrackerModel(
        Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )
    with torch.no_grad():
        for parameter in [*sam.vision_encoder.parameters(), sam.no_memory_embedding]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for parameter in sam.mask_decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        table = sam.shared_image_embedding.positional_embedding
        sam.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
    return sam


RANDOM_MODELS = {"sam": random_sam, "sam_hq": random_sam_hq, "sam2": random_sam2, "sam3": random_sam3}
"""A small random model of every family in `sam_adapter.backbones.families.FAMILIES`."""


def sam_tokens(backbone: "Backbone", prompt: "Prompt") -> torch.Tensor:
    """What SAM's prompt encoder makes of a prompt; of none, nothing."""
    box, points, labels, _ = (None if one is None else one[None, None] for one in prompt.tensors)
    encoder: Any = backbone.part("prompt_encoder")
    if box is None and points is None:
        return torch.empty(0, backbone.prompt_width)
    return encoder(input_points=points, input_labels=labels, input_boxes=box, input_masks=None)[0][0, 0]


def sam2_tokens(backbone: "Backbone", prompt: "Prompt") -> torch.Tensor:
    """The same of SAM 2's, which makes two tokens of a padding point where there is no prompt."""
    from sam_adapter.batch import Prompt

    nothing = prompt.box is None and prompt.points is None
    padding = Prompt(points=torch.zeros(1, 2), point_labels=torch.tensor([-1]))
    return sam_tokens(backbone, padding if nothing else prompt)


PROMPT_TOKENS: "Mapping[str, Callable[[Backbone, Prompt], torch.Tensor]]" = {
    "sam": sam_tokens,
    "sam_hq": sam_tokens,
    "sam2": sam2_tokens,
    "sam3": sam2_tokens,
}
"""For every family the sparse tokens ``(n, D)`` that its own prompt encoder makes of a prompt without a mask."""


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of a small random model of each family."""
    folders = {family: str(tmp_path_factory.mktemp(family)) for family in RANDOM_MODELS}
    for family, folder in folders.items():
        RANDOM_MODELS[family]().save_pretrained(folder)
    return folders


def write_pairs(folder: Path, count: int = 6, *, seed: int = 0, size: tuple[int, int] = (48, 60)) -> Path:
    """Bright ellipses on noise; ``folder/images`` and ``folder/masks``."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    for index in range(count):
        height, width = size[0] + 4 * (index % 3), size[1] + 8 * (index % 2)
        rows, columns = np.mgrid[:height, :width]
        y, x = rng.uniform(0.35, 0.65, 2) * (height, width)
        mask = ((rows - y) / (0.25 * height)) ** 2 + ((columns - x) / (0.2 * width)) ** 2 < 1
        image = rng.integers(0, 120, (height, width, 3)) + mask[..., None] * 100
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"img_{index:02}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"img_{index:02}.png")
    return folder


def write_pages(folder: Path, pairs: Path) -> None:
    """The pairs of another folder, two in each TIFF file."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        pictures = [Image.open(path) for path in sorted((pairs / kind).iterdir())]
        for index in range(0, len(pictures), 2):
            first, second = pictures[index : index + 2]
            first.save(folder / kind / f"{index}.tif", save_all=True, append_images=[second])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> dict[str, Path]:
    """Adapters by name, see `evaluation_runs.three_adapters`."""
    from evaluation_runs import three_adapters

    return three_adapters(tmp_path_factory.mktemp("adapters"), sam_folder)


def needs_shared(path: Path):
    return pytest.mark.skipif(not path.exists(), reason=f"reference material {path.name} is not here")
