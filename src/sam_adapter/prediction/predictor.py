"""Masks for one picture: encode it once, answer many prompts about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..annotations.reading.files import picture_from_pillow, read_picture
from ..backbones.base import QUERIES_AT_ONCE
from ..batch import Batch, EncodedImage, Query, Size
from ..config.choices import ASKED_KINDS, AskedKind
from ..config.object_options import ObjectOptions
from ..config.options import PromptOptions
from ..config.registry import TASKS, look_up
from ..errors import DataError
from ..preprocessing import in_colour, size_of
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..tasks.base import AnyPrediction, Task
from ..tasks.inference import Inference
from ..tasks.prediction import Prediction
from ..tiling.grid import Tiling
from ..tiling.sweep import joined
from .prompt_arrays import make_prompts


class Predictor:
    """Encodes a picture once and answers any number of prompts about it.

    Args:
        segmenter: From `load`.
        device: Where to compute; None takes a GPU if there is one.
        precision: ``auto``, ``32``, ``bf16-mixed`` or ``16-mixed``.
        tile: Side of tiles in pixels of the picture; None takes the adapter's own, 0 takes pictures whole. Tiles go
            through the encoder when something is asked, once for each call.
        overlap: Pixels that neighbouring tiles have in common; None takes the adapter's own, or a quarter of the tile.
        batch_size: Tiles that go through the encoder together.

    Raises:
        ConfigError: If tiles are too small, or overlap by their whole side.
    """

    def __init__(
        self,
        segmenter: SamSegmenter,
        *,
        device: torch.device | str | None = None,
        precision: str = "auto",
        tile: int | None = None,
        overlap: int | None = None,
        batch_size: int = 4,
    ) -> None:
        self.tiling = Tiling.asked(tile, overlap, segmenter.tiling)
        self.batch_size = batch_size
        self.machine = Machine.choose(device=device, precision=precision)
        self.segmenter = segmenter.suited_to(self.machine).to(self.machine.device).train(False)
        self._encoded: EncodedImage | None = None
        self._picture: Tensor | None = None
        self._size: Size = (0, 0)

    @torch.inference_mode()
    def set_image(self, image: np.ndarray | Image.Image | Path | str) -> None:
        """Encode a picture.

        Args:
            image: A file, a Pillow image (rotation, depth and alpha as in files), or ``(H, W, 3)`` uint8 RGB.

        Raises:
            DataError: If it is neither.
        """
        brightness = None if self.segmenter.reading is None else self.segmenter.reading.brightness
        if isinstance(image, str | Path):
            picture = read_picture(image, brightness)
        elif isinstance(image, Image.Image):
            picture = picture_from_pillow(image, brightness)
        else:
            picture = np.asarray(image)
            if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size or picture.dtype != np.uint8:
                raise DataError(f"image: expected (H, W, 3) uint8 RGB, got {picture.shape} {picture.dtype}.")
        self._size = size_of(picture)
        if self.tiling is not None:
            self._picture = torch.tensor(in_colour(picture))
            return
        pixel_values = self.segmenter.preprocessing.pixel_values(picture)[None].to(self.machine.device)
        del picture  # the encoder needs the memory
        with self.machine.autocast():
            self._encoded = self.segmenter.backbone.prepare(self.segmenter.encode(pixel_values))

    @torch.inference_mode()
    def predict_all(self, *, threshold: float | None = None, objects: ObjectOptions | None = None) -> AnyPrediction:
        """All that the adapter's task asks about a picture by itself: the class of each pixel, or the prompt-free mask.

        Args:
            threshold: Probability above which a pixel is foreground; None takes the segmenter's.
            objects: Of a task with objects: how they are found; None splits the maps as the adapter says.

        Raises:
            DataError: If no image was set.
            ConfigError: If ``objects`` asks for anything and the task has none.
        """
        inference = self._inference
        queries = inference.task.prediction_queries([])
        none = self.segmenter.threshold_for("none", threshold)
        chosen: dict[AskedKind, float] = dict.fromkeys(ASKED_KINDS, none)
        inference = inference.finding(objects or ObjectOptions(), chosen)
        (found,) = inference.predictions(self._batch(queries), chosen, keep=True)
        return found

    @property
    def _inference(self) -> Inference[AnyPrediction]:
        """The segmenter and its task, as pictures are asked about."""
        task: Task = look_up(TASKS, self.segmenter.task).from_options(PromptOptions(), self.segmenter.classes)
        return Inference(
            model=self.segmenter, task=task, machine=self.machine, tiling=self.tiling, batch_size=self.batch_size
        )

    def _batch(self, queries: list[Query]) -> Batch:
        """Queries about the picture that was set."""
        if (self._encoded if self.tiling is None else self._picture) is None:
            raise DataError("predict: no image yet; call set_image first.")
        return Batch(
            indices=[0],
            names=[""],
            pixel_values=None,
            annotations=[None],
            queries=queries,
            original_sizes=[self._size],
            encoded=self._encoded,
            image_index=[0] * len(queries),
            pictures=[] if self._picture is None else [self._picture],
        )

    @torch.inference_mode()
    def predict(
        self,
        *,
        box: Sequence[float] | np.ndarray | None = None,
        points: Sequence[Any] | np.ndarray | None = None,
        labels: Sequence[Any] | np.ndarray | None = None,
        mask: Sequence[Any] | np.ndarray | Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask: bool = False,
        threshold: float | None = None,
    ) -> Prediction:
        """Answer one prompt about the picture, or N; without any argument, the prompt-free mask.

        N prompts are N boxes, N rows of points, N masks, or several of these for each, as SAM's users know them. They
        go through the mask decoder in chunks, and of each answer a low-resolution mask is kept: `Prediction.part`,
        `Prediction.mask` and `Prediction.probability` bring one at a time to the picture's size, and only
        `Prediction.masks` holds all N of them.

        Args:
            box: ``(4,)`` XYXY pixels of the picture, or ``(N, 4)`` for N prompts.
            points: ``(P, 2)`` XY pixels of the picture, all for one prompt; or ``(N, P, 2)`` for N prompts.
            labels: ``(P,)`` or ``(N, P)``: 1 foreground, 0 background; all foreground if left out. In ``(N, P)`` -1
                stands for no point, where prompts differ in their number.
            mask: ``(H, W)`` of the picture, or ``(N, H, W)`` for N prompts: a rough mask that is to be corrected, not 0
                where the object is.
            mask_input: `Prediction.mask_logits` ``(N, h, w)`` of an earlier answer.
            multimask: Three masks for each prompt, for prompts that can mean several things: those of the first prompt
                come first; of SAM-HQ the best one.
            threshold: Probability above which a pixel is foreground; None takes the segmenter's.

        Returns:
            Masks at the picture's size, on the CPU, in the order of the prompts.

        Raises:
            DataError: If no image was set, or a prompt has a wrong shape or lies outside the picture.
        """
        tiled = self.tiling is not None
        if self._encoded is None and (self._picture is None or not tiled):
            raise DataError("predict: no image yet; call set_image first.")
        if tiled and (mask_input is not None or multimask):
            raise DataError(
                "predict: with tiles there is neither mask_input nor multimask, as tiles cannot agree on them; use "
                "Predictor(..., tile=0)."
            )
        prompts = make_prompts(box=box, points=points, labels=labels, mask=mask, mask_input=mask_input, size=self._size)
        chosen = self.segmenter.threshold if threshold is None else threshold
        queries = [Query(prompt=prompt.to(self.machine.device)) for prompt in prompts]
        if tiled:
            batch = self._batch(queries)
            logits = joined(self._inference.sweep.strips(batch.pictures[0], batch.queries))
            return Prediction(
                mask_logits=logits,
                iou_scores=logits.iou_scores(),
                original_size=self._size,
                preprocessing=self.segmenter.preprocessing,
                threshold=chosen,
            )
        logits, scores = [], []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            batch = self._batch(queries[start : start + QUERIES_AT_ONCE])
            with self.machine.autocast():
                output = self.segmenter(batch, multimask=multimask)
            logits.append(output.mask_logits.flatten(0, 1).float().cpu())
            scores.append(output.iou_scores.flatten().float().cpu())
        return Prediction(
            mask_logits=torch.cat(logits),
            iou_scores=torch.cat(scores),
            original_size=self._size,
            preprocessing=self.segmenter.preprocessing,
            threshold=chosen,
        )
