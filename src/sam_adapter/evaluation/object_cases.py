"""Pictures of the images whose objects were missed, merged or split most."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..batch import FOREGROUND, VOID, Annotation
from ..config.object_options import ObjectOptions
from ..data.dataset import PairDataset
from ..report.drawing import COLOURS, FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE
from ..report.figures import Picture
from ..report.objects import Drawn, fitted, object_map, outlined
from ..report.page import Case, legend
from ..tasks.metrics.matching import Overlaps, find_overlaps
from ..tasks.metrics.object_errors import ObjectErrors, object_errors
from ..tasks.object_prediction import ObjectPrediction
from .scoring import Scoring

MERGED, SPLIT = COLOURS[6], COLOURS[3]
"""Purple and yellow, beside white, orange and blue."""


def object_cases(dataset: PairDataset, scorings: Sequence[Scoring]) -> list[Case]:
    """A case for each of the images that tell most of the first model's objects.

    Args:
        dataset: The images with their ground truth.
        scorings: With objects of those images; the model in question first.
    """
    first = scorings[0]
    return [
        _case(dataset, scorings, index, words)
        for index, words in first.metrics.telling_wholes().items()
        if index in first.objects
    ]


def found_in_words(options: ObjectOptions, core_rises: Mapping[str, float | None]) -> str:
    """How objects were found without prompts, as sentences; empty where maps were split at cores and nothing more.

    Args:
        options: As they were asked for.
        core_rises: By name of the adapter, of the peaks that its objects were split at; None took no peaks.
    """
    if options.grid:
        return f"Objects were found by a grid of {options.grid} x {options.grid} points in each picture or tile."
    rises = {name: "no peaks" if rise is None else f"rise by {rise:g}" for name, rise in core_rises.items()}
    split = "Objects were split at peaks of their cores"
    if set(core_rises.values()) <= {None}:
        split = ""
    elif len(set(rises.values())) == 1:
        split += f" that {next(iter(rises.values()))}. "
    else:
        split += f": {', '.join(f'{name} {words}' for name, words in rises.items())}. "
    more = {
        "none": "",
        "scores": "Objects were ranked by asking for each by its box.",
        "outlines": "Objects have the outlines of the answers to their boxes.",
    }
    return (split + more[options.refine]).strip()


def object_legend() -> str:
    """What the colours of the pictures mean."""
    return legend(
        (TRUE_POSITIVE, "found"),
        (FALSE_NEGATIVE, "missed"),
        (FALSE_POSITIVE, "false"),
        (MERGED, "several objects merged into one"),
        (SPLIT, "one object split into several"),
    )


def _case(dataset: PairDataset, scorings: Sequence[Scoring], index: int, words: str) -> Case:
    name = dataset.records[index].name
    image, annotation = dataset.pair(index)
    small, true_small = fitted(image), fitted(annotation.labels.numpy())
    true_small[true_small == VOID] = 0
    pictures = [
        Picture(small, "image", f"Image {name}"),
        Picture(outlined(small, true_small), "true objects", f"Image {name} with the outlines of its objects"),
    ]
    said: list[str] = []
    for one in scorings:
        found = one.objects[index]
        overlaps, labels = _overlaps(annotation, found)
        errors = object_errors(overlaps, labels)
        said.append(counts_in_words(errors))
        drawn = errors_drawn(small, true_small, fitted(found.objects.labels), errors)
        alt = f"Objects of {one.name} on {name}: {said[-1]}"
        pictures.append(Picture(drawn, f"{one.name}: {said[-1]}", alt, exact=True))
    return Case(f"{words}: {name}, {said[0]}", pictures)


def _overlaps(annotation: Annotation, found: ObjectPrediction) -> tuple[Overlaps, range]:
    """Of true and found objects, and the labels of their classes."""
    truth, labels = annotation.labels.numpy(), found.objects.labels
    if found.classes is None:
        return find_overlaps(truth, labels), range(FOREGROUND, FOREGROUND + 1)
    overlaps = find_overlaps(truth, labels, true_classes=annotation.object_classes, found_classes=found.object_labels)
    return overlaps, range(FOREGROUND, FOREGROUND + len(found.classes.names))


def counts_in_words(errors: ObjectErrors) -> str:
    """``12 of 40 missed, 3 merged, 1 split, 5 false``."""
    true = len(errors.missed) + len(errors.matched)
    return (
        f"{len(errors.missed)} of {true} missed, {len(errors.merged)} merged, {len(errors.split)} split, "
        f"{len(errors.false)} false"
    )


def errors_drawn(image: np.ndarray, truth: np.ndarray, found: np.ndarray, errors: ObjectErrors) -> np.ndarray:
    """The objects in the colours of `object_legend`, none of them twice.

    Args:
        image: ``(H, W, 3)`` uint8.
        truth: ``(H, W)`` int32 numbers of the true objects.
        found: ``(H, W)`` int32 numbers of the found objects.
        errors: In numbers of both.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    objects = [
        Drawn(truth, np.setdiff1d(errors.missed, errors.split), FALSE_NEGATIVE),
        Drawn(found, np.setdiff1d(errors.matched, errors.merged), TRUE_POSITIVE),
        Drawn(found, np.setdiff1d(errors.false, errors.merged), FALSE_POSITIVE),
        Drawn(truth, errors.split, SPLIT),
        Drawn(found, errors.merged, MERGED),
    ]
    return object_map(image, objects)
