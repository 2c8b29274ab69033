"""Pictures of the images that tell most about a model: what was asked, what is true, and what each model got wrong."""

from collections.abc import Sequence

import numpy as np

from ..data.dataset import PairDataset
from ..drawing import error_map, overlay, with_prompt
from ..metrics import is_empty
from ..options import AskedKind
from ..scoring import Scoring, telling_images
from .figures import Picture, mask_picture
from .page import Case, error_legend

WITH: dict[AskedKind, str] = {"box": "with box", "points": "with points", "none": "no prompt"}


def telling_cases(dataset: PairDataset, scorings: Sequence[Scoring]) -> list[Case]:
    """A case for each of `telling_images` of the first model.

    Args:
        dataset: The images with their ground truth.
        scorings: With masks of those images; the model in question first.
    """
    found = telling_images(scorings[0].metrics)
    return [_case(dataset, scorings, index, kind) for index, kind in found.items()]


def case_legend(dataset: PairDataset, scorings: Sequence[Scoring]) -> str:
    """What the colours of the error maps mean, with the void if there is any."""
    void = any(dataset.pair(index)[2] is not None for index in telling_images(scorings[0].metrics))
    return error_legend(void=void)


def _case(dataset: PairDataset, scorings: Sequence[Scoring], index: int, rank: str) -> Case:
    first, name = scorings[0], dataset.records[index].name
    image, target, valid = dataset.pair(index)
    asked = image
    for prompt in first.prompts[index]:
        asked = with_prompt(asked, prompt)
    pictures = [
        Picture(asked, "image", f"Image {name}"),
        Picture(mask_picture(target), "ground truth", f"Ground truth mask of {name}", exact=True),
    ]
    kinds: list[AskedKind] = [prompt.kind for prompt in first.prompts[index]]
    for kind in kinds:
        words = "" if len(kinds) == 1 else f", {WITH[kind]}"
        alt = f"Image {name} with the predicted mask{words} tinted and outlined"
        pictures.append(Picture(overlay(image, first.masks[index, kind]), f"prediction of {first.name}{words}", alt))
        pictures += [_errors(one, (index, kind), name, words, image, target, valid) for one in scorings]
    row = first.metrics.per_image()[index]
    return Case(f"{rank}: {name}, {_result(row)}", pictures)


def _errors(
    scoring: Scoring,
    key: tuple[int, AskedKind],
    name: str,
    words: str,
    image: np.ndarray,
    target: np.ndarray,
    valid: np.ndarray | None,
) -> Picture:
    row = scoring.metrics.per_prompt()[key]
    alt = f"Errors of {scoring.name}{words} on {name}: {row['fp']:.0f} pixels wrongly marked, {row['fn']:.0f} missed"
    caption = f"errors of {scoring.name}{words}, {_result(row)}"
    return Picture(error_map(image, scoring.masks[key], target, valid), caption, alt, exact=True)


def _result(row: dict[str, float]) -> str:
    return f"{row['fp']:.0f} px wrongly marked" if is_empty(row) else f"IoU {row['iou']:.3f}"
