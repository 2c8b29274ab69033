"""What tests/golden holds numbers of: small models with adapters, pictures and prompts, the same on every machine.

Every weight follows from its name through NumPy's legacy generator, whose uniform numbers are the same in every
version and on every processor; so no weights are stored. ``tools/make_golden.py`` writes the files.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conftest import random_sam2, random_sam3, random_sam_hq
from sam_adapter.batch import Annotation, Batch, Prompt, Query, Sample
from sam_adapter.config.training import TrainConfig
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.tasks.prompts import box_from_mask
from sam_adapter.training.losses.base import WeightedLosses

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
    family: str = "sam"


CASES = (
    Case("wide_pad", {"embedding_read": "once"}),
    Case("paper_squash", {"preset": "paper", "resize": "squash"}),
    Case("wide_squash_larger", {"resize": "squash", "image_size": 64, "embedding_read": "once"}),
    Case("paper_pad_larger", {"preset": "paper", "image_size": 64}),
    Case("hiera_wide", {}, "sam2"),
    Case("hiera_paper_larger", {"preset": "paper", "image_size": 96}, "sam2"),
    Case("sam_hq_wide", {"embedding_read": "once"}, "sam_hq"),
    Case("sam3_once", {"embedding_read": "once"}, "sam3"),
    Case("sam3_every_block_larger", {"image_size": 96}, "sam3"),
)


def mean_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of losses, averaged over masks ``(..., H, W)`` of any sizes, and each loss without its weight."""
    losses = WeightedLosses(weights)
    terms = {
        name: torch.cat([loss(one, target).flatten() for one, target in zip(logits, targets, strict=True)]).mean()
        for name, loss in losses.losses.items()
    }
    return losses.weighted(terms), terms


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
@torch.no_grad()
def base(family: str = "sam") -> str:
    """Folder of the base model of a family."""
    model = MODELS[family]()
    fill(model, family)
    if family in ("sam_hq", "sam3"):  # so that the small term in a variance, which keeps it from zero, matters
        for name, parameter in model.vision_encoder.named_parameters():
            if "embed" in name:
                parameter.mul_(FAINT)
    if family in ("sam2", "sam3"):  # where the position encoding is no parameter
        table = 2 * uniform(f"{family}.positional_embedding", (2, 16))
        for place in (model.shared_image_embedding, model.prompt_encoder.shared_embedding):
            place.positional_embedding.copy_(table)
    _folders.append(TemporaryDirectory(prefix="golden-"))
    model.save_pretrained(_folders[-1].name)
    return _folders[-1].name


def small_sam() -> Any:
    """48 pixels in patches of 8, two blocks, one with windows of 4 and one without."""
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
    return SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))


MODELS = {"sam": small_sam, "sam_hq": random_sam_hq, "sam2": random_sam2, "sam3": random_sam3}
FAINT = 0.03
"""Factor on the patch and position embeddings of some families."""
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
    box = torch.from_numpy(box_from_mask(picture(index)[1]))
    points = torch.tensor([[0.55 * width, 0.45 * height], [2.0, 3.0 + index]])
    side = segmenter.backbone.mask_input_size
    return [
        Prompt(box=box),
        Prompt(points=points, point_labels=torch.tensor([1, 0])),
        Prompt(),
        Prompt(box=box, mask_input=4 * uniform(f"mask {index}", (1, side, side))),
    ]


def segmenter(case: Case) -> SamSegmenter:
    """The model of a case."""
    config = TrainConfig(images=Path("i"), masks=Path("m"), output=Path("o"), model=base(case.family), **case.options)
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
                annotation=Annotation.of(torch.from_numpy(mask.astype(np.uint8))),
                queries=[Query(prompt=prompt) for prompt in questions(index, made)],
                original_size=size,
            )
        )
    return Batch.collate(samples)


def outcome(case: Case, attention: str = "plain") -> dict[str, Tensor]:
    """All numbers of a case, in float32, by a form of attention."""
    made = segmenter(case)
    made.backbone.attention = attention
    asked = batch(made)
    sizes, preprocessing = asked.for_queries(asked.original_sizes), made.preprocessing
    assert asked.pixel_values is not None
    found = {"pixel_values": asked.pixel_values[:, :, ::5, ::3]}
    with torch.no_grad():
        encoded = made.encode(asked.pixel_values)
        found["embeddings"] = encoded["image_embeddings"]
        output = made(asked)
        found["low_res_logits"] = output.mask_logits  # (8, 1, h, w)
        found["iou_scores"] = output.iou_scores
        boxes = replace(
            asked, encoded=encoded, queries=[asked.queries[0], asked.queries[4]], image_index=[0, 1], weight=[1.0, 1.0]
        )
        found["multimask_logits"] = made(boxes, multimask=True).mask_logits[..., ::2, ::2]
        for index, (logits, size) in enumerate(zip(output.mask_logits, sizes, strict=True)):
            found[f"logits.{index}"] = preprocessing.to_original_size(logits, size)[..., ::7, ::5]
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-3)
    assert made.adapter is not None
    losses, weighted = [], WeightedLosses(LOSS)
    made.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        logits = made(asked).mask_logits[:, 0]
        (sums,) = sum_over_pixels(logits, asked, preprocessing, [weighted])
        terms = {name: values.mean() for name, values in weighted.terms(sums).items()}
        loss = weighted.weighted(terms)
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
