"""A mask as a prompt, in pixels of its picture, and the logits that a model's mask input takes."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .window import Size, Window

CERTAIN = 10.0
"""Logit of a cell that lies all inside a mask that is given as a prompt; its negative outside. SAM was trained with the
logits of its own former answers, which have about this size away from outlines, and SAM 2's authors take it for masks
of users."""
BAND_PIXELS = 1 << 22
"""Pixels of a mask that are held as float32 at one time."""


@dataclass(frozen=True, kw_only=True)
class GivenMask:
    """A binary mask of a picture, of which the part is held that has foreground, eight pixels to a byte.

    Attributes:
        bits: ``(h, ceil(w / 8))`` uint8: rows of the part, the first pixel in the highest bit.
        part: Where it lies in the picture.
        size: ``(H, W)`` of the picture.
    """

    bits: Tensor
    part: Window
    size: Size

    @classmethod
    def of(cls, mask: np.ndarray, *, corner: tuple[int, int] = (0, 0), size: Size | None = None) -> Self:
        """Of a mask that has foreground.

        Args:
            mask: ``(h, w)`` bool.
            corner: Row and column of its first pixel in the picture.
            size: ``(H, W)`` of the picture, in which the mask lies; None if it is a mask of all of it.
        """
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        bits = torch.from_numpy(np.packbits(mask[top:bottom, left:right], axis=1))
        part = Window(top + corner[0], left + corner[1], bottom - top, right - left)
        return cls(bits=bits, part=part, size=size or (mask.shape[0], mask.shape[1]))

    @property
    def pixels(self) -> Tensor:
        """``(h, w)`` bool, of the part."""
        return _unpacked(self.bits)[:, : self.part.width]

    @property
    def box(self) -> Tensor:
        """``(4,)`` float32 XYXY pixels, as `sam_adapter.tasks.prompts.box_from_mask` gives it."""
        top, left, height, width = self.part
        right, bottom = min(left + width, self.size[1] - 1), min(top + height, self.size[0] - 1)
        return torch.tensor([left, top, right, bottom], dtype=torch.float32, device=self.bits.device)

    @property
    def area(self) -> int:
        """Pixels of foreground."""
        return int(self.pixels.count_nonzero())

    def whole(self) -> np.ndarray:
        """``(H, W)`` bool, of the picture."""
        top, left, height, width = self.part
        found = np.zeros(self.size, bool)
        found[top : top + height, left : left + width] = self.pixels.cpu().numpy()
        return found

    def inside(self, window: Window) -> Self | None:
        """The mask of a window of the picture, as if the window were a picture; None if it has no foreground there."""
        top, left = max(self.part.top, window.top), max(self.part.left, window.left)
        bottom = min(self.part.top + self.part.height, window.top + window.height)
        right = min(self.part.left + self.part.width, window.left + window.width)
        if top >= bottom or left >= right:
            return None
        rows = slice(top - self.part.top, bottom - self.part.top)
        first, last = left - self.part.left, right - self.part.left
        bits = self.bits[rows, first // 8 : (last + 7) // 8].cpu()
        seen = _unpacked(bits)[:, first % 8 : first % 8 + right - left].numpy()
        if not seen.any():
            return None
        corner = (top - window.top, left - window.left)
        return self.of(seen, corner=corner, size=(window.height, window.width)).to(self.bits.device)

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device."""
        return replace(self, bits=self.bits.to(device))

    def logits(self, *, input_size: Size, image_size: int, side: int) -> Tensor:
        """What a model's mask input takes: the log odds that a pixel of a cell is foreground, up to `CERTAIN`.

        The share of a cell that the mask covers is exact, whatever the sizes are; what fills up the square is
        background.

        Args:
            input_size: ``(h, w)`` that the picture has in the encoder's square.
            image_size: Side of the square.
            side: Of the mask input.

        Returns:
            ``(1, side, side)`` float32.
        """
        top, left, height, width = self.part
        cells = [
            image_size / side * whole / inside  # height and width of a cell in pixels of the picture
            for whole, inside in zip(self.size, input_size, strict=True)
        ]
        down = _shares(top, height, cells[0], side, self.bits.device)  # (side, h)
        across = _shares(left, width, cells[1], side, self.bits.device)  # (side, w)
        covered = down.new_zeros(side, side)
        step = max(BAND_PIXELS // width, 1)
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            band = _unpacked(self.bits[rows])[:, :width].float()
            covered += down[:, rows] @ (band @ across.T)
        return torch.logit(covered.clamp(0, 1)).clamp(-CERTAIN, CERTAIN)[None]


def _unpacked(bits: Tensor) -> Tensor:
    """``(h, n)`` bytes as ``(h, 8 n)`` bool."""
    places = 1 << torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    return ((bits[:, :, None] & places) != 0).flatten(1)


def _shares(start: int, count: int, cell: float, cells: int, device: torch.device) -> Tensor:
    """The share of each cell that lies on each of some pixels in a row, ``(cells, count)``."""
    edges = torch.arange(cells + 1, device=device) * cell
    pixels = torch.arange(start, start + count, device=device)
    first, last = torch.maximum(edges[:-1, None], pixels), torch.minimum(edges[1:, None], pixels + 1)
    return (last - first).clamp(min=0) / cell
