"""One training step of the tiny model: what is asked about a batch of scenes, and the loss of the answers."""

import torch
from torch import Tensor

from tiny_data import Scenes
from tiny_losses import answer_loss, pooled
from tiny_model import Features, Learner
from tiny_prompts import (
    boxes_of,
    choose,
    correction,
    everything,
    maps_of,
    object_masks,
    point_sets,
    points_in,
    wider_masks,
)

SIDE = 128
"""Masks are compared in this size: twice the decoder's own, so that small objects count."""
BOXES = POINTS = 4
"""Objects of each image that are asked for by their box, and by one point."""
WEIGHTS = {
    "box": 0.35,
    "point": 0.35,
    "several": 0.25,
    "set": 0.1,
    "none": 0.2,
    "questions": 0.25,
    "corrected": 0.2,
    "quality": 1.0,
    "helper": 0.7,
}
"""Of the parts of the loss."""


def training_loss(learner: Learner, scenes: Scenes, *, correct: bool) -> Tensor:
    """Loss over boxes, points, a set of points, no prompt and questions about the whole picture.

    Args:
        learner: What learns.
        scenes: A batch.
        correct: Whether some objects are asked for again, with the first answer and a point in its error.
    """
    maps = maps_of(scenes)
    asked = choose(scenes, maps, BOXES + POINTS)  # boxes first
    asked[:, BOXES].masked_fill_(scenes.crowded == 0, 1)
    masks = object_masks(maps, asked)
    boxes = boxes_of(masks[:, :BOXES], jitter=0.05)
    own = (maps.inner[:, None] == asked[:, BOXES:, None, None]).float()
    points = points_in(own)[:, :, None]  # (B, POINTS, 1, 2)
    signs = torch.ones_like(points[..., 0], dtype=torch.long)
    set_places, set_signs = point_sets(maps, asked[:, -1:], masks[:, -1:], 3)

    with torch.autocast(masks.device.type, torch.bfloat16):
        features = learner.encode(scenes.images)
        first = _decoded(learner, features, learner.box_tokens(boxes), learner.point_tokens(points, signs))
        second = _decoded(
            learner, features, learner.point_tokens(set_places, set_signs), learner.question_tokens(len(masks))
        )
        unprompted = learner.decode(features, learner.no_tokens(len(masks)))

    targets = pooled(masks, SIDE)
    wider, valid = wider_masks(scenes, maps, asked[:, BOXES:])
    picture = everything(maps, SIDE)
    # No prompt asks for the largest object of a plain scene, and for all objects of a crowd.
    target = pooled(maps.inner == 1, SIDE)
    target = torch.where(scenes.crowded[:, None, None] > 0, picture[:, 0], target)

    by_box = answer_loss(*_rows(first, slice(0, BOXES)), targets[:, :BOXES].flatten(0, 1))
    by_point = answer_loss(
        *_rows(first, slice(BOXES, None)),
        targets[:, BOXES:].flatten(0, 1),
        pooled(wider, SIDE).flatten(0, 1),
        valid.flatten(0, 1),
    )
    by_set = answer_loss(*_rows(second, slice(0, 1)), targets[:, -1])
    questions = answer_loss(*_rows(second, slice(1, None)), picture.flatten(0, 1))
    none = answer_loss(*_rows(unprompted, slice(None)), target)
    total = (
        WEIGHTS["box"] * by_box.single
        + WEIGHTS["point"] * by_point.single
        + WEIGHTS["several"] * (by_point.several + 0.3 * by_box.several)
        + WEIGHTS["set"] * (by_set.single + 0.3 * by_set.several)
        + WEIGHTS["none"] * (none.single + 0.1 * none.several)
        + WEIGHTS["questions"] * questions.single
        + WEIGHTS["quality"] * (by_box.quality + by_point.quality + 0.5 * (by_set.quality + none.quality))
        + WEIGHTS["helper"] * learner.helper.loss(features.coarse.float(), scenes.labels)
    )
    if correct:
        total = total + WEIGHTS["corrected"] * _corrected(
            learner, features, first[0], masks, targets, boxes, (points, signs)
        )
    return total


def _decoded(learner: Learner, features: Features, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Answers to two kinds of prompts, one after the other; in one call where both have as many tokens."""
    if one.shape[2] == other.shape[2]:
        return learner.decode(features, torch.cat([one, other], dim=1))
    logits, scores = zip(learner.decode(features, one), learner.decode(features, other), strict=True)
    return torch.cat(logits, dim=1), torch.cat(scores, dim=1)


def _rows(answers: tuple[Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor]:
    """Some prompts of each image, image by image."""
    logits, scores = answers
    return logits[:, part].flatten(0, 1), scores[:, part].flatten(0, 1)


def _corrected(
    learner: Learner,
    features: Features,
    logits: Tensor,
    masks: Tensor,
    targets: Tensor,
    boxes: Tensor,
    points: tuple[Tensor, Tensor],
) -> Tensor:
    """Ask again for the last box and the last point of each image, with the single mask and a point in its error."""
    count = len(masks)
    again = [BOXES - 1, BOXES + POINTS - 1]
    earlier = torch.cat([logits[:, place, 0] for place in again]).detach().float()  # (2B, h, w)
    truth = torch.cat([masks[:, place] for place in again])
    places, signs = correction(earlier, truth)
    places, signs = places[:, None, None], signs[:, None, None]  # (2B, 1, 1, 2), (2B, 1, 1)
    place, sign = points[0][:, -1:], points[1][:, -1:]
    with torch.autocast(masks.device.type, torch.bfloat16):
        boxed = torch.cat(
            [learner.point_tokens(places[:count], signs[:count], alone=False), learner.box_tokens(boxes[:, -1:])], dim=2
        )
        pointed = learner.point_tokens(
            torch.cat([place, places[count:]], dim=2), torch.cat([sign, signs[count:]], dim=2)
        )
        both = (
            learner.decode(features, tokens, part[:, None])
            for tokens, part in zip((boxed, pointed), earlier.split(count), strict=True)
        )
        logits, scores = (torch.cat(parts) for parts in zip(*both, strict=True))
    loss = answer_loss(logits[:, 0], scores[:, 0], torch.cat([targets[:, place] for place in again]))
    return loss.single + 0.3 * loss.several + loss.quality
