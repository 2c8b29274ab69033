"""From a batch to scores or predictions: the one way in which training, evaluation and prediction ask a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Self

from torch import Tensor

from ..batch import Batch, Output
from ..config.choices import AskedKind
from ..config.object_options import ObjectOptions
from ..preprocessing import MaskLogits
from ..tiling.sweep import Sweep, alone, joined
from .base import P, Task
from .metrics import OverlapMetrics
from .object_finder import ObjectFinder
from .pixels import MapReduce, Reduce, sum_over_pixels
from .tiles import collect_by_tiles
from .windows import RunningModel


@dataclass(frozen=True, kw_only=True)
class Inference(RunningModel, Generic[P]):
    """A model that answers the queries of batches for a task: of pictures as a whole, or tile by tile.

    Attributes:
        task: What is asked, and what the answers mean.
        frozen: Without what the method adds.
        finder: See `Task.finder`.
    """

    task: Task[P]
    frozen: bool = False
    finder: ObjectFinder | None = None

    def finding(self, options: ObjectOptions, thresholds: Mapping[AskedKind, float]) -> Self:
        """The same with what finds objects as options ask for it; see `Task.finder`."""
        return replace(self, finder=self.task.finder(options, self, thresholds))

    def answer(self, batch: Batch) -> tuple[Batch, Output]:
        """Answer the queries of a batch of whole pictures.

        Args:
            batch: With at least one query, where the model is.

        Returns:
            The batch, with what the encoder gave where a finder asks about its pictures again; and the answers.
        """
        with self.machine.autocast():
            again = self.finder is not None and self.finder.asks_again
            if again and batch.encoded is None and batch.pixel_values is not None:
                batch = replace(batch, encoded=self.model.encode(batch.pixel_values, frozen=self.frozen))
            return batch, self.model(batch, frozen=self.frozen)

    @property
    def sweep(self) -> Sweep:
        """What answers queries about pictures tile by tile."""
        assert self.tiling is not None

        def answer(tiles: Batch) -> tuple[Tensor, Tensor]:
            with self.machine.autocast():
                output = self.model(tiles, frozen=self.frozen)
            return self.task.mask_logits(output), output.iou_scores[:, 0]

        return Sweep(
            answer=answer,
            tiling=self.tiling,
            preprocessing=self.model.preprocessing,
            batch_size=self.batch_size,
            device=self.model.device,
        )

    def mask_logits(self, batch: Batch) -> MaskLogits:
        """The logits ``(Q, h, w)`` of the answers to a batch of one picture, or those of its tiles."""
        if batch.pictures:
            return joined(self.sweep.strips(batch.pictures[0], batch.queries))
        return self.task.mask_logits(self.answer(batch)[1])

    def predictions(self, batch: Batch, thresholds: Mapping[AskedKind, float], *, keep: bool = False) -> list[P]:
        """The prediction for each picture of a batch, in their order.

        Args:
            batch: Where the model is.
            thresholds: Probability above which a pixel is foreground, for each kind of prompt.
            keep: See `Task.tiled_prediction`.
        """
        if batch.pictures:
            sweep, found = self.sweep, []
            for one in (alone(batch, at) for at in range(len(batch))):
                strips = sweep.strips(one.pictures[0], one.queries)
                found.append(self.task.tiled_prediction(strips, one.queries, thresholds, keep=keep))
        else:
            batch, output = self.answer(batch)
            found = self.task.predictions(batch, output, self.model.preprocessing, thresholds)
        if self.finder is None:
            return found
        return [self.task.with_found(one, batch, at, self.finder) for at, one in enumerate(found)]

    def collect(
        self,
        batch: Batch,
        metrics: OverlapMetrics,
        *,
        loss: Reduce | MapReduce | None = None,
        losses: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Add the scores of the answers to a batch.

        Args:
            batch: With annotations and at least one query, where the model and the metrics are.
            metrics: What collects the scores.
            loss: What the loss sums over pixels, if it is to be averaged too.
            losses: Those sums ``(Q, k)`` to the loss of each query ``(Q,)``.
        """
        if batch.pictures:
            collect_by_tiles(self.sweep, batch, metrics, loss=loss, losses=losses)
            return
        batch, output = self.answer(batch)
        logits, preprocessing = self.task.mask_logits(output), self.model.preprocessing
        reduces = [*([] if loss is None else [loss]), *metrics.reduces(batch)]
        sums = sum_over_pixels(logits, batch, preprocessing, reduces)
        lost = None if losses is None else losses(sums.pop(0))
        metrics.collect(batch, sums, lost, metrics.answers(logits, batch, preprocessing))
        metrics.collect_whole(batch, logits, preprocessing)
