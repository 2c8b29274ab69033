"""Scores of an adapter, or of a SAM as it is, on a folder of images and masks."""

import csv
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Prompt
from .checkpoint import load
from .config import EvaluateConfig
from .data.dataset import PairDataset, prompt_maker
from .data.inspection import inspect
from .data.loading import scoring_loader, worker_count
from .data.sources import Record
from .embeddings import embedding_folder, shared_embeddings
from .metrics import OverlapMetrics, ThresholdCurve, score
from .model import SamSegmenter
from .processes import keep_freed_memory
from .runtime import Machine
from .writing import written_beside

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scoring:
    """What one model got on a data set.

    Attributes:
        name: For tables: the adapter's run, 'frozen', or the base model.
        method: What was trained.
        threshold: Probability above which a pixel is foreground.
        metrics: Its scores.
        prompts: What each image was asked with, by index, in pixels of the original.
        curve: Scores at every threshold; only collected for a report.
        masks: Predictions ``(H, W)`` for the images that a report shows, by index.
    """

    name: str
    method: str
    threshold: float
    metrics: OverlapMetrics
    prompts: dict[int, list[Prompt]]
    curve: ThresholdCurve | None = None
    masks: dict[int, np.ndarray] = field(default_factory=dict)


def score_batch(
    metrics: OverlapMetrics, batch: Batch, logits: list[Tensor], threshold: float, losses: Tensor | None = None
) -> None:
    """Add the scores of a batch; the one place where training and evaluation meet.

    Args:
        metrics: Collects them.
        batch: With ground truth.
        logits: For each prompt ``(1, H, W)`` at original size.
        threshold: Probability above which a pixel is foreground.
        losses: Of each prompt ``(Q,)``, if they are to be averaged too.
    """
    for position, (one, prompt, at) in enumerate(zip(logits, batch.prompts, batch.image_index, strict=True)):
        row = score(one.sigmoid(), batch.targets[at], threshold, valid=batch.valid[at])[0]
        loss = None if losses is None else losses[position]
        metrics.update(batch.indices[at], row, kind=prompt.kind, loss=loss)


@torch.inference_mode()
def score_records(
    segmenter: SamSegmenter,
    dataset: PairDataset,
    config: EvaluateConfig,
    machine: Machine,
    progress: Progress | None = None,
    curve: ThresholdCurve | None = None,
) -> tuple[OverlapMetrics, dict[int, list[Prompt]]]:
    """Score a segmenter on a data set.

    Args:
        segmenter: What is scored.
        dataset: Made with the segmenter's own preprocessing.
        config: Batch size and reading processes.
        machine: Where the segmenter is, and its precision.
        progress: Called with (images done, images in all).
        curve: Gets every image too, if given.

    Returns:
        The scores, and the prompts that each image was asked with, in pixels of the original.
    """
    metrics = OverlapMetrics().to(machine.device)
    prompts: dict[int, list[Prompt]] = {}
    pin = machine.device.type == "cuda"
    loader = scoring_loader(dataset, batch_size=config.batch_size, workers=worker_count(config.workers), pin=pin)
    batch: Batch
    for batch in loader:
        for at, prompt in zip(batch.image_index, batch.prompts, strict=True):
            prompts.setdefault(batch.indices[at], []).append(prompt)
        batch = batch.to(machine.device)
        with machine.autocast():
            output = segmenter(batch)
        logits = segmenter.full_logits(output, batch.for_prompts(batch.original_sizes))
        score_batch(metrics, batch, logits, segmenter.threshold)
        if curve is not None:
            for one, target in zip(logits, batch.for_prompts(batch.targets), strict=True):
                curve.update(one.sigmoid()[0], target[0])
        if progress is not None:
            progress(len(prompts), len(dataset))
    return metrics, prompts


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate as configured and write metrics.json, per_image.csv, prompts.json and, if asked for, report.html.

    Args:
        config: What to score on what.
        progress: Called with (images done, images in all).

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: If a folder is missing.
        DataError: If files are faulty.
        CheckpointError: If the adapter or the base cannot be loaded.
    """
    found = inspect(config)
    records = found.usable(config)
    scorings: list[Scoring] = []
    result: dict[str, Any] = {"images": len(records), "prompt": config.prompt}
    shown: list[int] = []
    machine = Machine.asked(config)
    log.info("Computing on %s", machine)
    with embedding_folder(config) as kept:
        for name, segmenter in _contenders(config):
            segmenter = segmenter.suited_to(machine, for_good=True).to(machine.device).train(False)
            keep_freed_memory()
            dataset = _dataset(segmenter, records, config)
            if kept is not None and segmenter.leaves_encoder:
                dataset.embeddings = shared_embeddings(kept, records, segmenter, config, machine, progress)
            curve = ThresholdCurve() if config.report else None
            metrics, prompts = score_records(segmenter, dataset, config, machine, progress, curve)
            if not scorings:
                result |= {"model": segmenter.backbone.identity.name, "method": segmenter.method.name}
                result |= {**metrics.compute(), "threshold": segmenter.threshold}
                result |= {"image_size": segmenter.preprocessing.image_size}
                shown = list(telling_images(metrics)) if config.report else []
            masks = predict_masks(segmenter, dataset, shown, machine)
            scorings.append(Scoring(name, segmenter.method.name, segmenter.threshold, metrics, prompts, curve, masks))
    result |= {"empty_masks": len(found.empty), "skipped_faulty": len(found.faults)}
    if config.with_frozen:
        result["frozen"] = scorings[1].metrics.compute()
    if config.compare:
        result["compared"] = {one.name: one.metrics.compute() for one in scorings[-len(config.compare) :]}
    config.output.mkdir(parents=True, exist_ok=True)
    _write_json(config.output / "metrics.json", result)
    _write_json(config.output / "prompts.json", prompts_as_json(records, scorings[0].prompts))
    _write_per_image(config.output / "per_image.csv", records, scorings[0].metrics)
    if config.report:
        from .report.scores import write_scores_page

        write_scores_page(config.output / "report.html", config, records, scorings)
    return result


def telling_images(metrics: OverlapMetrics, count: int = 3) -> dict[int, str]:
    """The images with the lowest, the middle and the highest IoU.

    Args:
        metrics: Scores of a data set.
        count: How many of each; fewer in small sets, where each image counts once.

    Returns:
        Index to 'worst', 'median' or 'best', in that order.
    """
    ranked = [index for index, _ in sorted(metrics.per_image().items(), key=lambda item: item[1]["iou"])]
    count = min(count, max(len(ranked) // 3, 1))
    middle = (len(ranked) - count) // 2
    found = dict.fromkeys(ranked[:count], "worst")
    for index in ranked[middle : middle + count]:
        found.setdefault(index, "median")
    for index in ranked[-count:]:
        found.setdefault(index, "best")
    return found


@torch.inference_mode()
def predict_masks(
    segmenter: SamSegmenter, dataset: PairDataset, indices: list[int], machine: Machine
) -> dict[int, np.ndarray]:
    """Masks ``(H, W)`` of some images of a data set, under the prompts they are scored with."""
    masks = {}
    for index in indices:
        batch = Batch.collate([dataset[index]]).to(machine.device)
        with machine.autocast():
            output = segmenter(batch)
        logits = segmenter.full_logits(output, batch.for_prompts(batch.original_sizes))[0]
        masks[index] = (logits.sigmoid()[0] > segmenter.threshold).cpu().numpy()
    return masks


def _contenders(config: EvaluateConfig) -> Iterator[tuple[str, SamSegmenter]]:
    """The models to score with their names, one in memory at a time: the first, its base, and those to compare."""
    segmenter = load(config.adapter, model=config.model, image_size=config.image_size)
    base, preprocessing = segmenter.backbone.identity.name, segmenter.preprocessing
    if config.adapter is None:
        yield base, segmenter
        return
    names = run_names([config.adapter, *config.compare])
    yield names[0], segmenter
    if config.with_frozen:
        yield "frozen", SamSegmenter.frozen(config.model or base, preprocessing=preprocessing)
    for name, adapter in zip(names[1:], config.compare, strict=True):
        yield name, load(adapter, model=config.model)


def run_names(adapters: list[Path]) -> list[str]:
    """Short names of adapter folders: the run's folder, or the whole path where two runs share a name."""
    short = [path.resolve().parent.name if path.name == "adapter" else path.name for path in adapters]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, adapters, strict=True)]


def prompts_as_json(records: list[Record], prompts: dict[int, list[Prompt]]) -> dict[str, Any]:
    """The first prompt of each image in the form that ``predict --prompts`` reads; without one there is no entry."""
    result: dict[str, Any] = {}
    for index, asked in sorted(prompts.items()):
        record, prompt = records[index], asked[0]
        name = f"{record.name}{record.image.suffix}"
        if prompt.boxes is not None:
            result[name] = {"box": prompt.boxes[0].tolist()}
        elif prompt.points is not None and prompt.point_labels is not None:
            result[name] = {"points": prompt.points[0].tolist(), "labels": prompt.point_labels[0].tolist()}
    return result


def _dataset(segmenter: SamSegmenter, records: list[Record], config: EvaluateConfig) -> PairDataset:
    maker = prompt_maker(config, training=False)
    return PairDataset(records, segmenter.preprocessing, maker, mask_rule=config.mask_rule, seed=config.seed)


def _write_json(path: Path, value: Any) -> None:
    with written_beside(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_per_image(path: Path, records: list[Record], metrics: OverlapMetrics) -> None:
    columns: list[str] = ["name", "iou", "dice", "mae", "ber", "tp", "fp", "fn", "tn"]
    with written_beside(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
        writer.writeheader()
        for index, scores in metrics.per_image().items():
            counts = {name: int(scores[name]) for name in ("tp", "fp", "fn", "tn")}
            row: dict[str, Any] = {"name": records[index].name, **scores, **counts}
            writer.writerow(row)
