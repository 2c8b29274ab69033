"""Held-out scores of the tiny model: plain and camouflage scenes by kind of prompt, and crowds object by object."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam_adapter.demo.scenes import SceneKind, scene
from tiny_data import Scenes, empty_arrays, generate
from tiny_model import Learner
from tiny_prompts import boxes_of, choose, maps_of, object_masks, points_in

CHOOSE_SEED, REPORT_SEED = 1, 2
"""Of the scenes that choose the checkpoint, and of those whose scores are told; training draws from other seeds."""
SMALL = 16
"""An object whose longer side is shorter is small."""
MOST = 12
"""Objects asked for in each crowd."""


@dataclass(frozen=True)
class Asked:
    """Scenes with their questions."""

    images: Tensor
    """uint8, ``(B, H, W, 3)``."""
    masks: Tensor
    """What is asked for, bool, ``(B, N, H, W)``."""
    boxes: Tensor
    """Exact, ``(B, N, 4)``."""
    points: Tensor
    """``(B, N, 2)``."""
    counted: Tensor
    """Whether a question counts, ``(B, N)``: crowds have different numbers of objects."""
    foreground: Tensor
    """All objects, bool, ``(B, H, W)``."""


def _as_tensors(seed: int, images: Tensor, masks: Tensor, own: Tensor, counted: Tensor, foreground: Tensor) -> Asked:
    points = points_in(own.float(), torch.Generator().manual_seed(seed))
    return Asked(images, masks, boxes_of(masks), points, counted, foreground)


@cache
def held_out(kind: SceneKind, seed: int, count: int) -> Asked:
    """Scenes of one object each, that no training sees."""
    scenes = [scene(kind, seed, index) for index in range(count)]
    masks = torch.from_numpy(np.stack([one.mask for one in scenes]))[:, None]
    images = torch.from_numpy(np.stack([one.image for one in scenes]))
    return _as_tensors(seed, images, masks, masks, torch.ones(count, 1, dtype=torch.bool), masks[:, 0])


@cache
def held_out_crowds(seed: int, count: int) -> Asked:
    """Crowds that no training sees, each with up to twelve of its objects, of all sizes."""
    parts: list[Asked] = []
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        arrays = empty_arrays(1)
        generate(seed, 2 * index + 1, arrays)
        scenes = Scenes(*(torch.from_numpy(array) for array in arrays))
        maps = maps_of(scenes)
        asked = choose(scenes, maps, MOST, generator)
        # No object counts twice.
        earlier = (asked[:, :, None] == asked[:, None, :]).tril(-1).any(dim=2)
        own = maps.inner[:, None] == asked[:, :, None, None]
        masks = object_masks(maps, asked)
        parts.append(_as_tensors(seed + index, scenes.images, masks, own, ~earlier, maps.whole > 0))
    names = list(Asked.__dataclass_fields__)
    return Asked(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def held_out_scores(
    learner: Learner, seed: int = CHOOSE_SEED, *, plain: int = 200, camouflage: int = 100, crowds: int = 60
) -> dict[str, float]:
    """Mean IoU at full resolution.

    Args:
        learner: The model; its questions are asked too.
        seed: `CHOOSE_SEED` or `REPORT_SEED`.
        plain: Number of plain scenes, asked by box, point and no prompt.
        camouflage: Number of camouflage scenes, by box and no prompt.
        crowds: Number of crowds: their objects by box and point, small ones apart; the best of the three masks for
            a point and the one that is predicted to be best; all objects by the learned question and by no prompt.
    """
    learner.eval()
    scores = {f"plain_{name}": value for name, value in _one_object(learner, held_out("plain", seed, plain)).items()}
    hidden = _one_object(learner, held_out("camouflage", seed, camouflage))
    scores |= {"camouflage_box": hidden["box"], "camouflage_none": hidden["none"]}
    scores |= _crowd_scores(learner, held_out_crowds(seed, crowds))
    learner.train()
    return scores


def choosing(scores: dict[str, float]) -> float:
    """The score that the best checkpoint has most of."""
    return sum(scores[name] for name in ("plain_box", "plain_point", "plain_none", "objects_box", "objects_point")) / 5


def filling_the_box(asked: Asked) -> float:
    """Mean IoU of the boxes themselves."""
    height, width = asked.masks.shape[-2:]
    left, top, right, bottom = (side[..., None, None] for side in asked.boxes.unbind(-1))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    filled = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return _overlap(filled, asked.masks)[asked.counted].mean().item()


def _overlap(masks: Tensor, truth: Tensor) -> Tensor:
    both, either = (masks & truth).sum(dim=(-2, -1)), (masks | truth).sum(dim=(-2, -1))
    return both / either.clamp_min(1)


def _full(logits: Tensor, side: int) -> Tensor:
    """Logits ``(B, N, M, h, w)`` to masks ``(B, N, M, side, side)``."""
    return F.interpolate(logits.float().flatten(0, 1), (side, side), mode="bilinear").unflatten(0, logits.shape[:2]) > 0


def _one_object(learner: Learner, asked: Asked) -> dict[str, float]:
    answers = _answers(learner, asked)
    return {name: answers[name][..., 0].mean().item() for name in ("box", "point", "none")}


def _crowd_scores(learner: Learner, asked: Asked) -> dict[str, float]:
    answers = _answers(learner, asked)
    sides = (asked.boxes[..., 2:] - asked.boxes[..., :2]).amax(dim=-1)
    counted = asked.counted
    small = counted & (sides < SMALL)
    box, point = answers["box"][..., 0], answers["point"][..., 0]
    three = answers["point"][..., 1:]
    ranked = three.gather(-1, answers["quality"][..., 1:].argmax(dim=-1, keepdim=True))[..., 0]
    groups = {"objects": counted, "small": small, "large": counted & (sides >= SMALL)}
    scores = {}
    for name, group in groups.items():
        scores |= {f"{name}_box": box[group].mean().item(), f"{name}_point": point[group].mean().item()}
    scores["best_of_three"] = three.amax(dim=-1)[counted].mean().item()
    scores["ranked_of_three"] = ranked[counted].mean().item()
    scores["foreground"] = answers["question"].mean().item()
    scores["crowd_none"] = answers["everything"].mean().item()
    return scores


@torch.no_grad()
def _answers(learner: Learner, asked: Asked, chunk: int = 20) -> dict[str, Tensor]:
    """IoU of all four masks by box and by point, ``(B, N, 4)``, and of the answers about the whole picture."""
    device = learner.questions.device
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(asked.images), chunk):
        part = slice(start, start + chunk)
        truth, foreground = asked.masks[part].to(device), asked.foreground[part].to(device)
        side = truth.shape[-1]
        signs = torch.ones(*truth.shape[:2], 1, dtype=torch.long, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            features = learner.encode(asked.images[part].to(device))
            places = asked.points[part].to(device)[:, :, None]
            by_box = learner.decode(features, learner.box_tokens(asked.boxes[part].to(device)))
            by_point = learner.decode(features, learner.point_tokens(places, signs))
            question = learner.decode(features, learner.question_tokens(len(truth))[:, :1])[0]
            unprompted = learner.decode(features, learner.no_tokens(len(truth)))[0]
        singles = {name: _full(logits[:, :, :1], side)[:, 0] for name, logits in (("q", question), ("n", unprompted))}
        chunk_answers = {
            "box": _overlap(_full(by_box[0], side), truth[:, :, None]),
            "point": _overlap(_full(by_point[0], side), truth[:, :, None]),
            "quality": by_point[1].float(),
            "question": _overlap(singles["q"][:, 0], foreground),
            "none": _overlap(singles["n"], truth[:, 0, None]),
            "everything": _overlap(singles["n"][:, 0], foreground),
        }
        for name, value in chunk_answers.items():
            found.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in found.items()}
