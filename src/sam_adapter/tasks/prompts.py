"""Prompts made from a ground-truth mask: its box, points, none, a mixture of the three, or itself with an error."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from ..batch import Prompt
from ..config.choices import MIXED_KINDS, AskedKind, PromptKind, asked_kinds
from ..config.options import PromptOptions
from ..errors import DataError
from .coarse_masks import coarse_mask


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
    return _scaled(_tight_box(mask), scale, mask.shape)


def _tight_box(mask: np.ndarray) -> np.ndarray:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8) if mask.dtype == bool else mask.astype(np.uint8))
    return np.array([x, y, x + width, y + height], dtype=np.float32)


def _scaled(box: np.ndarray, scale: float, size: tuple[int, ...]) -> np.ndarray:
    """A box enlarged about its centre, inside a picture of a size ``(H, W)``."""
    if scale != 1.0:
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * scale / 2
        box = np.concatenate([centre - half, centre + half]).astype(np.float32)
    return _inside(box, size)


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
    """Makes prompts for one mask.

    Attributes:
        kind: What is asked with.
        box_scale: Boxes are enlarged about their centre by this factor.
        box_jitter: In training, see `jitter_box`.
        positive_points: Points inside the mask.
        negative_points: Points outside the mask.
        mask_error: See `coarse_mask`.
    """

    kind: PromptKind
    box_scale: float = 1.0
    box_jitter: float = 0.0
    positive_points: int = 1
    negative_points: int = 0
    mask_error: float = 0.25

    def drawn(
        self, mask: np.ndarray, rng: np.random.Generator, counted: np.ndarray | None = None, *, count: int = 1
    ) -> list[Prompt]:
        """Prompts for training, drawn at random; mixed ones take turns from a kind drawn at random.

        Args:
            mask: ``(H, W)`` bool ground truth; an empty one gets ``count`` empty prompts.
            rng: Source of randomness.
            counted: ``(H, W)`` bool, False where the ground truth says nothing; no point is drawn there. None is
                everywhere.
            count: Number of prompts.

        Returns:
            ``count`` prompts in pixels of the image.
        """
        kinds: tuple[AskedKind, ...] = (self.kind,) * count if self.kind != "mixed" else ()
        if self.kind == "mixed":
            first = int(rng.integers(len(MIXED_KINDS)))
            kinds = tuple(MIXED_KINDS[(first + turn) % len(MIXED_KINDS)] for turn in range(count))
        return [self._prompt(kind, mask, counted, rng, exact=False) for kind in kinds]

    def exact(self, mask: np.ndarray, rng: np.random.Generator, counted: np.ndarray | None = None) -> list[Prompt]:
        """Prompts for evaluation, one of each kind, or none alone if the mask is empty; for the arguments see `drawn`.

        The box is exact, the first positive point is the mask's innermost one, and the rest, also the error of a mask,
        follows from the random numbers.
        """
        kinds = asked_kinds(self.kind) if mask.any() else ("none",)
        return [self._prompt(kind, mask, counted, rng, exact=True) for kind in kinds]

    def of_part(
        self,
        kind: AskedKind,
        mask: np.ndarray,
        rng: np.random.Generator,
        *,
        place: tuple[int, int],
        size: tuple[int, int],
        counted: np.ndarray | None = None,
        exact: bool = False,
    ) -> Prompt:
        """A prompt for an object from the part of a picture around it.

        Args:
            kind: box, points or mask.
            mask: ``(h, w)`` bool, the object.
            rng: Source of randomness.
            place: Left and top pixel of the part in the picture.
            size: ``(H, W)`` of the picture.
            counted: ``(h, w)`` bool, False where the ground truth says nothing.
            exact: As for evaluation; see `exact`.

        Returns:
            In pixels of the picture.
        """
        if kind == "box":
            box = _scaled(_tight_box(mask) + np.array([*place, *place], np.float32), self.box_scale, size)
            if self.box_jitter and not exact:
                box = jitter_box(box, self.box_jitter, size, rng)
            return Prompt(box=torch.from_numpy(box))
        if kind == "mask":
            return Prompt(mask=coarse_mask(mask, self.mask_error, rng, corner=(place[1], place[0]), size=size))
        prompt = self._prompt("points", mask, counted, rng, exact=exact)
        assert prompt.points is not None
        return replace(prompt, points=prompt.points + torch.tensor(place))

    def _prompt(
        self, kind: AskedKind, mask: np.ndarray, counted: np.ndarray | None, rng: np.random.Generator, *, exact: bool
    ) -> Prompt:
        if kind == "none" or not mask.any():
            return Prompt()
        if kind == "box":
            box = box_from_mask(mask, scale=self.box_scale)
            if self.box_jitter and not exact:
                box = jitter_box(box, self.box_jitter, mask.shape, rng)
            return Prompt(box=torch.from_numpy(box))
        if kind == "mask":
            return Prompt(mask=coarse_mask(mask, self.mask_error, rng))
        if exact:
            more = draw_points(mask, self.positive_points - 1, rng)
            points = np.concatenate([innermost_point(mask), more])
        else:
            points = draw_points(mask, self.positive_points, rng)
        labels = np.ones(len(points), dtype=np.int64)
        outside = ~mask if counted is None else counted & ~mask
        if self.negative_points and outside.any():
            points = np.concatenate([points, draw_points(outside, self.negative_points, rng)])
            labels = np.concatenate([labels, np.zeros(self.negative_points, dtype=np.int64)])
        return Prompt(points=torch.from_numpy(points), point_labels=torch.from_numpy(labels))


def maker_of(options: PromptOptions) -> PromptMaker:
    """The prompts that a command's options mean."""
    return PromptMaker(
        kind=options.prompt,
        box_scale=options.box_scale,
        box_jitter=options.box_jitter,
        positive_points=options.positive_points,
        negative_points=options.negative_points,
        mask_error=options.mask_error,
    )


def _inside(box: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    height, width = size[:2]
    limit = np.array([width - 1, height - 1, width - 1, height - 1], dtype=np.float32)
    return np.clip(box, 0, limit).astype(np.float32)
