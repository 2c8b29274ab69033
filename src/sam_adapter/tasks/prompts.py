"""Prompts made from a ground-truth mask: its box, points, none, or one of them drawn at random."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..batch import Prompt
from ..config.options import ASKED_KINDS, AskedKind, PromptKind, asked_kinds
from ..errors import DataError


def box_from_mask(mask: np.ndarray, *, scale: float = 1.0) -> np.ndarray:
    """Tightest box around a mask, as ``cv2.boundingRect`` gives it, kept inside the image.

    Args:
        mask: ``(H, W)``, non-zero is foreground.
        scale: Enlarge the box about its centre by this factor.

    Returns:
        ``(4,)`` float32 XYXY pixels with ``x2 <= W - 1`` and ``y2 <= H - 1``.

    Raises:
        DataError: If the mask is empty; such images take no prompt.
    """
    if not mask.any():
        raise DataError("an empty mask has no box; images without foreground take the prompt 'none'.")
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    box = np.array([x, y, x + width, y + height], dtype=np.float32)
    if scale != 1.0:
        centre = np.array([x + width / 2, y + height / 2])
        half = np.array([width, height]) * scale / 2
        box = np.concatenate([centre - half, centre + half]).astype(np.float32)
    return _inside(box, mask.shape)


def jitter_box(box: np.ndarray, amount: float, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Move each side of a box by up to ``amount`` times the box's width or height.

    Args:
        box: ``(4,)`` XYXY pixels.
        amount: Fraction, at most 0.5.
        size: ``(H, W)`` of the image.
        rng: Source of randomness.

    Returns:
        ``(4,)`` float32 XYXY pixels inside the image.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    moves = rng.uniform(-amount, amount, 4) * np.array([width, height, width, height])
    moved = np.asarray(box + moves, dtype=np.float32)
    moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
    return _inside(moved, size)


def draw_points(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pixels of a mask, each once while there are enough.

    Args:
        mask: ``(H, W)``, non-zero pixels are drawn from; it must not be empty.
        count: Number of points.
        rng: Source of randomness.

    Returns:
        ``(count, 2)`` float32 XY pixels.
    """
    rows, columns = np.nonzero(mask)
    chosen = rng.choice(len(rows), size=count, replace=len(rows) < count)
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float32)


def innermost_point(mask: np.ndarray) -> np.ndarray:
    """The pixel of a mask that lies farthest from its edge, ``(1, 2)`` float32 XY."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return np.array([[column, row]], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class PromptMaker:
    """Makes the prompts for one image from its ground truth.

    Training draws at random. Evaluation is the same every time: each kind is asked once, the box is exact, the first
    positive point is the mask's innermost one, and the rest depends on the seed and the image's position alone.
    """

    kind: PromptKind
    box_scale: float = 1.0
    box_jitter: float = 0.0
    positive_points: int = 1
    negative_points: int = 0
    count: int = 1
    training: bool = False

    def __call__(self, mask: np.ndarray, rng: np.random.Generator, valid: np.ndarray | None = None) -> list[Prompt]:
        """Make prompts.

        Args:
            mask: ``(H, W)`` ground truth; an empty one gets no prompt.
            rng: Source of randomness.
            valid: ``(H, W)``, zero where the ground truth says nothing; no point is drawn there. None is everywhere.

        Returns:
            Each for one mask, in pixels of the image. In training ``count`` prompts, of which mixed ones take turns
            from a kind drawn at random; in evaluation one of each kind, or none alone if the mask is empty.
        """
        counted = np.ones(mask.shape, bool) if valid is None else valid.astype(bool)
        mask = mask.astype(bool) & counted
        kinds: tuple[AskedKind, ...]
        if not self.training:
            kinds = asked_kinds(self.kind) if mask.any() else ("none",)
        elif self.kind == "mixed":
            first = int(rng.integers(3))
            kinds = tuple(ASKED_KINDS[(first + turn) % 3] for turn in range(self.count))
        else:
            kinds = (self.kind,) * self.count
        return [self._prompt(kind, mask, counted & ~mask, rng) for kind in kinds]

    def _prompt(self, kind: AskedKind, mask: np.ndarray, outside: np.ndarray, rng: np.random.Generator) -> Prompt:
        if kind == "none" or not mask.any():
            return Prompt()
        if kind == "box":
            box = box_from_mask(mask, scale=self.box_scale)
            if self.training and self.box_jitter:
                box = jitter_box(box, self.box_jitter, mask.shape, rng)
            return Prompt(boxes=torch.from_numpy(box)[None])
        return self._points(mask, outside, rng)

    def _points(self, mask: np.ndarray, outside: np.ndarray, rng: np.random.Generator) -> Prompt:
        if self.training:
            points = draw_points(mask, self.positive_points, rng)
        else:
            more = draw_points(mask, self.positive_points - 1, rng)
            points = np.concatenate([innermost_point(mask), more])
        labels = np.ones(len(points), dtype=np.int64)
        if self.negative_points and outside.any():
            points = np.concatenate([points, draw_points(outside, self.negative_points, rng)])
            labels = np.concatenate([labels, np.zeros(self.negative_points, dtype=np.int64)])
        return Prompt(points=torch.from_numpy(points)[None], point_labels=torch.from_numpy(labels)[None])


def _inside(box: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    height, width = size[:2]
    limit = np.array([width - 1, height - 1, width - 1, height - 1], dtype=np.float32)
    return np.clip(box, 0, limit).astype(np.float32)
