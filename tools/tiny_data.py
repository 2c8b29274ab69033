"""Batches of plain scenes with prompts, for pretraining the tiny model."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_adapter.demo.scenes import plain_objects
from tiny_model import IMAGE_SIZE

LEAST_PIXELS = 80
"""Smaller visible parts are not asked for."""


@dataclass(frozen=True)
class PromptedBatch:
    """Images and, for each way of asking, the prompts and the masks that answer them."""

    images: Tensor
    """uint8, ``(B, H, W, 3)``."""
    labels: Tensor
    """uint8, ``(B, H, W)``: 0 background, 1 the target, 2 and up the other objects."""
    boxes: Tensor
    """XYXY pixels, ``(B, N, 4)``."""
    box_labels: Tensor
    """Which object each box asks for, ``(B, N)``."""
    points: Tensor
    """XY pixels, ``(B, M, P, 2)``."""
    point_signs: Tensor
    """1 on the object, 0 off it, ``(B, M, P)``."""
    point_labels: Tensor
    """Which object each set of points asks for, ``(B, M)``."""


class ScenePool:
    """A ring of generated scenes: a few are new at every step, all are seen several times, transformed."""

    def __init__(self, *, seed: int, first_index: int, start: int, capacity: int) -> None:
        shape = (capacity, IMAGE_SIZE, IMAGE_SIZE)
        self.images = np.empty((*shape, 3), dtype=np.uint8)
        self.labels = np.empty(shape, dtype=np.uint8)
        self.seed = seed
        self.first_index = first_index
        self.next_index = first_index
        self.grow(start)

    def grow(self, count: int) -> None:
        """Generate the next scenes; the oldest make room."""
        for _ in range(count):
            place = (self.next_index - self.first_index) % len(self.images)
            self.images[place], self.labels[place] = plain_objects(self.seed, self.next_index, IMAGE_SIZE)
            self.next_index += 1

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Random scenes, each mirrored, turned and recoloured at random."""
        filled = min(self.next_index - self.first_index, len(self.images))
        chosen = rng.integers(0, filled, batch_size)
        pairs = [_transformed(rng, self.images[place], self.labels[place]) for place in chosen]
        return np.stack([image for image, _ in pairs]), np.stack([labels for _, labels in pairs])


def _transformed(
    rng: np.random.Generator, image: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if rng.random() < 0.5:
        image, labels = image.transpose(1, 0, 2), labels.T
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[::-1]
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return image[:, :, rng.permutation(3)], labels


def prompted(
    rng: np.random.Generator,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    boxes: int,
    point_sets: int,
    points: int,
    jitter: float = 0.05,
) -> PromptedBatch:
    """Ask for objects by box and by points.

    Args:
        rng: Source of every choice.
        images: ``(B, H, W, 3)``.
        labels: ``(B, H, W)``.
        boxes: Boxes per image; each image asks for its target first, then for any object.
        point_sets: Sets of points per image, likewise.
        points: Points in a set; the first lies on the object, a fifth of the others off it.
        jitter: Deviation of each side of a box, in parts of its length.
    """
    box_labels = np.stack([_asked_for(rng, one, boxes) for one in labels])
    point_labels = np.stack([_asked_for(rng, one, point_sets) for one in labels])
    all_boxes = np.stack(
        [[_box(rng, one == label, jitter) for label in asked] for one, asked in zip(labels, box_labels, strict=True)]
    )
    sets = [
        [_points(rng, one == label, points) for label in asked] for one, asked in zip(labels, point_labels, strict=True)
    ]
    return PromptedBatch(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        boxes=torch.from_numpy(all_boxes),
        box_labels=torch.from_numpy(box_labels),
        points=torch.from_numpy(np.stack([[places for places, _ in row] for row in sets])),
        point_signs=torch.from_numpy(np.stack([[signs for _, signs in row] for row in sets])),
        point_labels=torch.from_numpy(point_labels),
    )


def _asked_for(rng: np.random.Generator, labels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    sizes = np.bincount(labels.ravel())
    present = np.flatnonzero(sizes >= LEAST_PIXELS)
    present = present[present > 0]
    asked = rng.choice(present, count)
    asked[0] = 1
    return asked.astype(np.uint8)


def _box(rng: np.random.Generator, mask: NDArray[np.bool_], jitter: float) -> NDArray[np.float32]:
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    corners = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
    width, height = corners[2] - corners[0], corners[3] - corners[1]
    corners += rng.normal(0, jitter, 4) * np.array([width, height, width, height])
    return np.clip(corners, 0, len(mask) - 1).astype(np.float32)


def _points(
    rng: np.random.Generator, mask: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    signs = (rng.random(count) < 0.8).astype(np.int64)
    signs[0] = 1
    flat = mask.ravel()
    inside, outside = np.flatnonzero(flat), np.flatnonzero(~flat)
    places = np.where(signs == 1, rng.choice(inside, count), rng.choice(outside, count))
    return np.stack([places % mask.shape[1], places // mask.shape[1]], axis=1).astype(np.float32), signs
