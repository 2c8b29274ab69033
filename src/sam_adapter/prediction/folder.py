"""Masks for pictures without ground truth: encode once, answer many prompts; or whole folders."""

import glob
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..annotations.folders import list_pictures
from ..annotations.reading.brightness import Brightness
from ..annotations.reading.files import read_image, rgb_from_pillow
from ..annotations.reading.pictures import Picture, brightness_for, list_pages
from ..batch import Prediction, Prompt, Size
from ..checkpoints.adapter import load
from ..config.commands import PredictConfig
from ..config.options import Save
from ..data.dataset import PictureDataset
from ..data.loading import picture_loader, worker_count
from ..errors import ConfigError, DataError, amount
from ..report.drawing import overlay
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..system.writing import remove_leftovers, require_writable, written_beside
from .prompt_files import make_prompt, read_prompts

log = logging.getLogger(__name__)

WRITERS = 4
"""Threads that write results; compressing the overlay of a photograph takes longer than a GPU takes to encode it."""
PNG_LEVELS = {"masks": 6, "overlays": 1, "probabilities": 6}
"""Effort of zlib. A photograph takes three times as long at 6 as at 1 and gets an eighth smaller."""


class Predictor:
    """Encodes a picture once and answers any number of prompts about it.

    Args:
        segmenter: From `load`.
        device: Where to compute; None takes a GPU if there is one.
        precision: ``auto``, ``32``, ``bf16-mixed`` or ``16-mixed``.
    """

    def __init__(
        self, segmenter: SamSegmenter, *, device: torch.device | str | None = None, precision: str = "auto"
    ) -> None:
        self.machine = Machine.choose(device=device, precision=precision)
        self.segmenter = segmenter.suited_to(self.machine).to(self.machine.device).train(False)
        self._embeddings: Tensor | None = None
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
            pixels = read_image(image, brightness)
        else:
            pixels = rgb_from_pillow(image, brightness) if isinstance(image, Image.Image) else np.asarray(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise DataError(f"image: expected (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}.")
        self._size = (pixels.shape[0], pixels.shape[1])
        pixel_values = self.segmenter.preprocessing.pixel_values(pixels)[None].to(self.machine.device)
        with self.machine.autocast():
            self._embeddings = self.segmenter.encode(pixel_values)

    @torch.inference_mode()
    def predict(
        self,
        *,
        box: Sequence[float] | np.ndarray | None = None,
        points: Sequence[Sequence[float]] | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        mask_input: Tensor | None = None,
        multimask: bool = False,
        threshold: float | None = None,
    ) -> Prediction:
        """Answer one prompt about the picture; without any argument, the prompt-free mask.

        Args:
            box: ``(4,)`` XYXY pixels of the picture, or ``(N, 4)`` for N masks.
            points: ``(P, 2)`` XY pixels of the picture.
            labels: ``(P,)``, 1 foreground, 0 background; all foreground if left out.
            mask_input: `Prediction.mask_logits` ``(1, h, w)`` of an earlier answer.
            multimask: Three masks for each prompt, for prompts that can mean several things.
            threshold: Probability above which a pixel is foreground; None takes the segmenter's.

        Returns:
            Masks at the picture's size, on the CPU.

        Raises:
            DataError: If no image was set, or a prompt has a wrong shape or lies outside the picture.
        """
        if self._embeddings is None:
            raise DataError("predict: no image yet; call set_image first.")
        prompt = make_prompt(box=box, points=points, labels=labels, mask_input=mask_input, size=self._size)
        with self.machine.autocast():
            output = self.segmenter.decode(
                self._embeddings, [prompt.to(self.machine.device)], [self._size], multimask=multimask
            )
        logits = self.segmenter.full_logits(output, [self._size])[0]
        return _prediction(
            output.mask_logits[0],
            output.iou_scores[0],
            logits,
            self.segmenter.threshold if threshold is None else threshold,
        )


def _prediction(mask_logits: Tensor, iou_scores: Tensor, logits: Tensor, threshold: float) -> Prediction:
    probabilities = logits.sigmoid().cpu()
    return Prediction(
        masks=probabilities > threshold,
        probabilities=probabilities,
        iou_scores=iou_scores.float().cpu(),
        mask_logits=mask_logits.float().cpu(),
    )


@torch.inference_mode()
def predict(config: PredictConfig, progress: Callable[[int, int], None] | None = None) -> list[Path]:
    """Predict as configured; every name, prompt and option is checked before the model is loaded.

    Args:
        config: What to predict with what.
        progress: Called with (pictures done, pictures in all).

    Returns:
        The mask files (or the first kind that is saved), in the order of the pictures.

    Raises:
        ConfigError: If there is no picture, or two would be written to one name.
        DataError: If pictures could not be read; it names them all, and the others are predicted.
        CheckpointError: If the adapter or the base cannot be loaded.
    """
    require_writable(config.output)
    remove_leftovers(*(config.output / kind for kind in config.saved))
    found = _without_results(find_pictures(config.input), config)
    prompts = read_prompts(config.prompts, found) if config.prompts else {}
    pictures = list_pages(found, config.pages)
    segmenter = load(config.adapter, model=config.model, image_size=config.image_size)
    for kind in {prompts.get(one.path, Prompt()).kind for one in pictures}:
        segmenter.threshold_for(kind, config.threshold)  # refused before any work
    machine = Machine.asked(config)
    machine.prepare_process()
    log.info("Computing on %s", machine)
    segmenter = segmenter.suited_to(machine, for_good=True).to(machine.device).train(False)
    brightness = brightness_for(pictures, segmenter.reading)
    dataset = PictureDataset(
        [one.path for one in pictures],
        segmenter.preprocessing,
        prompts,
        pages=[one.page for one in pictures],
        brightness=brightness,
        max_pixels=config.max_pixels,
    )
    workers = min(worker_count(config.workers), len(pictures) // 4)
    pin = machine.device.type == "cuda"
    loader = picture_loader(dataset, batch_size=config.batch_size, workers=workers, pin=pin)
    if segmenter.adapter is not None and not prompts and segmenter.prompt in ("box", "points"):
        log.warning("The adapter was trained with the prompt '%s', but no --prompts are given.", segmenter.prompt)
    unread: list[DataError] = []
    with _Writers(config, len(pictures), progress, brightness) as writers:
        for batch, errors in loader:
            unread += errors
            if batch is None:
                continue
            batch = batch.to(machine.device)
            with machine.autocast():
                output = segmenter(batch)
            logits = segmenter.full_logits(output, batch.original_sizes)
            for index, prompt, mask_logits, scores, full in zip(
                batch.indices, batch.prompts, *output, logits, strict=True
            ):
                threshold = segmenter.threshold_for(prompt.kind, config.threshold)
                writers.write(_prediction(mask_logits, scores, full, threshold), pictures[index])
    written = writers.written
    if unread:
        raise DataError(
            "\n".join([f"{amount(len(written), 'picture')} predicted, {len(unread)} not:", *map(str, unread)])
        )
    return written


def find_pictures(source: str) -> list[tuple[Path, str]]:
    """Pictures that a file name, folder or pattern means, each with the name its results get.

    Raises:
        ConfigError: If there are none, or two would get the same name.
    """
    path = Path(source)
    if path.is_dir():
        found = [(file, file.relative_to(path).with_suffix("").as_posix()) for file in list_pictures(path).files]
    elif path.is_file():
        found = [(path, path.stem)]
    else:
        files = sorted(Path(file) for file in glob.glob(source, recursive=True) if Path(file).is_file())
        found = [(file, file.stem) for file in files]
    if not found:
        raise ConfigError(f"input: there is no picture at '{source}'. Give a file, a folder, or a pattern in quotes.")
    names: dict[str, Path] = {}
    for file, name in found:
        if name in names:
            raise ConfigError(f"input: '{names[name]}' and '{file}' would both be written as '{name}.png'; rename one.")
        names[name] = file
    return found


def _without_results(found: list[tuple[Path, str]], config: PredictConfig) -> list[tuple[Path, str]]:
    """Pictures but for those in the folders that results are written into.

    Raises:
        ConfigError: If results would lie among the pictures, or nothing else is there.
    """
    output = config.output.resolve()
    if Path(config.input).resolve() == output:
        raise ConfigError(
            f"output: '{config.output}' is the folder of the pictures; choose another one for the results."
        )
    folders = [output / kind for kind in Save.__args__]
    kept = [one for one in found if not any(folder in one[0].resolve().parents for folder in folders)]
    if not kept:
        raise ConfigError(
            f"input: all pictures at '{config.input}' lie where results are written, below '{config.output}'. Choose "
            "another --output."
        )
    if len(kept) < len(found):
        log.warning(
            "%d pictures lie where results are written, below '%s', and are left out.",
            len(found) - len(kept),
            config.output,
        )
    return kept


class _Writers:
    """Threads that write results while the next batch is computed.

    A thread's error is raised here, in the order of the pictures. After it, or Ctrl-C, files that are being written are
    finished and no further one is begun.

    Args:
        config: What to write and where.
        total: Pictures in all.
        progress: Called with (pictures written, total).
        brightness: Scale of deep pictures, for overlays.
    """

    def __init__(
        self,
        config: PredictConfig,
        total: int,
        progress: Callable[[int, int], None] | None,
        brightness: Brightness | None,
    ) -> None:
        self._brightness = brightness
        self.written: list[Path] = []
        self._config = config
        self._total = total
        self._progress = progress
        self._most_waiting = config.batch_size + WRITERS
        self._waiting: deque[Future[Path]] = deque()
        self._pool = ThreadPoolExecutor(WRITERS)

    def write(self, prediction: Prediction, picture: Picture) -> None:
        """Have a result on the CPU written, after waiting until not too many are in memory."""
        self._collect(self._most_waiting - 1)
        self._waiting.append(self._pool.submit(_write, prediction, picture, self._config, self._brightness))

    def _collect(self, most: int) -> None:
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self.written.append(self._waiting.popleft().result())
            if self._progress is not None:
                self._progress(len(self.written), self._total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._collect(0)
        finally:
            self._pool.shutdown(cancel_futures=True)


def _write(prediction: Prediction, picture: Picture, config: PredictConfig, brightness: Brightness | None) -> Path:
    def image() -> np.ndarray:
        return read_image(picture.path, brightness, page=picture.page, max_pixels=None)

    mask = prediction.masks[0].numpy()
    made = {
        "masks": lambda: Image.fromarray(mask.astype(np.uint8) * 255),
        "overlays": lambda: Image.fromarray(overlay(image(), mask)),
        "probabilities": lambda: Image.fromarray(
            np.round(prediction.probabilities[0].numpy().astype(np.float64) * 65535).astype(np.uint16)
        ),
    }
    files = []
    for kind in config.saved:
        file = config.output / kind / f"{picture.name}.png"
        with written_beside(file) as partial:
            made[kind]().save(partial, format="PNG", compress_level=PNG_LEVELS[kind])
        files.append(file)
    return files[0]
