"""Held-out scores of the tiny model by kind of prompt."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import SamModel

from sam_adapter.demo.scenes import SceneKind, scene
from tiny_data import PromptedBatch, prompted
from tiny_model import normalised

HELD_OUT_SEED = 1
"""Training draws from other seeds."""


@cache
def held_out(kind: SceneKind, count: int) -> PromptedBatch:
    """Scenes that no training sees, each with its exact box and one point."""
    scenes = [scene(kind, HELD_OUT_SEED, index) for index in range(count)]
    return prompted(
        np.random.default_rng(HELD_OUT_SEED),
        np.stack([one.image for one in scenes]),
        np.stack([one.mask.astype(np.uint8) for one in scenes]),
        boxes=1,
        point_sets=1,
        points=1,
        jitter=0,
    )


def held_out_scores(model: SamModel, plain: int = 200, camouflage: int = 100) -> dict[str, float]:
    """Mean IoU at full resolution: plain scenes by box, point and no prompt, camouflage by box and none."""
    model.eval()
    scores = {f"plain_{prompt}": value for prompt, value in _by_prompt(model, held_out("plain", plain)).items()}
    hidden = _by_prompt(model, held_out("camouflage", camouflage))
    scores |= {"camouflage_box": hidden["box"], "camouflage_none": hidden["none"]}
    model.train()
    return scores


@torch.no_grad()
def _by_prompt(model: SamModel, batch: PromptedBatch, chunk: int = 25) -> dict[str, float]:
    device = next(model.parameters()).device
    overlaps: dict[str, list[Tensor]] = {"box": [], "point": [], "none": []}
    for start in range(0, len(batch.images), chunk):
        part = slice(start, start + chunk)
        prompts = {
            "box": {"input_boxes": batch.boxes[part].to(device)},
            "point": {
                "input_points": batch.points[part].to(device),
                "input_labels": batch.point_signs[part].to(device),
            },
            "none": {},
        }
        truth = batch.labels[part].to(device) > 0
        with torch.autocast(device.type, torch.bfloat16):
            embeddings = model.vision_encoder(normalised(batch.images[part].to(device))).last_hidden_state
        for name, prompt in prompts.items():
            with torch.autocast(device.type, torch.bfloat16):
                answer = model(image_embeddings=embeddings, multimask_output=False, **prompt)
            logits = answer.pred_masks.float()[:, 0]  # (B, 1, h, w)
            masks = F.interpolate(logits, truth.shape[-2:], mode="bilinear")[:, 0] > 0
            both, either = (masks & truth).sum(dim=(1, 2)), (masks | truth).sum(dim=(1, 2))
            overlaps[name].append(both / either.clamp_min(1))
    return {name: torch.cat(values).mean().item() for name, values in overlaps.items()}
