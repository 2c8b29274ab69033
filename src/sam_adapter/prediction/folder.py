"""Masks for the pictures of a folder."""

import glob
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..annotations.folders import list_pictures
from ..annotations.reading.brightness import Brightness
from ..annotations.reading.pictures import Picture, brightness_for, list_pages
from ..batch import Prompt
from ..checkpoints.adapter import load
from ..config.choices import ASKED_KINDS, AskedKind, Save
from ..config.commands import PredictConfig
from ..config.options import PromptOptions
from ..config.registry import TASKS, look_up
from ..data.dataset import PictureDataset
from ..data.loading import picture_loader, worker_count
from ..errors import ConfigError, DataError, amount
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..system.writing import remove_leftovers, require_writable
from ..tasks.base import Task
from ..tasks.inference import Inference
from ..tiling.grid import Tiling
from .objects import TABLES
from .prompt_files import GivenPrompts, labels_of, read_prompts
from .unprompted import require_prompts
from .writers import Writers

log = logging.getLogger(__name__)


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
    given = read_prompts(config.prompts, found) if config.prompts else {}
    pictures = list_pages(_without_masks(found, given), config.pages)
    segmenter = load(config.adapter, model=config.model, image_size=config.image_size)
    segmenter.tiling = Tiling.asked(config.tile, config.overlap, segmenter.tiling)
    prompts = labels_of(given, segmenter.task, segmenter.class_names)
    require_prompts(config, segmenter, [one.path for one in pictures], prompts)
    asked: set[AskedKind] = {
        prompt.kind for one in pictures for prompt in (prompts[one.path][0] if one.path in prompts else [Prompt()])
    }
    thresholds: dict[AskedKind, float] = {
        kind: segmenter.threshold_for(kind, config.threshold) for kind in asked
    }  # refused before any work
    task: Task = look_up(TASKS, segmenter.task).from_options(PromptOptions(), segmenter.classes)
    machine = Machine.asked(config)
    machine.prepare_process()
    log.info("Computing on %s", segmenter.backbone.on(machine))
    segmenter = segmenter.suited_to(machine, for_good=True).to(machine.device).train(False)
    brightness = brightness_for(pictures, segmenter.reading)
    inference = Inference(
        model=segmenter,
        task=task,
        machine=machine,
        tiling=segmenter.tiling,
        batch_size=config.batch_size,
    ).finding(config, _for_all_kinds(thresholds, segmenter, config))
    loader = _loader(config, pictures, segmenter, task, prompts, brightness)
    unread: list[DataError] = []
    with Writers(config, len(pictures), progress, brightness) as writers:
        for batch, errors in loader:
            unread += errors
            if batch is None:
                continue
            batch = batch.to(machine.device)
            predictions = inference.predictions(batch, thresholds, keep="probabilities" in config.saved)
            for index, prediction in zip(batch.indices, predictions, strict=True):
                writers.write(prediction, pictures[index])
    if unread:
        done = amount(len(writers.written), "picture")
        raise DataError("\n".join([f"{done} predicted, {len(unread)} not:", *map(str, unread)]))
    return writers.written


def _for_all_kinds(
    asked: Mapping[AskedKind, float], segmenter: SamSegmenter, config: PredictConfig
) -> dict[AskedKind, float]:
    """Thresholds of kinds of prompt that no user asks with, too; their best ones need not be known."""
    chosen = None if config.threshold == "best" else config.threshold
    return {kind: asked.get(kind, segmenter.threshold_for(kind, chosen)) for kind in ASKED_KINDS}


def _loader(
    config: PredictConfig,
    pictures: list[Picture],
    segmenter: SamSegmenter,
    task: Task,
    prompts: Mapping[Path, tuple[list[Prompt], list[int]]],
    brightness: Brightness | None,
) -> DataLoader[Any]:
    """Batches of the pictures, as `picture_loader` makes them."""
    dataset = PictureDataset(
        [one.path for one in pictures],
        segmenter.preprocessing,
        task=task,
        prompts=prompts,
        pages=[one.page for one in pictures],
        brightness=brightness,
        max_pixels=config.max_pixels,
        tiled=segmenter.tiling is not None,
    )
    workers = min(worker_count(config.workers), len(pictures) // 4)
    pin = segmenter.device.type == "cuda"
    together = config.batch_size if segmenter.tiling is None else 1
    return picture_loader(dataset, batch_size=together, workers=workers, pin=pin)


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
        ConfigError: If results would lie among the pictures, or nothing else is there, or the prompts are results.
    """
    if config.prompts and config.prompts.resolve() in [(config.output / name).resolve() for name in TABLES]:
        raise ConfigError(
            f"output: a run removes '{config.prompts}' when it writes into '{config.output}', and --prompts names that "
            "file; choose another --output."
        )
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


def _without_masks(found: list[tuple[Path, str]], given: Mapping[Path, GivenPrompts]) -> list[tuple[Path, str]]:
    """Pictures but for those that are there as masks of other pictures' prompts."""
    masks = {file.resolve() for one in given.values() for file in one.mask_files}
    kept = [one for one in found if one[0] in given or one[0].resolve() not in masks]
    if len(kept) < len(found):
        log.info(
            "prompts: %s below --input as masks of prompts, and not answered as pictures.",
            amount(len(found) - len(kept), "file", "are"),
        )
    return kept
