"""What tests/golden holds numbers of: a small SAM with adapters, pictures and prompts, the same on every machine.

Every weight follows from its name through NumPy's legacy generator, whose uniform numbers are the same in every
version and on every processor; so no weights are stored. ``tools/make_golden.py`` writes the files.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_adapter.batch import Batch, Prompt, Sample
from sam_adapter.config.commands import TrainConfig
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tasks.prompts import box_from_mask
from sam_adapter.training.losses import image_losses, weighted_sum

FOLDER = Path(__file__).parent / "golden"
SIZES = ((40, 56), (48, 36))
"""Height and width of the two pictures."""
STEPS = 3
LOSS = {"bce": 1.0, "balanced_bce": 0.5, "iou": 1.0, "dice": 0.5}


@dataclass(frozen=True)
class Case:
    """One model."""

    name: str
    options: Mapping[str, Any]


CASES = (
    Case("wide_pad", {}),
    Case("paper_squash", {"preset": "paper", "resize": "squash"}),
    Case("wide_squash_larger", {"resize": "squash", "image_size": 64}),
    Case("paper_pad_larger", {"preset": "paper", "image_size": 64}),
)


def mean_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of losses, averaged over the images, and each loss without its weight."""
    terms = {name: values.mean() for name, values in image_losses(logits, targets, weights).items()}
    return weighted_sum(terms, weights), terms


def uniform(name: str, shape: tuple[int, ...]) -> Tensor:
    """Float32 numbers from -1 to 1 that depend on a name alone."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy((random.random_sample(shape) * 2 - 1).astype(np.float32))


@torch.no_grad()
def fill(module: torch.nn.Module, prefix: str) -> None:
    """Give a module's parameters their values, of a size that lets every part matter."""
    for name, parameter in module.named_parameters():
        values = uniform(f"{prefix}.{name}", tuple(parameter.shape))
        if "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.3 * values)
        elif "positional_embedding" in name:
            parameter.copy_(2 * values)
        elif parameter.ndim == 1 or "pos" in name or "embed.weight" in name:
            parameter.copy_(0.3 * values)
        else:
            parameter.copy_(values * (3 / parameter[0].numel()) ** 0.5)  # standard deviation 1 / sqrt(fan-in)


@cache
def base() -> str:
    """Folder of the base model: 48 pixels in patches of 8, two blocks, one with windows of 4 and one without."""
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=48,
        patch_size=8,
        output_channels=32,
        num_pos_feats=16,
        window_size=4,
        global_attn_indexes=[1],
        mlp_dim=96,
    )
    prompt = SamPromptEncoderConfig(hidden_size=32, image_size=48, patch_size=8)
    decoder = SamMaskDecoderConfig(
        hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32, layer_norm_eps=1e-5
    )
    sam = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    fill(sam, "sam")
    _folders.append(TemporaryDirectory(prefix="golden-"))
    sam.save_pretrained(_folders[-1].name)
    return _folders[-1].name


_folders: list[TemporaryDirectory] = []
"""Removed when Python ends."""


def picture(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture ``(H, W, 3)`` uint8 and its mask ``(H, W)`` bool."""
    height, width = SIZES[index]
    rows, columns = np.mgrid[:height, :width]
    mask = ((rows - 0.45 * height) / (0.3 * height)) ** 2 + ((columns - 0.55 * width) / (0.25 * width)) ** 2 < 1
    noise = (uniform(f"picture {index}", (height, width, 3)).numpy() + 1) * 60
    return (noise + 90 * mask[..., None] + rows[..., None]).astype(np.uint8), mask


def questions(index: int, segmenter: SamSegmenter) -> list[Prompt]:
    """A box, points, nothing and a mask, all asked about one picture."""
    height, width = SIZES[index]
    box = torch.from_numpy(box_from_mask(picture(index)[1]))[None]
    points = torch.tensor([[[0.55 * width, 0.45 * height], [2.0, 3.0 + index]]])
    side = 4 * segmenter.backbone.image_size // segmenter.backbone.patch_size
    return [
        Prompt(boxes=box),
        Prompt(points=points, point_labels=torch.tensor([[1, 0]])),
        Prompt(),
        Prompt(boxes=box, mask_inputs=4 * uniform(f"mask {index}", (1, 1, side, side))),
    ]


def segmenter(case: Case) -> SamSegmenter:
    """The model of a case."""
    config = TrainConfig(images=Path("i"), masks=Path("m"), output=Path("o"), model=base(), **case.options)
    made = SamSegmenter.from_config(config)
    assert made.adapter is not None
    fill(made.adapter, "adapter")
    return made


def batch(made: SamSegmenter) -> Batch:
    """Both pictures, with four prompts each."""
    samples = []
    for index, size in enumerate(SIZES):
        image, mask = picture(index)
        samples.append(
            Sample(
                index=index,
                name=str(index),
                pixel_values=made.preprocessing.pixel_values(image),
                target=torch.from_numpy(mask)[None],
                prompts=questions(index, made),
                original_size=size,
            )
        )
    return Batch.collate(samples)


def outcome(case: Case, attention: str = "plain") -> dict[str, Tensor]:
    """All numbers of a case, in float32, by a form of attention."""
    made = segmenter(case)
    made.backbone.attention = attention
    asked = batch(made)
    sizes, targets = asked.for_prompts(asked.original_sizes), asked.for_prompts(asked.targets)
    assert asked.pixel_values is not None
    found = {"pixel_values": asked.pixel_values[:, :, ::5, ::3]}
    with torch.no_grad():
        found["embeddings"] = made.encode(asked.pixel_values)
        output = made(asked)
        found["low_res_logits"] = torch.stack(output.mask_logits)  # (8, 1, h, w)
        found["iou_scores"] = torch.stack(output.iou_scores)
        several = made.decode(found["embeddings"], [asked.prompts[0], asked.prompts[4]], list(SIZES), multimask=True)
        found["multimask_logits"] = torch.stack(several.mask_logits)[..., ::2, ::2]
        for index, logits in enumerate(made.full_logits(output, sizes)):
            found[f"logits.{index}"] = logits[..., ::7, ::5]
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-3)
    assert made.adapter is not None
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss, terms = mean_loss(made.full_logits(made(asked), sizes), targets, LOSS)
        loss.backward()
        losses.append(torch.stack([loss, *terms.values()]).detach())
        if step == 0:
            for name, parameter in made.adapter.named_parameters():
                assert parameter.grad is not None
                found[f"gradient.{name}"] = sampled(parameter.grad)
        optimizer.step()
    found["losses"] = torch.stack(losses)  # (steps, 1 + terms)
    return {name: tensor.float().contiguous().clone() for name, tensor in found.items()}


def sampled(gradient: Tensor) -> Tensor:
    """The norm of a gradient and 60 of its values."""
    flat = gradient.flatten()
    return torch.cat([flat.norm()[None], flat[torch.linspace(0, len(flat) - 1, 60).long()]])
