"""Pictures of the images that tell most about a model: what was asked, what is true, and what each model got wrong."""

from collections.abc import Mapping, Sequence

from ..batch import Query
from ..config.choices import AskedKind
from ..data.dataset import PairDataset
from ..report.drawing import error_map, overlay, with_prompt
from ..report.figures import Picture, mask_picture
from ..report.page import Case, error_legend
from ..tasks.metrics import Answer, is_empty
from .scoring import Scoring, telling_images, telling_queries

WITH: dict[AskedKind, str] = {
    "box": "with box",
    "points": "with points",
    "none": "no prompt",
    "mask": "with mask",
}
OUTLINES = 150
"""Outlines are this part of a picture's longer side, as pages show pictures small."""


def telling_cases(dataset: PairDataset, scorings: Sequence[Scoring]) -> list[Case]:
    """A case for each of `telling_images` of the first model and each prompt that the image was asked with.

    Args:
        dataset: The images with their ground truth.
        scorings: With masks of those images; the model in question first.
    """
    found = telling_images(scorings[0].metrics)
    scores = [one.metrics.per_prompt() for one in scorings]
    shown = telling_queries(scorings[0], dataset.task)
    return [
        _case(dataset, scorings, scores, index, rank, query) for index, rank in found.items() for query in shown[index]
    ]


def case_legend(dataset: PairDataset, scorings: Sequence[Scoring]) -> str:
    """What the colours of the error maps mean, with the void if there is any."""
    void = any(dataset.pair(index)[1].has_void for index in telling_images(scorings[0].metrics))
    return error_legend(void=void)


def _case(
    dataset: PairDataset,
    scorings: Sequence[Scoring],
    scores: Sequence[Mapping[Answer, dict[str, float]]],
    index: int,
    rank: str,
    query: Query,
) -> Case:
    first, name, prompt = scorings[0], dataset.records[index].name, query.prompt
    key = Answer(index, prompt.kind, query.label)
    image, annotation = dataset.pair(index)
    target, counted = annotation.target(query.label).numpy(), annotation.counted_array()
    tinted = overlay(image, first.masks[key], width=max(round(max(image.shape) / OUTLINES), 1))
    pictures = [
        Picture(with_prompt(image, prompt), "image", f"Image {name}"),
        Picture(mask_picture(target), "ground truth", f"Ground truth mask of {name}", exact=True),
        Picture(tinted, f"prediction of {first.name}", f"Image {name} with the predicted mask tinted and outlined"),
    ]
    for one, rows in zip(scorings, scores, strict=True):
        row = rows[key]
        alt = f"Errors of {one.name} on {name}: {row['fp']:.0f} pixels wrongly marked, {row['fn']:.0f} missed"
        drawn = error_map(image, one.masks[key], target, counted)
        pictures.append(Picture(drawn, f"errors of {one.name}, {_result(row)}", alt, exact=True))
    task = dataset.task
    words = f", {task.asked_for} {task.asked_name(query.label)}" if task.asked_for else ""
    words += "" if len(first.queries[index]) == 1 else f", {WITH[prompt.kind]}"
    return Case(f"{rank}: {name}{words}, {_result(scores[0][key])}", pictures)


def _result(row: dict[str, float]) -> str:
    return f"{row['fp']:.0f} px wrongly marked" if is_empty(row) else f"IoU {row['iou']:.3f}"
