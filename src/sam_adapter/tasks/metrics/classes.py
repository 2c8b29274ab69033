"""Scores of class maps over all pixels of a set: IoU and Dice of each class, their means, pixel accuracy, confusion."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...batch import VOID, Annotation, Batch
from ...config.choices import ASKED_KINDS, AskedKind
from ...config.registry import MORE_METRICS, look_up
from ...preprocessing import MaskLogits, Preprocessing
from ..class_map import class_map
from ..pixels import bands
from .counts import Counts
from .means import bootstrap_weights, is_empty, with_interval
from .overlap import OverlapMetrics, joined


class ClassMetrics(OverlapMetrics):
    """Scores of single answers, as `OverlapMetrics`, and of the class maps that the answers about an image make.

    An answer is a class's mask; a class map is what a user gets: for each pixel one class, or background.

    Args:
        thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        names: Of the classes; the label of the first is 1.
        has_background: Whether a pixel may be without a class.
        **more: See `OverlapMetrics`.
    """

    confusions: list[Tensor]

    def __init__(
        self,
        thresholds: Mapping[AskedKind, float] | None = None,
        *,
        names: Sequence[str],
        has_background: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(thresholds, **more)
        self.names = tuple(names)
        self.has_background = has_background
        self.add_state("confusions", default=[], dist_reduce_fx="cat")

    def whole_sums(
        self, batch: Batch, mask_logits: MaskLogits, preprocessing: Preprocessing, within: slice | None = None
    ) -> list[Tensor]:
        """The confusion ``(K + 1, K + 1)`` of the class map of each image and kind of prompt; see `_maps`."""
        found = []
        for at, kind, asked in self._maps(batch):
            annotation = batch.annotations[at]
            assert annotation is not None
            labels = [batch.queries[query].label for query in asked]
            size, logits = batch.original_sizes[at], mask_logits[asked]
            found.append(self._count(logits, labels, annotation, size, preprocessing, kind, within))
        return found

    def collect_whole_sums(self, batch: Batch, sums: Sequence[Tensor]) -> None:
        """Add the class maps of a batch's images, one for each kind of prompt."""
        for (at, kind, _), counts in zip(self._maps(batch), sums, strict=True):
            self.confusions.append(self._rows(batch.indices[at], kind, counts))

    def _maps(self, batch: Batch) -> list[tuple[int, AskedKind, list[int]]]:
        """The class maps of a batch: position of the image, kind of prompt, and the queries that make it."""
        found = []
        for at in range(len(batch)):
            about = batch.queries_about(at)
            for kind in ASKED_KINDS:
                asked = [query for query in about if batch.queries[query].prompt.kind == kind]
                if asked:
                    found.append((at, kind, asked))
        return found

    def collect_nothing(self) -> None:
        """See `OverlapMetrics.collect_nothing`."""
        super().collect_nothing()
        self.confusions.append(torch.zeros(0, 5, dtype=torch.int64, device=self.device))

    def _count(
        self,
        logits: MaskLogits,
        labels: list[int],
        annotation: Annotation,
        size: tuple[int, int],
        preprocessing: Preprocessing,
        kind: AskedKind,
        within: slice | None,
    ) -> Tensor:
        """Pixels of each true label that got each answered one, ``(K + 1, K + 1)``; void counts nowhere."""
        sides = len(self.names) + 1
        counts = torch.zeros(sides * sides, dtype=torch.int64, device=logits.device)
        # With a prompt for each class that is there, what no answer claims is background also in full sets.
        threshold = self.thresholds[kind] if self.has_background else None
        for rows in bands(size, answers=len(labels), within=within):
            answered = class_map(logits, labels, size, preprocessing, threshold=threshold, rows=rows)
            truth = annotation.labels[rows or slice(None)]
            known = truth != VOID
            pairs = truth[known].long() * sides + answered[known].long()
            counts += torch.bincount(pairs, minlength=sides * sides)
        return counts.reshape(sides, sides)

    def _rows(self, index: int, kind: AskedKind, counts: Tensor) -> Tensor:
        """The counts that are not zero, ``(n, 5)``: image, kind, true label, answered label, pixels."""
        truth, answered = counts.nonzero(as_tuple=True)
        head = torch.tensor([index, ASKED_KINDS.index(kind)], device=counts.device).expand(len(truth), 2)
        return torch.cat([head, truth[:, None], answered[:, None], counts[truth, answered][:, None]], 1)

    def by_image(self) -> dict[AskedKind, dict[int, np.ndarray]]:
        """For each kind of prompt and image the pixels of each true label that got each answered one."""
        found: dict[AskedKind, dict[int, np.ndarray]] = {}
        for index, kind, truth, answered, pixels in joined(self.confusions).tolist():
            images = found.setdefault(ASKED_KINDS[int(kind)], {})
            if int(index) not in images:
                images[int(index)] = np.zeros((len(self.names) + 1,) * 2, np.int64)
            images[int(index)][int(truth), int(answered)] = pixels  # an image that two processes saw counts once
        return {kind: dict(sorted(found[kind].items())) for kind in ASKED_KINDS if kind in found}

    def compute(self) -> dict[str, float]:
        """Means over answers and images, see `OverlapMetrics.compute`, and scores of class maps over all pixels.

        Returns:
            Besides, for each kind of prompt and as the mean over the kinds: ``miou``, ``miou_with_background``,
            ``mdice`` (means over the classes that are true or answered anywhere), ``pixel_accuracy``, each with
            ``_low`` and ``_high``; and ``iou[NAME]``, ``dice[NAME]`` of each class. Of each class that is true
            anywhere also what was added: ``recall[NAME]`` and others of counts over all pixels like these, the others
            as `_class_means`.
        """
        result = super().compute()
        means = self._class_means()
        tables: dict[str, dict[str, np.ndarray]] = {}
        for kind, images in self.by_image().items():
            tables[f"_{kind}"] = _scores(np.stack(list(images.values())), self.names, self.added.names) | means[kind]
        if tables:
            kinds = list(tables.values())
            shared = [name for name in kinds[0] if all(name in one for one in kinds)]
            tables[""] = {name: np.mean([one[name] for one in kinds], 0) for name in shared}
        for suffix, scores in tables.items():
            for name, values in scores.items():
                if not np.isfinite(values[0]):
                    continue
                stem, bracket, rest = name.partition("[")
                if bracket:
                    result[f"{stem}{suffix}{bracket}{rest}"] = float(values[0])
                else:
                    result |= with_interval(f"{name}{suffix}", values)
        return result

    def _class_means(self) -> dict[AskedKind, dict[str, np.ndarray]]:
        """Added scores that need a whole answer: means over the images that have a class, of its own answers."""
        added = [name for name in self.added.means if MORE_METRICS[name].of == "answer"]
        values: dict[AskedKind, dict[str, list[float]]] = {kind: {} for kind in ASKED_KINDS}
        for answer, scores in self.per_prompt().items() if added else ():
            if not is_empty(scores):
                for name in added:
                    named = f"{name}[{self.names[answer.label - 1]}]"
                    values[answer.kind].setdefault(named, []).append(scores[name])
        return {
            kind: {name: np.mean(some, keepdims=True) for name, some in own.items()} for kind, own in values.items()
        }

    def details(self) -> dict[str, Any]:
        """The confusion matrices by kind of prompt."""
        labels = ["background", *self.names]
        counts = {kind: np.sum([*images.values()], 0).tolist() for kind, images in self.by_image().items()}
        return {"confusion": {"labels": labels, **counts}}


def _scores(confusions: np.ndarray, names: Sequence[str], added: Sequence[str]) -> dict[str, np.ndarray]:
    """Scores under the weights of `bootstrap_weights`.

    Args:
        confusions: ``(images, K + 1, K + 1)``.
        names: Of the K classes.
        added: Names in `MORE_METRICS`; those of counts are given for each class.

    Returns:
        By name ``(1 + samples,)``; NaN where a class is neither true nor answered, and of added ones where it is not
        true.
    """
    right = np.diagonal(confusions, axis1=1, axis2=2)  # (images, K + 1)
    true, answered = confusions.sum(2), confusions.sum(1)
    weights = bootstrap_weights(len(confusions))
    right, true, answered = (weights @ one for one in (right, true, answered))  # (1 + samples, K + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = right / (true + answered - right)
        dice = 2 * right / (true + answered)
        found = {
            "miou": _mean(iou[:, 1:]),
            "miou_with_background": _mean(iou),
            "mdice": _mean(dice[:, 1:]),
            "pixel_accuracy": right.sum(1) / true.sum(1),
        }
    total = true.sum(1, keepdims=True)
    pixels = (right, answered - right, true - right, total - true - answered + right)
    counts = Counts(*map(torch.from_numpy, (*pixels, np.full_like(right, np.nan))))  # there are no probabilities
    columns = {"iou": iou, "dice": dice}
    for score in added:
        if MORE_METRICS[score].of == "counts":
            columns[score] = np.where(true > 0, look_up(MORE_METRICS, score)(counts).numpy(), np.nan)
    for at, name in enumerate(names, start=1):
        found |= {f"{score}[{name}]": values[:, at] for score, values in columns.items()}
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over columns without NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    return np.where(known.any(1), np.where(known, values, 0).sum(1) / np.maximum(known.sum(1), 1), np.nan)
