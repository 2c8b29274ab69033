"""From a picture to the encoder's input and back: resize, pad, normalise; logits to original size.

One object does it for training, evaluation, prediction and export, and is stored with the adapter. Every family of base
models has its own (`Backbone.preprocessing`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .batch import Prompt, Size
from .config.choices import Interpolation, Resize, Restore

SAM_MEAN = (123.675, 116.28, 103.53)
SAM_STD = (58.395, 57.12, 57.375)
BAND_PIXELS = 4 << 20
"""Pixels of a picture that are held as float32 at one time while it is resized."""
Picture = np.ndarray | Image.Image
"""``(H, W, 3)`` uint8 RGB, or an image of Pillow in RGB or grey of 8 bits (modes RGB and L)."""


class StoredLogits(Protocol):
    """Logits that are stored otherwise than as one tensor, such as those of tiles, and used as one is."""

    def __len__(self) -> int: ...
    def __getitem__(self, which: slice | Sequence[int], /) -> Self: ...
    @property
    def device(self) -> torch.device:
        """Where they are."""
        ...

    def detach(self) -> Self:
        """The same without gradients."""
        ...

    def at_original_size(self, rows: slice | None = None, columns: slice | None = None) -> Tensor:
        """See `Preprocessing.to_original_size`."""
        ...

    def reach(self, least: float) -> "Reach | None":
        """See `Preprocessing.reach`."""
        ...

    def pixels_each(self) -> float:
        """See `Preprocessing.pixels_each`."""
        ...


class Reach(NamedTuple):
    """Rows and columns of a picture."""

    rows: slice
    columns: slice


MaskLogits = Tensor | StoredLogits
"""Low-resolution logits of answers, ``(Q, h, w)``, or something that stands for them."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes the encoder's square input.

    Attributes:
        image_size: Side S of the square in pixels.
        resize: ``pad`` brings the longest side to S and fills up with zeros at the right and bottom, as SAM's
            predictor; ``squash`` brings both sides to S, as SAM 2's and the SAM-Adapter paper.
        mean: Subtracted from RGB values 0-255.
        std: Divided by afterwards.
        interpolation: Resizing is bilinear, antialiased where it makes smaller. ``uint8`` rounds to whole values, as
            Pillow does for SAM's predictor; ``float32`` does not, as in SAM 2's.
        restore: How logits come to original size: by way of the square, as in SAM's predictor, or directly, as in
            SAM 2's; directly only where nothing is padded.
    """

    image_size: int
    resize: Resize = "pad"
    mean: tuple[float, float, float] = SAM_MEAN
    std: tuple[float, float, float] = SAM_STD
    interpolation: Interpolation = "uint8"
    restore: Restore = "square"

    def __post_init__(self) -> None:
        if self.restore == "direct" and self.resize == "pad":
            raise ValueError("logits come directly to original size where both sides are resized; use 'square'")

    def resized_by(self, resize: Resize | None) -> Self:
        """The same with another rule for the size inside the square; None keeps the rule."""
        if resize is None or resize == self.resize:
            return self
        return replace(self, resize=resize, restore="square")

    def input_size(self, original_size: Size) -> Size:
        """Size ``(H, W)`` that a picture has inside the square."""
        side = self.image_size
        if self.resize == "squash":
            return side, side
        height, width = original_size
        scale = side / max(height, width)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def resized(self, picture: Picture) -> np.ndarray:
        """The picture at its size inside the square, ``(h, w, 3)`` RGB, uint8 or float32 as ``interpolation`` says."""
        original = size_of(picture)
        height, width = self.input_size(original)
        if self.interpolation == "float32":
            return _resized_unrounded(picture, height, width)
        if self.resize == "squash" and height >= original[0] and width >= original[1]:
            # Enlarging needs no antialiasing, and OpenCV rounds once where Pillow rounds after each axis.
            array = picture if isinstance(picture, np.ndarray) else np.asarray(picture.convert("RGB"))
            return cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR)
        # At once: which axis Pillow takes first, and rounds after, follows from the sizes and its version.
        image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        return np.array(image.resize((width, height), Image.Resampling.BILINEAR).convert("RGB"))

    def pixel_values(self, picture: Picture) -> Tensor:
        """The encoder's input for one picture.

        Returns:
            ``(3, S, S)`` float32, normalised; padding is zero.
        """
        pixels = torch.from_numpy(self.resized(picture)).permute(2, 0, 1).float()  # (3, h, w)
        mean, std = torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]
        pixels = (pixels - mean) / std
        bottom, right = self.image_size - pixels.shape[1], self.image_size - pixels.shape[2]
        return functional.pad(pixels, (0, right, 0, bottom))

    def prompt_to_input(self, prompt: Prompt, original_size: Size, mask_side: int | None = None) -> Prompt:
        """A prompt in pixels of the original picture → in pixels of the square, a mask as logits of ``mask_side``."""
        size = self.input_size(original_size)
        scaled = prompt.boxed().scaled(size[1] / original_size[1], size[0] / original_size[0])
        if prompt.mask is None or prompt.mask_input is not None:
            return scaled
        assert mask_side is not None
        assert prompt.mask.size == original_size
        logits = prompt.mask.logits(input_size=size, image_size=self.image_size, side=mask_side)
        return replace(scaled, mask_input=logits)

    def to_original_size(
        self,
        mask_logits: MaskLogits,
        original_size: Size,
        rows: slice | None = None,
        columns: slice | None = None,
    ) -> Tensor:
        """Low-resolution logits → logits of every pixel of the original picture, as SAM's predictor does it.

        Args:
            mask_logits: ``(B, h, w)`` over the whole square, or logits that are stored otherwise.
            original_size: ``(H, W)``.
            rows: Rows of the original that are wanted; None gives all. Memory is taken for these alone.
            columns: The same of its columns.

        Returns:
            ``(B, rows, columns)`` float32.
        """
        if not isinstance(mask_logits, Tensor):
            return mask_logits.at_original_size(rows, columns)
        side, (height, width) = self.image_size, self.input_size(original_size)
        logits = mask_logits.float()[:, None]
        if self.restore == "direct":
            return _resized_part(logits, original_size, rows, columns)[:, 0]
        if rows is None and columns is None:
            logits = functional.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
            logits = logits[..., :height, :width]
            return functional.interpolate(logits, original_size, mode="bilinear", align_corners=False)[:, 0]
        # Of the square only those rows are made from which the wanted ones are.
        rows = rows or slice(0, original_size[0])
        first, last, weights = _source_rows(rows, height, original_size[0], logits.device)
        low, high = int(first.min()), int(last.max()) + 1
        down = _source_rows(slice(low, high), logits.shape[-2], side, logits.device)
        if columns is None:
            square = _rows_of(logits, *down, side)
            return _rows_of(square[..., :width], first - low, last - low, weights, original_size[1])[:, 0]
        left, right, shares = _source_rows(columns, width, original_size[1], logits.device)
        begin, end = int(left.min()), int(right.max()) + 1
        across = _source_rows(slice(begin, end), logits.shape[-1], side, logits.device)
        square = _mixed(_mixed(logits, *down).mT, *across).mT
        return _mixed(_mixed(square, first - low, last - low, weights).mT, left - begin, right - begin, shares).mT[:, 0]

    def pixels_each(self, mask_logits: MaskLogits, original_size: Size) -> float:
        """Pixels of the picture, along its longer side, that one low-resolution value stands for.

        Args:
            mask_logits: ``(Q, h, w)`` or stored otherwise.
            original_size: ``(H, W)``.
        """
        if not isinstance(mask_logits, Tensor):
            return mask_logits.pixels_each()
        return max(original_size) / mask_logits.shape[-1]

    def reach(self, mask_logits: MaskLogits, original_size: Size, least: float) -> Reach | None:
        """Where in the original picture logits can be above a value: masks are made of this part alone.

        Args:
            mask_logits: See `to_original_size`.
            original_size: ``(H, W)``.
            least: The value.

        Returns:
            Rows and columns outside of which no logit is above it, as values between pixels are never above both; None
            if there are no such.
        """
        if not isinstance(mask_logits, Tensor):
            return mask_logits.reach(least)
        above = (mask_logits > least).any(0)
        sides: list[slice] = []
        for axis, (shown, whole) in enumerate(zip(self.input_size(original_size), original_size, strict=True)):
            found = above.any(1 - axis).nonzero()
            if not len(found):
                return None
            ends = int(found[0]), int(found[-1])
            square = ((above.shape[axis], self.image_size), (shown, whole))
            for source, wanted in ((above.shape[axis], whole),) if self.restore == "direct" else square:
                if ends[0] >= source:  # in the padding
                    return None
                ends = _influence(ends, source, wanted)
            sides.append(slice(ends[0], ends[1] + 1))
        return Reach(*sides)


def _resized_unrounded(picture: Picture, height: int, width: int) -> np.ndarray:
    """A picture at another size, ``(height, width, 3)`` float32: the width first, a band of rows at a time."""
    original = size_of(picture)
    rows, bands = max(BAND_PIXELS // original[1], 1), []
    for top in range(0, original[0], rows):
        bottom = min(top + rows, original[0])
        array = isinstance(picture, np.ndarray)
        part = picture[top:bottom] if array else in_colour(picture.crop((0, top, original[1], bottom)))
        band = torch.tensor(part).permute(2, 0, 1)[None].float()
        bands.append(_antialiased(band, (band.shape[2], width)))
    return _antialiased(torch.cat(bands, 2), (height, width))[0].permute(1, 2, 0).numpy()


def _antialiased(pixels: Tensor, size: Size) -> Tensor:
    return functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)


def in_colour(picture: np.ndarray | Image.Image) -> np.ndarray:
    """A picture as ``(H, W, 3)`` uint8 RGB, whether Pillow holds it or not."""
    return np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture


def size_of(picture: Picture) -> Size:
    """``(H, W)`` of a picture."""
    height, width = picture.shape[:2] if isinstance(picture, np.ndarray) else (picture.height, picture.width)
    return height, width


def _source_rows(rows: slice, source: int, wanted: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For some rows of a bilinear resize: the two rows of the source that each lies between, and the second's weight.

    Args:
        rows: Of the result, with start and stop.
        source: Height of the source.
        wanted: Height of the whole result.
        device: Of the tensors.
    """
    place = (torch.arange(rows.start, rows.stop, device=device) + 0.5) * (source / wanted) - 0.5
    place = place.clamp(min=0)
    first = place.floor().long()
    return first, (first + 1).clamp(max=source - 1), (place - first)[:, None]


def _influence(ends: tuple[int, int], source: int, wanted: int) -> tuple[int, int]:
    """First and last value of a bilinear resize that take from some values of the source, which have these ends."""
    first = math.floor((ends[0] - 0.5) * wanted / source - 0.5)
    last = math.ceil((min(ends[1], source - 1) + 1.5) * wanted / source - 0.5)
    return max(first, 0), min(last, wanted - 1)


def _resized_part(logits: Tensor, size: Size, rows: slice | None, columns: slice | None) -> Tensor:
    """Some rows and columns ``(B, 1, rows, columns)`` of a bilinear resize of ``(B, 1, h, w)``."""
    if rows is None and columns is None:
        return functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    down = _source_rows(rows or slice(0, size[0]), logits.shape[-2], size[0], logits.device)
    if columns is None:
        return _rows_of(logits, *down, size[1])
    across = _source_rows(columns, logits.shape[-1], size[1], logits.device)
    return _mixed(_mixed(logits, *down).mT, *across).mT


def _mixed(logits: Tensor, first: Tensor, last: Tensor, weights: Tensor) -> Tensor:
    """Rows of a bilinear resize, see `_source_rows`; columns stay."""
    return torch.lerp(logits[..., first, :], logits[..., last, :], weights)


def _rows_of(logits: Tensor, first: Tensor, last: Tensor, weights: Tensor, width: int) -> Tensor:
    """Rows ``(B, 1, rows, width)`` of a bilinear resize of ``(B, 1, h, w)``, see `_source_rows`."""
    mixed = _mixed(logits, first, last, weights)
    return functional.interpolate(mixed, (len(first), width), mode="bilinear", align_corners=False)
