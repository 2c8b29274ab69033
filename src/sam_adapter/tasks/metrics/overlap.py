"""IoU, Dice, mean absolute error and balanced error rate by kind of prompt, every image counted once for each.

Scores that ``--metrics`` adds go beside them; see `AddedScores`.

Images without foreground are counted apart: their IoU can only be 0 or 1, and a mean with them in it says how many of
them there are, not how good the masks are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from ...batch import FOREGROUND, Annotation, Batch, Query
from ...config.choices import ASKED_KINDS, AskedKind
from ...config.registry import METRICS
from ...preprocessing import MaskLogits, Preprocessing
from ...system.float64 import device_with_float64, with_float64
from ..object_finder import ObjectFinder
from ..pixels import Reduce
from .added import AddedScores
from .counts import count_pixels, scores_of
from .full_size_answer import FullSizeAnswer, answers_of
from .means import COLUMNS, Answer, balanced_error_rate, is_empty, means_of_image, means_over_images, shares_of_answers
from .precision_recall import LEVELS, ThresholdCurve
from .thresholds import STEPS, best_threshold, level_counts, level_ious


class OverlapMetrics(Metric):
    """Collects one row for each image and kind of prompt, in one process or many, and gives the means over the set.

    Rows carry the image's index, so an image that several processes saw (as a distributed sampler deals them out)
    counts once.

    Args:
        thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        search: Whether the best threshold of each kind is looked for, and with objects the best way to split them.
        curves: Whether scores at every threshold are collected for each kind, in this process alone.
        added: Scores beside those that every run has.
        **kwargs: Of torchmetrics' ``Metric``.

    Attributes:
        finder: From `Task.finder`; None where maps are split at cores that do not touch, or there are no objects.
    """

    full_state_update = False
    keys: list[Tensor]
    rows: list[Tensor]
    ious: list[Tensor]

    def __init__(
        self,
        thresholds: Mapping[AskedKind, float] | None = None,
        *,
        search: bool = False,
        curves: bool = False,
        added: AddedScores | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.thresholds = dict.fromkeys(ASKED_KINDS, 0.5) | dict(thresholds or {})
        self.search = search
        self.added = added or AddedScores()
        self.curves: dict[AskedKind, ThresholdCurve] | None = {} if curves else None
        self.finder: ObjectFinder | None = None
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("ious", default=[], dist_reduce_fx="cat")

    def reduces(self, batch: Batch) -> list[Reduce]:
        """What is to be summed over the pixels of the answers to a batch, for `collect`: `count_pixels` first."""

        def counts(logits: Tensor, target: Tensor, counted: Tensor | None, members: list[int]) -> Tensor:
            thresholds = [self.thresholds[batch.queries[at].prompt.kind] for at in members]
            chosen = logits.new_tensor(thresholds)[:, None, None]
            return count_pixels(logits.detach().sigmoid(), target, chosen, valid=counted)

        wanted: list[Reduce] = [counts]
        if self.search:
            wanted.append(level_counts(STEPS))
        if self.curves is not None:
            wanted.append(level_counts(LEVELS))
        return wanted

    @property
    def needs_whole(self) -> bool:
        """Whether scores need the answer about all of a picture at once: sums over its rows are not enough."""
        return self.added.needs_whole

    def answers(self, mask_logits: MaskLogits, batch: Batch, preprocessing: Preprocessing) -> Iterator[FullSizeAnswer]:
        """The whole answers to a batch for `collect`, which makes them if a score needs them; see `answers_of`."""
        return answers_of(mask_logits, batch, preprocessing, self.thresholds, self.added.spacing)

    def collect(
        self, batch: Batch, sums: Sequence[Tensor], loss: Tensor | None = None, answers: Iterable[FullSizeAnswer] = ()
    ) -> None:
        """Add the scores of a batch.

        Args:
            batch: What was asked.
            sums: For each of `reduces` the sums over all pixels.
            loss: Of each query ``(Q,)``, if it is to be averaged too.
            answers: From `answers`; they may be left out where no added score needs them.
        """
        rows, levels = scores_of(sums[0]), list(sums[1:])
        added = self.added.of(sums[0], answers)
        ious = level_ious(levels.pop(0)) if self.search else None
        for at, (query, image) in enumerate(zip(batch.queries, batch.image_index, strict=True)):
            if not self.has_row(query):
                continue
            kind = query.prompt.kind
            self.update(
                batch.indices[image],
                rows[at],
                kind=kind,
                label=query.label,
                loss=None if loss is None else loss[at],
                ious=None if ious is None else ious[at],
                added=added[at],
            )
            if self.curves is not None:
                self.curves.setdefault(kind, ThresholdCurve()).add(levels[-1][at])

    def has_row(self, query: Query) -> bool:
        """Whether the answer to a query is scored by itself."""
        return True

    def collect_whole(self, batch: Batch, mask_logits: MaskLogits, preprocessing: Preprocessing) -> None:
        """Add scores that are not of single answers; for the arguments see `whole_sums`."""
        self.collect_whole_sums(batch, self.whole_sums(batch, mask_logits, preprocessing))

    def whole_sums(
        self, batch: Batch, mask_logits: MaskLogits, preprocessing: Preprocessing, within: slice | None = None
    ) -> list[Tensor]:
        """What scores that are not of single answers are made of; there are none here.

        Args:
            batch: What was asked.
            mask_logits: ``(Q, h, w)``.
            preprocessing: How logits come to original size.
            within: Rows of the images; None takes all. Sums over some rows and over the others add up.
        """
        return []

    def collect_whole_sums(self, batch: Batch, sums: Sequence[Tensor]) -> None:
        """Add scores that are not of single answers, from `whole_sums` of all rows."""

    def collect_mask(self, index: int, annotation: Annotation, mask: np.ndarray) -> None:
        """Add scores of what a whole mask ``(H, W)`` bool of an image is split into; there are none here."""

    def telling_wholes(self) -> dict[int, str]:
        """Images worth a picture of all that was answered about them, each with the reason; there are none here."""
        return {}

    def details(self) -> dict[str, Any]:
        """What else is known of the set, for metrics.json."""
        return {}

    def update(
        self,
        index: int,
        row: Tensor,
        *,
        kind: AskedKind,
        label: int = FOREGROUND,
        loss: Tensor | None = None,
        ious: Tensor | None = None,
        added: Tensor | None = None,
    ) -> None:
        """Add the `score` of one answer, and its loss where there is one.

        Args:
            index: The image.
            row: ``(len(COLUMNS),)`` from `score`.
            kind: Of the prompt. It does not matter for an image without foreground.
            label: What was asked for.
            loss: A scalar.
            ious: ``(63,)`` from `threshold_ious`; given for all answers or for none.
            added: ``(len(added.columns),)`` from `AddedScores.of`.
        """
        more = row.new_empty(0) if added is None else added.to(row)
        if len(more) != len(self.added.columns):
            raise ValueError(
                f"expected values of {', '.join(self.added.columns) or 'no added score'}, got {len(more)}."
            )
        if ious is not None:
            self.ious.append(ious[None])
        self.keys.append(torch.tensor([[index, ASKED_KINDS.index(kind), label]], device=row.device))
        extra = row.new_full((1,), float("nan")) if loss is None else with_float64(loss.detach()).to(row)[None]
        self.rows.append(torch.cat([row, more, extra])[None])

    def collect_nothing(self) -> None:
        """Add no row for a batch about which nothing was asked.

        Processes give one another tensors of equal numbers of dimensions, also those that have no rows.
        """
        columns = len(COLUMNS) + len(self.added.columns) + 1
        empty = torch.zeros(0, columns, dtype=torch.float64, device=device_with_float64(self.device))
        self.keys.append(empty.new_zeros(0, 3, dtype=torch.int64))
        self.rows.append(empty)
        if self.search:
            self.ious.append(empty.new_zeros(0, STEPS - 1, dtype=torch.float32))

    def per_prompt(self) -> dict[Answer, dict[str, float]]:
        """Scores of each answer: `COLUMNS`, added ones, ``ber`` in percent, and ``loss``, which is NaN without one.

        Answers about an image of which no pixel counts are left out.
        """
        keys, rows = joined(self.keys), joined(self.rows)
        result: dict[Answer, dict[str, float]] = {}
        for (index, kind, label), row in sorted(zip(keys.tolist(), rows.tolist(), strict=True)):
            if sum(row[len(METRICS) : len(COLUMNS)]):
                scores = dict(zip((*COLUMNS, *self.added.columns, "loss"), row, strict=True))
                scores["ber"] = balanced_error_rate(*row[len(METRICS) : len(COLUMNS)])
                result[Answer(index, ASKED_KINDS[kind], label)] = scores
        return result

    def per_image(self, kind: AskedKind | None = None) -> dict[int, dict[str, float]]:
        """Scores of each image by index, as in `per_prompt`.

        Of several classes those that the image has count, and the others where it has none; in the loss all count.
        Each kind of prompt counts alike, however many answers it has: one a class, or one an object.

        Args:
            kind: Of the prompt; None gives the mean over the kinds that the image was asked with.
        """
        answers: dict[int, dict[AskedKind, list[dict[str, float]]]] = {}
        for answer, scores in self.per_prompt().items():
            if kind is None or answer.kind == kind or is_empty(scores):
                answers.setdefault(answer.index, {}).setdefault(answer.kind, []).append(scores)
        return {index: means_of_image([*kinds.values()]) for index, kinds in answers.items()}

    def compute(self) -> dict[str, float]:
        """Means over images, with intervals.

        Returns:
            For each kind of prompt ``iou_box``, ``dice_box``, ``mae_box``, ``ber_box`` and so on over the images with
            foreground, and ``iou``, ``dice``, ``mae``, ``ber`` as means over the kinds; ``ber`` is in percent over all
            pixels of those images. Each with ``_low`` and ``_high``: the interval that holds the value in 95 % of
            samples of as many images drawn from these (bootstrap, the same every time), if there are several. They are
            absent if no image has foreground. ``answered_empty_box`` is the share of images with foreground that were
            answered with nothing, ``answered_full_box`` that of images with background that were answered with
            everything.
            ``best_threshold_box`` is the threshold at which the mean IoU is best, if IoU at thresholds was given.
            Added scores are means like IoU, but for those that only a whole set has, see `AddedScores.over_set`.
            ``images`` and ``empty`` count images, and ``empty_correct`` is the share of the empty ones
            that were answered with nothing, absent if there are none; ``absent_correct`` the same of classes that an
            image with others has not. ``loss``, where it was given, is the mean over
            all images of the mean over the kinds.

        Raises:
            ValueError: If there is no image; images of which no pixel counts are images, though not counted.
        """
        if not len(joined(self.keys)):
            raise ValueError("no image was scored")
        answers = self.per_prompt()
        images = self.per_image()
        nothing = [(answer.index, scores) for answer, scores in answers.items() if is_empty(scores)]
        empty = [scores for index, scores in nothing if is_empty(images[index])]
        absent = [scores for index, scores in nothing if not is_empty(images[index])]
        result: dict[str, float] = {}
        if filled := {key: scores for key, scores in answers.items() if not is_empty(scores)}:
            result |= (
                means_over_images(filled, self.added.means) | shares_of_answers(filled) | self._best_thresholds(filled)
            )
        result |= self.added.over_set(answers)
        result |= {"images": len(images), "empty": sum(map(is_empty, images.values()))}
        for name, some in (("empty_correct", empty), ("absent_correct", absent)):
            if some:
                result[name] = sum(not scores["fp"] for scores in some) / len(some)
        losses = [scores["loss"] for scores in images.values()]
        if not all(np.isnan(losses)):
            result["loss"] = sum(losses) / len(losses)
        return result

    def _best_thresholds(self, answers: Iterable[Answer]) -> dict[str, float]:
        """See `compute`; of the answers about images with foreground."""
        ious = joined(self.ious)
        if not len(ious):
            return {}
        keys = [(index, ASKED_KINDS[kind], label) for index, kind, label in joined(self.keys).tolist()]
        rows = dict(zip(keys, ious, strict=True))
        chosen: dict[str, list[Tensor]] = {}
        for answer in answers:
            chosen.setdefault(answer.kind, []).append(rows[answer])
        return {f"best_threshold_{kind}": best_threshold(torch.stack(some).mean(0)) for kind, some in chosen.items()}


def joined(states: list[Tensor] | Tensor) -> Tensor:
    """A list state is one tensor once it was gathered."""
    if isinstance(states, Tensor):
        return states
    return torch.cat(states) if states else torch.empty(0)
