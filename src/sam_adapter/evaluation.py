"""Scores of an adapter, or of a SAM as it is, on a folder of images and masks."""

import csv
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .batch import Batch, Prompt
from .checkpoint import load
from .config import EvaluateConfig
from .data.dataset import PairDataset, prompt_maker
from .data.inspection import inspect
from .data.loading import scoring_loader, worker_count
from .data.sources import Record
from .metrics import OverlapMetrics, score
from .model import SamSegmenter
from .runtime import autocast, pick_device

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def score_batch(metrics: OverlapMetrics, batch: Batch, logits: list[Tensor], threshold: float) -> None:
    """Add the scores of a batch; the one place where training and evaluation meet.

    Args:
        metrics: Collects them.
        batch: With ground truth.
        logits: For each image ``(1, H, W)`` at original size.
        threshold: Probability above which a pixel is foreground.
    """
    for index, one, target in zip(batch.indices, logits, batch.targets, strict=True):
        metrics.update(index, score(one.sigmoid()[0], target[0], threshold))


@torch.inference_mode()
def score_records(
    segmenter: SamSegmenter, dataset: PairDataset, config: EvaluateConfig, progress: Progress | None = None
) -> tuple[OverlapMetrics, dict[int, Prompt]]:
    """Score a segmenter on a data set.

    Returns:
        The scores, and the prompt that each image got, in pixels of the original.
    """
    device = pick_device(config.accelerator)
    segmenter = segmenter.to(device).train(False)
    metrics = OverlapMetrics().to(device)
    prompts: dict[int, Prompt] = {}
    loader = scoring_loader(dataset, batch_size=config.batch_size, workers=worker_count(config.workers))
    batch: Batch
    for batch in loader:
        prompts.update(zip(batch.indices, batch.prompts, strict=True))
        batch = batch.to(device)
        with autocast(device, config.precision):
            output = segmenter(batch)
        score_batch(metrics, batch, segmenter.full_logits(output, batch.original_sizes), segmenter.threshold)
        if progress is not None:
            progress(len(prompts), len(dataset))
    return metrics, prompts


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate as configured and write metrics.json, per_image.csv and prompts.json.

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
    segmenter = load(config.adapter, model=config.model, image_size=config.image_size)
    metrics, prompts = score_records(segmenter, _dataset(segmenter, records, config), config, progress)
    result: dict[str, Any] = {
        "images": len(records),
        "prompt": config.prompt,
        "model": segmenter.backbone.identity.name,
        "method": segmenter.method.name,
        **metrics.compute(),
        "threshold": segmenter.threshold,
        "image_size": segmenter.preprocessing.image_size,
        "empty_masks": len(found.empty),
        "skipped_faulty": len(found.faults),
    }
    if config.with_frozen:
        frozen = SamSegmenter.frozen(
            config.model or segmenter.backbone.identity.name, preprocessing=segmenter.preprocessing
        )
        frozen_metrics, _ = score_records(frozen, _dataset(frozen, records, config), config, progress)
        result["frozen"] = frozen_metrics.compute()
    config.output.mkdir(parents=True, exist_ok=True)
    _write_json(config.output / "metrics.json", result)
    _write_json(config.output / "prompts.json", prompts_as_json(records, prompts))
    _write_per_image(config.output / "per_image.csv", records, metrics)
    return result


def prompts_as_json(records: list[Record], prompts: dict[int, Prompt]) -> dict[str, Any]:
    """Prompts in the form that ``predict --prompts`` reads; images without one have no entry."""
    result: dict[str, Any] = {}
    for index, prompt in sorted(prompts.items()):
        record = records[index]
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
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)


def _write_per_image(path: Path, records: list[Record], metrics: OverlapMetrics) -> None:
    columns: list[str] = ["name", "iou", "dice", "mae", "ber", "tp", "fp", "fn", "tn"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        for index, scores in metrics.per_image().items():
            counts = {name: int(scores[name]) for name in ("tp", "fp", "fn", "tn")}
            row: dict[str, Any] = {"name": records[index].name, **scores, **counts}
            writer.writerow(row)
