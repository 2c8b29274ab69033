"""Small SAMs with LoRA, for several files of tests."""

from typing import Any

import torch
from torch import Tensor

from sam_adapter.batch import Prompt
from sam_adapter.methods.lora.module import LoraAdapter
from sam_adapter.segmenter import SamSegmenter
from test_model import BOX, POINTS, config, example_batch

BATCH = example_batch([BOX, POINTS, Prompt()])
assert BATCH.pixel_values is not None
PIXELS: Tensor = BATCH.pixel_values
VARIANTS = [
    {},
    {"dora": True},
    {"lora_targets": "all_linear", "lora_alpha": 6.0, "rslora": True},
    {"lora_targets": "all_linear", "dora": True},
]


def lora(folder: str, **options: Any) -> SamSegmenter:
    torch.manual_seed(0)
    return SamSegmenter.from_config(config(folder, method="lora", **options))


def adapter_of(segmenter: SamSegmenter) -> LoraAdapter:
    assert isinstance(segmenter.adapter, LoraAdapter)
    return segmenter.adapter


def layers_of(segmenter: SamSegmenter) -> list[Any]:
    """The adapted layers, of `peft`."""
    encoder = segmenter.backbone.part("image_encoder")
    return [encoder.get_submodule(target) for target in adapter_of(segmenter).targets]


def keys_of(rows: Tensor) -> Tensor:
    """The rows of keys among those of queries, keys and values."""
    return rows.chunk(3)[1]


def with_keys(rows: Tensor, value: float) -> Tensor:
    query, key, values = rows.chunk(3)
    return torch.cat([query, torch.full_like(key, value), values])


def spread(segmenter: SamSegmenter) -> SamSegmenter:
    """With random matrices, so that B is not zero; rows of keys are left as they are."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, one in adapter_of(segmenter).named_parameters():
            if name.endswith("weight") and one.ndim == 2:
                rows = torch.randn(one.shape, generator=generator) * 0.1
                held = "lora_B" in name and segmenter.method.adapter.targets == "attention"
                one.copy_(with_keys(rows, 0) if held else rows)
            else:
                one.mul_(1 + 0.1 * torch.rand(one.shape, generator=generator))
    return segmenter
