"""What one model got on a data set: its answers to every prompt, scored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ..batch import Batch, Prompt, Query
from ..config.choices import AskedKind, asked_kinds
from ..config.commands import EvaluateConfig
from ..data.dataset import PairDataset
from ..data.loading import scoring_loader, worker_count
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..tasks.base import Task
from ..tasks.inference import Inference
from ..tasks.metrics import AddedScores, Answer, OverlapMetrics, is_empty
from ..tasks.object_prediction import ObjectPrediction
from ..tiling.grid import Tiling

Progress = Callable[[int, int], None]
Thresholds = Mapping[AskedKind, float]
"""Probability above which a pixel is foreground, for each kind of prompt."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What one model got on a data set.

    Attributes:
        name: For tables: the adapter's run, 'frozen', or the base model.
        base: The SAM below it.
        task: What it was asked.
        method: What was trained.
        image_size: Side of the encoder's input.
        tiling: How pictures were cut; None if they were whole.
        thresholds: Those that the scores were taken at.
        core_rise: See `split_objects`, of objects that are found without prompts; None took no peaks, or found none.
        metrics: Its scores, and for a report those at every threshold.
        queries: What each image was asked, by index, in pixels of the original.
        masks: Answers ``(H, W)`` about the images that a report shows.
        objects: What was found without prompts in those of them that are shown as a whole, of a task with objects.
    """

    name: str
    base: str
    task: str
    method: str
    image_size: int
    tiling: Tiling | None
    thresholds: Thresholds
    core_rise: float | None
    metrics: OverlapMetrics
    queries: dict[int, list[Query]] = field(default_factory=dict)
    masks: dict[Answer, np.ndarray] = field(default_factory=dict)
    objects: dict[int, ObjectPrediction] = field(default_factory=dict)

    @property
    def prompts(self) -> dict[int, list[Prompt]]:
        """The prompts of the queries, by index."""
        return {index: [query.prompt for query in asked] for index, asked in self.queries.items()}


@torch.inference_mode()
def score_records(
    segmenter: SamSegmenter,
    dataset: PairDataset,
    config: EvaluateConfig,
    machine: Machine,
    *,
    name: str,
    thresholds: Thresholds,
    progress: Progress | None = None,
) -> Scoring:
    """Score a segmenter on a data set.

    Args:
        segmenter: What is scored.
        dataset: Made with the segmenter's own preprocessing.
        config: Batch size and reading processes, scores to add, and whether a report needs curves.
        machine: Where the segmenter is, and its precision.
        name: What tables call it.
        thresholds: For each kind of prompt.
        progress: Called with (images done, images in all).

    Returns:
        The scores, and the prompts that each image was asked with; no masks yet.
    """
    inference = Inference(
        model=segmenter,
        task=dataset.task,
        machine=machine,
        tiling=segmenter.tiling,
        batch_size=config.batch_size,
    ).finding(config, thresholds)
    added = AddedScores(config.added_metrics, spacing=config.pixel_spacing)
    metrics = dataset.task.metrics(thresholds, curves=config.report, added=added).to(machine.device)
    metrics.finder = finder = inference.finder
    scoring = Scoring(
        name=name,
        base=segmenter.backbone.identity.name,
        task=segmenter.task,
        method=segmenter.method.name,
        image_size=segmenter.preprocessing.image_size,
        tiling=segmenter.tiling,
        thresholds=thresholds,
        core_rise=finder.core_rise if finder is not None and "none" in asked_kinds(config.prompt) else None,
        metrics=metrics,
    )
    pin = machine.device.type == "cuda"
    together = config.batch_size if segmenter.tiling is None else 1
    loader = scoring_loader(dataset, batch_size=together, workers=worker_count(config.workers), pin=pin)
    batch: Batch
    done = 0
    for batch in loader:
        for at, query in zip(batch.image_index, batch.queries, strict=True):
            scoring.queries.setdefault(batch.indices[at], []).append(query)
        if batch.queries:
            inference.collect(batch.to(machine.device), metrics)
        done += len(batch)
        del batch  # else it is held while the next one is read
        if progress is not None:
            progress(done, len(dataset))
    return scoring


@torch.inference_mode()
def predict_masks(
    segmenter: SamSegmenter,
    dataset: PairDataset,
    shown: Mapping[int, Sequence[Query]],
    machine: Machine,
    *,
    thresholds: Thresholds,
) -> dict[Answer, np.ndarray]:
    """Masks ``(H, W)`` of the answers to some queries, by image."""
    inference = Inference(model=segmenter, task=dataset.task, machine=machine, tiling=segmenter.tiling)
    masks = {}
    for index, queries in shown.items():
        wanted = {(query.prompt.kind, query.label) for query in queries}
        sample = dataset[index]
        kept = [query for query in sample.queries if (query.prompt.kind, query.label) in wanted]
        if not kept:
            continue
        logits = inference.mask_logits(Batch.collate([sample._replace(queries=kept)]).to(machine.device))
        for at, query in enumerate(kept):
            full = segmenter.preprocessing.to_original_size(logits[at : at + 1], sample.original_size)[0]
            kind = query.prompt.kind
            masks[Answer(index, kind, query.label)] = (full.sigmoid() > thresholds[kind]).cpu().numpy()
    return masks


@torch.inference_mode()
def predict_objects(
    segmenter: SamSegmenter, dataset: PairDataset, indices: Iterable[int], machine: Machine, *, scoring: Scoring
) -> dict[int, ObjectPrediction]:
    """The objects that are found without prompts in some images, of a task with objects, as they were scored.

    Args:
        segmenter: What was scored.
        dataset: What it was scored on.
        indices: The images.
        machine: Where the segmenter is, and its precision.
        scoring: Its scores, at their thresholds, and of objects that were found as its metrics say.
    """
    inference = Inference(
        model=segmenter,
        task=dataset.task,
        machine=machine,
        tiling=segmenter.tiling,
        finder=scoring.metrics.finder,
    )
    found = {}
    for index in indices:
        sample = dataset[index]
        kept = [query for query in sample.queries if query.learned is not None]
        batch = Batch.collate([sample._replace(queries=kept)]).to(machine.device)
        (prediction,) = inference.predictions(batch, scoring.thresholds)
        assert isinstance(prediction, ObjectPrediction)
        found[index] = prediction
    return found


def telling_queries(scoring: Scoring, task: Task) -> dict[int, list[Query]]:
    """Of `telling_images` the queries whose answers are worth a picture."""
    rows = scoring.metrics.per_prompt()
    shown: dict[int, list[Query]] = {}
    for index in telling_images(scoring.metrics):

        def scores(query: Query, index: int = index) -> Mapping[str, float]:
            return rows[Answer(index, query.prompt.kind, query.label)]

        asked = [query for query in scoring.queries[index] if scoring.metrics.has_row(query)]
        shown[index] = task.telling_queries(asked, scores)
    return shown


def telling_images(metrics: OverlapMetrics, count: int = 3) -> dict[int, str]:
    """The images with the lowest, the middle and the highest IoU, and the worst of those without foreground.

    Args:
        metrics: Scores of a data set.
        count: How many of each; fewer in small sets, where each image counts once.

    Returns:
        Index to 'worst', 'median', 'best' or 'false alarm', in that order.
    """
    images = metrics.per_image()
    ranked = sorted((index for index, row in images.items() if not is_empty(row)), key=lambda at: images[at]["iou"])
    alarms = sorted((index for index, row in images.items() if is_empty(row)), key=lambda at: -images[at]["fp"])
    number = min(count, max(len(ranked) // 3, 1))
    middle = (len(ranked) - number) // 2
    found = dict.fromkeys(ranked[:number], "worst")
    for index in ranked[max(middle, 0) : middle + number]:
        found.setdefault(index, "median")
    for index in ranked[-number:]:
        found.setdefault(index, "best")
    return found | {index: "false alarm" for index in alarms[:count] if images[index]["fp"]}
