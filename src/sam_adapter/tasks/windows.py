"""Many prompts about one picture, seen whole or tile by tile: windows are encoded once, prompts answered in chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..batch import Batch, EncodedImage, Output, Prompt, Query, Size, Window
from ..preprocessing import Preprocessing
from ..system.machine import Machine
from ..tiling.grid import Tiling
from ..tiling.sweep import shown
from .parts import MaskPart, part_of

AT_ONCE = 64
"""Prompts that are answered together; of their answers only those that are kept stay in memory."""
NOTHING = -30.0
"""Logit outside of the part of an answer that is kept."""


class PromptedModel(Protocol):
    """What is needed of a segmenter."""

    preprocessing: Preprocessing
    core_rise: float | None

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    def encode(self, pixel_values: Tensor, *, frozen: bool = False) -> EncodedImage:
        """What the encoder gives."""
        ...

    def __call__(self, batch: Batch, *, multimask: bool = False, frozen: bool = False) -> Output:
        """Answer the queries of a batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunningModel:
    """A model where it runs.

    Attributes:
        model: A segmenter.
        machine: Where it is, and its precision.
        tiling: How pictures are cut; None takes them whole.
        batch_size: Tiles that are encoded together.
    """

    model: PromptedModel
    machine: Machine
    tiling: Tiling | None
    batch_size: int = 1


class KeptMask(NamedTuple):
    """A low-resolution answer about a window, of which the part is kept that holds something.

    Attributes:
        window: Of the picture.
        score: That ranks it.
        logits: ``(r, c)`` float16, from a margin of one value around all that is above the threshold.
        corner: Row and column of the first of them.
        side: Of the whole answer.
        cut: Whether the mask touches a border of the window that is no border of the picture.
    """

    window: Window
    score: float
    logits: Tensor
    corner: tuple[int, int]
    side: Size
    cut: bool = False

    @classmethod
    def of(cls, logits: Tensor, least: float, *, window: Window, score: float, cut: bool = False) -> "KeptMask":
        """Of the logits ``(h, w)``, some of which are above the least."""
        above = logits > least
        down, across = above.any(1).nonzero(), above.any(0).nonzero()
        top, left = max(int(down[0]) - 1, 0), max(int(across[0]) - 1, 0)
        part = logits[top : int(down[-1]) + 2, left : int(across[-1]) + 2]
        side = (logits.shape[0], logits.shape[1])
        return cls(window, score, part.to("cpu", torch.float16, copy=True), (top, left), side, cut)

    def part(self, preprocessing: Preprocessing, threshold: float) -> MaskPart | None:
        """The mask in pixels of the picture."""
        whole = torch.full((1, *self.side), NOTHING)
        top, left = self.corner
        whole[0, top : top + self.logits.shape[0], left : left + self.logits.shape[1]] = self.logits.float()
        found = part_of(whole, (self.window.height, self.window.width), preprocessing, threshold)
        if found is None:
            return None
        rows = slice(found.rows.start + self.window.top, found.rows.stop + self.window.top)
        columns = slice(found.columns.start + self.window.left, found.columns.stop + self.window.left)
        return found._replace(rows=rows, columns=columns)


@dataclass(frozen=True, kw_only=True)
class SeenPicture:
    """A picture that a model is asked about through windows.

    Attributes:
        model: That is asked.
        machine: Where the model is, and its precision.
        size: ``(H, W)`` of the picture.
        windows: The tiles, or one for all of the picture.
        pixels: ``(H, W, 3)`` uint8, where there are tiles.
        encoded: The whole picture, where it was encoded.
        batch_size: Windows that are encoded together.
    """

    model: PromptedModel
    machine: Machine
    size: Size
    windows: Sequence[Window]
    pixels: Tensor | None = None
    encoded: EncodedImage | None = None
    batch_size: int = 1

    @classmethod
    def of(cls, batch: Batch, at: int, running: RunningModel) -> "SeenPicture":
        """The picture at a position of a batch, of whole pictures or of such that the model has encoded."""
        size, tiling = batch.original_sizes[at], running.tiling
        pixels = batch.pictures[at] if tiling is not None else None
        encoded = batch.encoded.select([at]) if batch.encoded is not None and tiling is None else None
        windows = [Window(0, 0, *size)] if tiling is None else tiling.windows(size)
        return cls(
            model=running.model,
            machine=running.machine,
            size=size,
            windows=windows,
            pixels=pixels,
            encoded=encoded,
            batch_size=running.batch_size,
        )

    def encode(self, which: Sequence[int]) -> Iterator[tuple[int, EncodedImage]]:
        """Some windows by position, each with what the encoder gives for it."""
        if self.pixels is None:
            assert self.encoded is not None
            yield from ((at, self.encoded) for at in which)
            return
        for start in range(0, len(which), self.batch_size):
            some = which[start : start + self.batch_size]
            parts = [shown(self.pixels, self.windows[at]).numpy() for at in some]
            values = torch.stack([self.model.preprocessing.pixel_values(part) for part in parts])
            with self.machine.autocast():
                encoded = self.model.encode(values.to(self.model.device))
            yield from ((at, encoded.select([row])) for row, at in enumerate(some))

    def answers(
        self, encoded: EncodedImage, window: Window, prompts: Sequence[Prompt], *, multimask: bool = False
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The answers to prompts about a window, a chunk at a time.

        Args:
            encoded: The window.
            window: Of the picture.
            prompts: In pixels of the window.
            multimask: Three masks for each prompt.

        Yields:
            Position of the first prompt, logits ``(Q, M, h, w)`` float32 and predicted quality ``(Q, M)``.
        """
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            batch = Batch(
                indices=[0],
                names=[""],
                pixel_values=None,
                annotations=[None],
                queries=[Query(prompt=one.to(self.model.device)) for one in some],
                original_sizes=[(window.height, window.width)],
                encoded=encoded,
                image_index=[0] * len(some),
            )
            with self.machine.autocast():
                output = self.model(batch, multimask=multimask)
            yield start, output.mask_logits.float(), output.iou_scores.float()

    def filled(self, window: Window, side: Size) -> Size:
        """Rows and columns of low-resolution logits that lie on a window, and not in what fills up the square."""
        preprocessing = self.model.preprocessing
        inside = preprocessing.input_size((window.height, window.width))
        return (
            -(-inside[0] * side[0] // preprocessing.image_size),
            -(-inside[1] * side[1] // preprocessing.image_size),
        )

    def inner_borders(self, window: Window) -> tuple[bool, bool, bool, bool]:
        """Which of a window's borders, top, bottom, left, right, are no borders of the picture."""
        bottom, right = window.top + window.height, window.left + window.width
        return window.top > 0, bottom < self.size[0], window.left > 0, right < self.size[1]
