"""Scores of an adapter, or of a SAM as it is, on a folder of images and masks."""

import csv
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..annotations.known import KIND as KNOWN_SET
from ..annotations.listing import Record
from ..annotations.reading.rules import ReadingRules
from ..annotations.run_lengths import run_lengths_of_part
from ..batch import Prompt, Query
from ..checkpoints.adapter import known_classes, load
from ..checkpoints.embeddings import embedding_folder, shared_embeddings
from ..config.choices import ASKED_KINDS, MIXED_KINDS, AskedKind, asked_kinds
from ..config.commands import EvaluateConfig
from ..config.registry import DEFAULT_TASK, TASKS, look_up
from ..config.scores import HEADINGS
from ..data.dataset import PairDataset
from ..data.inspection.inspect import inspect
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..system.writing import remove_leftovers, require_writable, written_beside
from ..tasks.base import Task
from ..tasks.metrics import OverlapMetrics, is_empty
from ..tiling.grid import Tiling
from .baselines import BASELINES, score_baselines
from .comparable import require_comparable
from .published import published_scores
from .scoring import Progress, Scoring, Thresholds, predict_masks, predict_objects, score_records, telling_queries

log = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Evaluate as configured and write metrics.json, per_image.csv, prompts.json and, if asked for, report.html.

    Args:
        config: What to score on what.
        progress: Called with (images done, images in all).

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: If a folder is missing or cannot be written into, or the best threshold of an adapter is asked for
            and not known.
        DataError: If files are faulty.
        CheckpointError: If the adapter or the base cannot be loaded.
    """
    require_writable(config.output)
    remove_leftovers(config.output)
    described = require_comparable(config)
    task = None if described is None else described.task
    found = inspect(config, task=task, classes=None if described is None else known_classes(described))
    records = found.usable(config)
    for remark in found.remarks:
        if remark.kind in ("void_everywhere", KNOWN_SET):
            log.warning("%s", remark.in_words())
    machine = Machine.asked(config)
    machine.prepare_process()
    scorings, pairs = _score_all(config, records, found.rules, machine, progress)
    added = scorings[0].metrics.added
    baselines = score_baselines(pairs, scorings[0].queries, added) if config.with_frozen else {}
    result = _result(config, scorings, baselines)
    result |= {"empty_masks": len(found.empty), "skipped_faulty": len(found.faults)}
    result["skipped_void"] = len(found.records) - len(records)
    _write_json(config.output / "metrics.json", result)
    asked = (
        prompts_as_json(pairs.records, scorings[0].prompts, config)
        if pairs.task.asked_for is None
        else asked_labels_as_json(pairs, scorings[0].queries)
    )
    _write_json(config.output / "prompts.json", asked)
    per_model = {one.name: one.metrics for one in scorings} | baselines
    _write_per_image(config.output / "per_image.csv", pairs, per_model)
    if config.report:
        from .page import write_scores_page

        write_scores_page(config.output / "report.html", config, pairs, scorings, baselines)
    elif (config.output / "report.html").is_file():
        log.warning(
            "output: 'report.html' in '%s' is of an earlier evaluation; --report true writes it again.", config.output
        )
    return result


def _score_all(
    config: EvaluateConfig,
    records: list[Record],
    reading: ReadingRules,
    machine: Machine,
    progress: Progress | None,
) -> tuple[list[Scoring], PairDataset]:
    """Scores of all models, the first one's as `_contenders` gives them, and its data set."""
    scorings: list[Scoring] = []
    datasets: list[PairDataset] = []
    shown: Mapping[int, Sequence[Query]] = {}
    wholes: Mapping[int, str] = {}
    told: list[str] = []  # bases of several families may attend in several ways
    with embedding_folder(config) as kept:
        for name, segmenter in _contenders(config):
            segmenter = segmenter.suited_to(machine, for_good=True).to(machine.device).train(False)
            if (place := segmenter.backbone.on(machine)) not in told:
                log.info("Computing on %s", place)
                told.append(place)
            segmenter.reading = reading.with_brightness_of(segmenter.reading)
            segmenter.tiling = Tiling.asked(config.tile, config.overlap, segmenter.tiling)
            dataset = _dataset(segmenter, records, config)
            if kept is not None and segmenter.leaves_encoder and segmenter.tiling is None:
                dataset.embeddings = shared_embeddings(kept, records, segmenter, config, machine, progress)
            thresholds = _thresholds(segmenter, config)
            scoring = score_records(
                segmenter, dataset, config, machine, name=name, thresholds=thresholds, progress=progress
            )
            if config.report and not scorings:
                shown = telling_queries(scoring, dataset.task)
                wholes = scoring.metrics.telling_wholes()
            scoring.masks.update(predict_masks(segmenter, dataset, shown, machine, thresholds=thresholds))
            scoring.objects.update(predict_objects(segmenter, dataset, wholes, machine, scoring=scoring))
            scorings.append(scoring)
            datasets.append(dataset)
    return scorings, datasets[0]


def _result(config: EvaluateConfig, scorings: list[Scoring], baselines: Mapping[str, OverlapMetrics]) -> dict[str, Any]:
    """What metrics.json holds of the scores."""
    first = scorings[0]
    result: dict[str, Any] = {"task": first.task, "prompt": config.prompt, "model": first.base, "method": first.method}
    if config.prompt == "mask":
        result["mask_error"] = config.mask_error
    result |= {**_scores(first), "image_size": first.image_size}
    if first.tiling is not None:
        result |= asdict(first.tiling)
    result |= config.finding
    if config.added_metrics:
        result |= {"metrics": list(config.added_metrics), "spacing": list(config.pixel_spacing)}
    if config.with_frozen:
        result["frozen"] = _scores(scorings[1])
        result["baselines"] = {name: metrics.compute() for name, metrics in baselines.items()}
    if published := published_scores(config.known, first.task):
        result["published"] = published
    if config.compare:
        result["compared"] = {one.name: _scores(one) for one in scorings[-len(config.compare) :]}
    return result


def run_names(adapters: list[Path]) -> list[str]:
    """Short names of adapter folders, no two of them the same and none that of another row.

    A name is that of the run's folder. Where another row has it, it is the whole path as given, and where that is taken
    too, the path with a number behind it.
    """
    rows = {"frozen", *BASELINES, *BASELINES.values()}
    short = [path.resolve().parent.name if path.name == "adapter" else path.name for path in adapters]
    unique = {name for name in short if name and short.count(name) == 1} - rows
    taken = rows | unique
    names = []
    for name, path in zip(short, adapters, strict=True):
        if name not in unique:
            numbered = (f"{path} ({number})" for number in itertools.count(2))
            name = next(one for one in itertools.chain([str(path)], numbered) if one not in taken)
            taken.add(name)
        names.append(name)
    return names


def asked_labels_as_json(pairs: PairDataset, queries: Mapping[int, Sequence[Query]]) -> dict[str, list[dict[str, Any]]]:
    """What was asked about each image: image to a list of prompts, each with its class or object."""
    task = pairs.task
    assert task.asked_for is not None
    return {
        f"{pairs.records[index].name}{pairs.records[index].image.suffix}": [
            {
                task.asked_for: task.asked_name(query.label),
                "learned": query.learned is not None,
                **_prompt_as_json(query.prompt),
            }
            for query in asked
        ]
        for index, asked in sorted(queries.items())
    }


def prompts_as_json(
    records: Sequence[Record], prompts: Mapping[int, Sequence[Prompt]], config: EvaluateConfig
) -> dict[str, Any]:
    """What was asked about each image.

    Returns:
        Image to prompt, in the form that ``predict --prompts`` reads; images without a prompt have no entry. Where
        several kinds were asked: each kind to such a table, and 'none' to the list of images asked without a prompt.
    """
    tables: dict[AskedKind, dict[str, Any]] = {kind: {} for kind in ASKED_KINDS}
    for index, asked in sorted(prompts.items()):
        name = f"{records[index].name}{records[index].image.suffix}"
        for prompt in asked:
            tables[prompt.kind][name] = _prompt_as_json(prompt)
    if config.prompt == "mixed":
        return {**{kind: tables[kind] for kind in MIXED_KINDS}, "none": list(tables["none"])}
    return tables[config.prompt] if config.prompt != "none" else {}


def _prompt_as_json(prompt: Prompt) -> dict[str, Any]:
    if prompt.mask is not None:
        mask = prompt.mask
        return {"mask": run_lengths_of_part(mask.pixels.numpy(), (mask.part.top, mask.part.left), mask.size)}
    if prompt.box is not None:
        return {"box": prompt.box.tolist()}
    if prompt.points is not None and prompt.point_labels is not None:
        return {"points": prompt.points.tolist(), "labels": prompt.point_labels.tolist()}
    return {}


def _contenders(config: EvaluateConfig) -> Iterator[tuple[str, SamSegmenter]]:
    """The models to score with their names, one in memory at a time: the first, its base, and those to compare."""
    segmenter = load(config.adapter, model=config.model, image_size=config.image_size)
    if config.adapter is None:
        segmenter.task = config.task or DEFAULT_TASK
    base, preprocessing, reading = segmenter.backbone.identity.name, segmenter.preprocessing, segmenter.reading
    if config.adapter is None:
        yield base, segmenter
        return
    names = run_names([config.adapter, *config.compare])
    yield names[0], segmenter
    if config.with_frozen:
        frozen = SamSegmenter.frozen(
            config.model or base, preprocessing=preprocessing, task=segmenter.task, class_names=segmenter.class_names
        )
        frozen.reading = reading
        frozen.tiling = segmenter.tiling
        yield "frozen", frozen
    for name, adapter in zip(names[1:], config.compare, strict=True):
        yield name, load(adapter, model=config.model)


def _dataset(segmenter: SamSegmenter, records: list[Record], config: EvaluateConfig) -> PairDataset:
    assert segmenter.reading is not None
    task: Task = look_up(TASKS, segmenter.task).from_options(config, segmenter.reading.classes)
    return PairDataset(
        records,
        segmenter.preprocessing,
        task,
        reading=segmenter.reading,
        seed=config.seed,
        tiled=segmenter.tiling is not None,
    )


def _thresholds(segmenter: SamSegmenter, config: EvaluateConfig) -> Thresholds:
    """A best one is known for the kinds that are asked, and of adapters alone; elsewhere it is the segmenter's own."""
    chosen = config.threshold
    known = asked_kinds(config.prompt) if segmenter.method.name != "none" else ()
    return {
        kind: segmenter.threshold_for(kind, chosen if chosen != "best" or kind in known else None)
        for kind in ASKED_KINDS
    }


def _scores(scoring: Scoring) -> dict[str, Any]:
    """Means, and the thresholds and peaks that they were taken at; ``threshold`` is 'best' if kinds have their own."""
    scores: dict[str, Any] = {**scoring.metrics.compute()}
    asked = {kind: value for kind, value in scoring.thresholds.items() if f"iou_{kind}" in scores}
    asked = asked or dict(scoring.thresholds)
    values = set(asked.values())
    scores |= scoring.metrics.details()
    scores |= {} if scoring.core_rise is None else {"core_rise": scoring.core_rise}
    return {**scores, "threshold": values.pop() if len(values) == 1 else "best", "thresholds": asked}


def _write_json(path: Path, value: Any) -> None:
    with written_beside(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_per_image(path: Path, pairs: PairDataset, models: Mapping[str, OverlapMetrics]) -> None:
    """A line for each image, model, kind of prompt and class; what is not there has counts and no scores of a mask."""
    task, added = pairs.task, next(iter(models.values())).added
    head = ("name", "model", "prompt", *([task.asked_for] if task.asked_for else []))
    columns = (*head, *HEADINGS, *added.columns, "tp", "fp", "fn", "tn")
    with written_beside(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, extrasaction="ignore")
        writer.writeheader()
        for model, metrics in models.items():
            for answer, scores in metrics.per_prompt().items():
                name = pairs.records[answer.index].name
                row: dict[str, Any] = {"name": name, "model": model, "prompt": answer.kind, **scores}
                row |= {task.asked_for: task.asked_name(answer.label)} if task.asked_for else {}
                row |= {name: int(scores[name]) for name in ("tp", "fp", "fn", "tn")}
                if is_empty(scores):
                    row |= dict.fromkeys((*HEADINGS, *added.means), "")
                writer.writerow(row)
