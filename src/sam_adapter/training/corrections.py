"""Prompts that correct an answer: a point in its error, and its mask, as SAM was trained (Kirillov et al., 2023)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..batch import Batch, Prompt, Query
from ..preprocessing import Preprocessing
from ..tasks.pixels import bands


def prompted(batch: Batch) -> list[int]:
    """Positions of the queries that a user's prompt asks; without one there is nothing to correct."""
    return [at for at, query in enumerate(batch.queries) if query.prompt.kind != "none"]


def chosen(batch: Batch, members: Sequence[int]) -> Batch:
    """Some of the queries of a batch, about the same images."""
    return replace(
        batch,
        queries=[batch.queries[at] for at in members],
        image_index=[batch.image_index[at] for at in members],
        weight=[batch.weight[at] for at in members],
    )


def corrected(
    batch: Batch, mask_logits: Tensor, preprocessing: Preprocessing, *, mask_side: int, seed: Sequence[int]
) -> Batch:
    """The same queries again, each with one more point and with its former answer.

    Args:
        batch: With annotations; each query has a prompt.
        mask_logits: ``(Q, h, w)``, the former answers.
        preprocessing: How logits come to original size.
        mask_side: Side of the masks that the model takes.
        seed: Points follow from it and the image's index, whatever else is in the batch.
    """
    logits = mask_logits.detach().float()
    points = error_points(batch, logits, preprocessing, seed=seed)
    masks = logits[:, None]  # (Q, 1, h, w)
    if masks.shape[-1] != mask_side:
        masks = functional.interpolate(masks, (mask_side, mask_side), mode="bilinear", align_corners=False)
    queries = [_again(*one) for one in zip(batch.queries, masks, points, strict=True)]
    return replace(batch, queries=queries)


def _again(query: Query, mask: Tensor, point: Tensor | None) -> Query:
    """A query with its former answer ``(1, h, w)`` and a point ``(3,)``, X, Y and label."""
    prompt: Prompt = replace(query.prompt.boxed(), mask_input=mask)
    if point is None:
        return replace(query, prompt=prompt)
    place, label = point[None, :2], point[2:].long()
    if prompt.points is not None and prompt.point_labels is not None:
        place = torch.cat([prompt.points, place.to(prompt.points)])
        label = torch.cat([prompt.point_labels, label.to(prompt.point_labels)])
    return replace(query, prompt=replace(prompt, points=place, point_labels=label))


def error_points(
    batch: Batch, mask_logits: Tensor, preprocessing: Preprocessing, *, seed: Sequence[int]
) -> list[Tensor | None]:
    """A pixel at random of each answer's error, or of what was asked for if there is no error.

    The pixel is the one with the largest of some random numbers that the image has whatever the answers are: a pixel
    of the error more or less, as rounding makes it, then hardly ever changes which one it is.

    Args:
        batch: With annotations.
        mask_logits: ``(Q, h, w)``.
        preprocessing: How logits come to original size.
        seed: Of the random numbers, with the image's index.

    Returns:
        For each query ``(3,)`` float32: X and Y in pixels of the image, and 1 where the object was missed, 0 where
        background was marked. None if all of it is void or right background.
    """
    found: list[Tensor | None] = [None] * len(batch.queries)
    for image in sorted(set(batch.image_index)):
        about, annotation = batch.queries_about(image), batch.annotations[image]
        assert annotation is not None
        number = np.random.SeedSequence([*seed, batch.indices[image]]).generate_state(1)
        random = torch.Generator(mask_logits.device).manual_seed(int(number[0]))
        best = mask_logits.new_full((len(about), 4), -1)  # value, X, Y, label
        for rows in bands(batch.original_sizes[image], answers=len(about)):
            which = rows or slice(None)
            full = preprocessing.to_original_size(mask_logits[about], batch.original_sizes[image], rows)
            target = torch.stack([annotation.target(batch.queries[at].label, which) for at in about])
            error = (full > 0) != target
            value = torch.rand(full.shape[1:], generator=random, device=full.device) + error
            void = ~(error | target) if (counted := annotation.counted(which)) is None else ~(error | target) | ~counted
            top, pixel = value.masked_fill(void, -1).flatten(1).max(1)
            y, x = pixel // full.shape[2], pixel % full.shape[2]
            label = target.flatten(1).gather(1, pixel[:, None])[:, 0]
            here = torch.stack([top, x.float(), (y + (which.start or 0)).float(), label.float()], 1)
            best = torch.where((top > best[:, 0])[:, None], here, best)
        values = best[:, 0].tolist()
        for at, value, point in zip(about, values, best[:, 1:], strict=True):
            found[at] = point if value >= 0 else None
    return found
