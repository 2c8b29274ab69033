"""The loss of each query of a batch: of its answer, and of the answers after correction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..batch import Batch, Prompt
from ..config.choices import AskedKind
from ..segmenter import SamSegmenter
from ..tasks.base import Task
from ..tasks.metrics import COLUMNS, scores_of
from ..tasks.pixels import sum_over_pixels
from .corrections import chosen, corrected, prompted
from .losses.base import WeightedLosses

Terms = dict[str, Tensor]
"""The terms of the loss of some queries by name, ``(Q,)`` each."""


@dataclass(frozen=True, kw_only=True)
class QueryLosses:
    """Losses of answers in training.

    Attributes:
        segmenter: What is trained.
        task: What is asked, and which of the masks is the answer.
        loss: Of masks.
        thresholds: Of the IoU that is logged, by kind of prompt.
        quality: Whether the squared error of the predicted quality is added.
        multimask: Whether the best of three masks is taken too for queries of one point.
        rounds: How often queries with prompts are asked again with a correction.
        seed: Of the corrections.
    """

    segmenter: SamSegmenter
    task: Task
    loss: WeightedLosses
    thresholds: Mapping[AskedKind, float]
    quality: bool
    multimask: bool
    rounds: int
    seed: int

    def of_nothing(self, trained: Sequence[nn.Parameter]) -> tuple[Tensor, Terms]:
        """What `of` gives for a batch without queries, ``(0,)`` each, with a gradient of zero of what is trained."""
        # Not of what a query may leave alone, see MethodSettings.some_untouched: without any gradient the optimiser
        # leaves that alone too, with one of zero it goes on as it went.
        some = set(self.segmenter.backbone.part("prompt_encoder").parameters())
        own = [one for one in trained if one not in some] or trained
        nothing = torch.stack([0.0 * parameter.sum() for parameter in own]).sum()[None][:0]
        terms = (*self.loss.weights, *(["quality"] if self.quality else []))
        return nothing, dict.fromkeys(("loss", "iou", *(f"loss_{name}" for name in terms)), nothing)

    def of(self, batch: Batch, *, epoch: int) -> tuple[Tensor, Terms]:
        """Loss of each query ``(Q,)`` of a batch that has some; and by name the same, its terms, and the IoU.

        Those of answers after correction are added; the IoU is that of the first answer.
        """
        if (self.rounds or self.multimask) and batch.pixel_values is not None:  # encoded once, whatever is asked
            encoded = self.segmenter.encode(batch.pixel_values)
            batch = replace(batch, pixel_values=None, encoded=encoded)
        logits, terms, ious = self._of_answers(batch)
        if self.multimask:
            terms = self._with_best_of_three(batch, terms)
        members = prompted(batch) if self.rounds else []
        asked = batch
        for turn in range(self.rounds if members else 0):
            if turn == 0:
                asked, logits = chosen(batch, members), logits[members]
            asked = corrected(
                asked,
                logits,
                self.segmenter.preprocessing,
                mask_side=self.segmenter.backbone.mask_input_size,
                seed=(self.seed, epoch, turn),
            )
            logits, more, _ = self._of_answers(asked)
            at = torch.tensor(members, device=logits.device)
            terms = {name: values.index_add(0, at, more[name]) for name, values in terms.items()}
        losses = self.loss.weighted({name: terms[name] for name in self.loss.weights})
        if self.quality:
            losses = losses + terms["quality"]
        return losses, {"loss": losses, "iou": ious, **{f"loss_{name}": values for name, values in terms.items()}}

    def _of_answers(self, batch: Batch) -> tuple[Tensor, Terms, Tensor]:
        """Answers ``(Q, h, w)`` to a batch, the terms of their losses, and their IoUs ``(Q,)``."""
        output = self.segmenter(batch)
        logits = self.task.mask_logits(output)  # (Q, 1, h, w) -> (Q, h, w)
        terms, ious = self.of_masks(logits, batch)
        if self.quality:
            terms["quality"] = (output.iou_scores[:, 0].float() - ious).square()
        return logits, terms, ious

    def _with_best_of_three(self, batch: Batch, terms: Terms) -> Terms:
        """Add the loss of the best of three masks for each query of one point, and the mean error of all qualities."""
        members = [at for at, query in enumerate(batch.queries) if _is_one_point(query.prompt)]
        if not members:
            return terms
        output = self.segmenter(chosen(batch, members), multimask=True)
        logits = output.mask_logits.flatten(0, 1)  # (n, M, h, w) -> (n * M, h, w)
        each = chosen(batch, [at for at in members for _ in range(output.mask_logits.shape[1])])
        more, ious = self.of_masks(logits, each)
        shape = output.iou_scores.shape
        best = self.loss.weighted(more).reshape(shape).argmin(1, keepdim=True)
        added = {name: values.reshape(shape).gather(1, best)[:, 0] for name, values in more.items()}
        if self.quality:
            added["quality"] = (output.iou_scores.float() - ious.reshape(shape)).square().mean(1)
        at = torch.tensor(members, device=logits.device)
        return {name: values.index_add(0, at, added[name]) for name, values in terms.items()}

    def of_masks(self, logits: Tensor, batch: Batch) -> tuple[Terms, Tensor]:
        """The terms of the losses of masks ``(Q, h, w)``, and their IoUs ``(Q,)``.

        Each loss is sums over pixels ``(Q, k)`` and a value made of them ``(Q,)``.
        """
        counts = self.task.metrics(self.thresholds).reduces(batch)
        sums = sum_over_pixels(logits, batch, self.segmenter.preprocessing, [self.loss, *counts])
        return self.loss.terms(sums[0]), scores_of(sums[1])[:, COLUMNS.index("iou")].to(sums[0])


def _is_one_point(prompt: Prompt) -> bool:
    """Whether a prompt says so little that it may mean several things."""
    return prompt.kind == "points" and prompt.points is not None and len(prompt.points) == 1
