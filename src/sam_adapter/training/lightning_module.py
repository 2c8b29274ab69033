"""What happens in one step of training and of validation, and with which optimiser."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from ..batch import Batch
from ..checkpoints.embeddings import embeddings_of
from ..config.choices import ASKED_KINDS, parse_loss
from ..config.registry import TASKS
from ..config.training import TrainConfig
from ..errors import CheckpointError, ConfigError
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..tasks.base import Task
from ..tasks.inference import Inference
from ..tasks.metrics import AddedScores
from .averaging import MovingAverage
from .decay import decay_groups
from .epoch_means import EpochMeans
from .losses.base import WeightedLosses
from .query_losses import QueryLosses
from .run_folder import LAST


class TrainingModule(lightning.LightningModule):
    """One training step, one validation step and the optimiser.

    What Lightning calls its sanity check is the whole validation, before the first step, of the base without what the
    method adds; nothing is trained by then. Adapters are written by `AdapterKeeper`, not here.

    Args:
        segmenter: What is trained.
        task: What is asked, and how answers are scored.
        config: The run.
        machine: Precision, for what Lightning does not call.
        images: Number of training images, or of tiles of them, in an epoch.
        start: Trained tensors to begin with, once the base has been scored.
        warnings: What the user of the adapter should know, whichever weights are kept.
    """

    def __init__(
        self,
        segmenter: SamSegmenter,
        task: Task,
        config: TrainConfig,
        machine: Machine,
        *,
        images: int,
        start: Mapping[str, Tensor] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.task = task
        self.machine = machine
        self.config = config
        self.images = images
        self.start = start
        self.loss = WeightedLosses(parse_loss(config.loss))
        self.thresholds = dict.fromkeys(ASKED_KINDS, segmenter.threshold)
        self.query_losses = QueryLosses(
            segmenter=segmenter,
            task=task,
            loss=self.loss,
            thresholds=self.thresholds,
            quality=TASKS[config.task].quality and "mask_decoder" in segmenter.method.parts,
            rounds=config.correction_rounds,
            multimask=config.multimask,
            seed=config.seed,
        )
        self.train_means = EpochMeans()
        self.step_weight = 0.0
        """Weight of the queries in the batches since the last step of the optimiser."""
        added = AddedScores(config.added_metrics, spacing=config.pixel_spacing)
        self.val_metrics = task.metrics(self.thresholds, search=True, added=added)
        self.frozen_metrics = task.metrics(self.thresholds, added=added)
        self.val_scores: dict[str, float] = {}
        """Of the latest validation, as `OverlapMetrics.compute` gives them."""
        self.frozen_scores: dict[str, float] = {}
        """Of the base without what the method adds, on the same images under the same prompts."""
        self.warnings = list(warnings)
        self.average: MovingAverage | None = None
        if config.ema:
            self.average = MovingAverage(self.trained(), config.ema)

    def on_fit_start(self) -> None:
        """Encode the images once, if their embeddings are to be kept."""
        if self.config.embedding_cache is None:
            return
        trainer = self.trainer
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        for dataset in data.datasets:
            dataset.embeddings = embeddings_of(
                dataset,
                self.segmenter,
                self.config,
                self.machine,
                processes=trainer.world_size,
                rank=trainer.global_rank,
            )
        trainer.strategy.barrier()

    def on_train_start(self) -> None:
        """Begin with an adapter's weights if that was asked for; begin the average, or go on with it."""
        if self.start is not None:
            self.segmenter.load_trained_state(self.start)
        if self.average is not None:
            self.average.start()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted sum of the losses of a batch's queries; see `on_before_optimizer_step`."""
        losses, named = self.losses(batch)
        weight = losses.new_tensor(batch.weight)
        if not torch.isfinite(losses).all():
            raise ConfigError(
                f"the loss became {losses.mean().item()} at epoch {self.current_epoch + 1}, step {self.global_step} "
                f"(images {', '.join(batch.names)}). Lower --lr, set --clip 1, or use --precision 32."
            )
        sums = {name: (values.detach() * weight).sum() for name, values in named.items()}
        self.train_means.add(self.current_epoch, sums, weight.sum())
        shown = {name: sums[name] / weight.sum().clamp(min=1) for name in ("loss", "iou")}
        self.log_dict(shown, prog_bar=True, logger=False)
        self.step_weight += sum(batch.weight)
        return (losses * weight).sum() * self.config.accumulate  # Lightning divides by accumulate_grad_batches

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each query ``(Q,)``; and by name the same, its terms, and the IoU; see `QueryLosses.of`."""
        if not batch.queries:  # the process takes part in the exchange of gradients all the same
            return self.query_losses.of_nothing([one for _, one in self.trained()])
        return self.query_losses.of(batch, epoch=self.current_epoch)

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        return [(name, one) for name, one in self.segmenter.named_parameters() if one.requires_grad]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradient that of the weighted mean over all queries of the step.

        A step may have several batches, and several processes whose queries weigh differently: each process has the
        sum over its own, and the mean of the processes' sums is what they exchanged.
        """
        weight = torch.tensor(self.step_weight, device=self.device)
        weight = self.trainer.strategy.reduce(weight, reduce_op="sum")
        assert isinstance(weight, Tensor)
        factor = self.trainer.world_size / weight.clamp(min=1e-12)
        for _, parameter in self.trained():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        self.step_weight = 0.0

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means for the loggers."""
        for name, value in self.train_scores().items():
            self.log(f"train_{name}", value, sync_dist=True)  # the same in every process

    def train_scores(self) -> dict[str, float]:
        """Mean loss, its terms, and IoU of the epoch's samples so far, of all processes; all of them must ask."""
        return self.train_means.over_all(self.trainer.strategy)

    def on_validation_start(self) -> None:
        """Score the moving average, if there is one, until the adapter has been kept."""
        if self.average is not None and not self.trainer.sanity_checking:
            self.average.exchange()

    def on_validation_end(self) -> None:
        """Go on with the weights as they are; Lightning calls this after all callbacks."""
        if self.average is not None and not self.trainer.sanity_checking:
            self.average.exchange()

    @contextmanager
    def validated_weights(self) -> Iterator[SamSegmenter]:
        """The segmenter with the weights that are validated and written."""
        if self.average is None:
            yield self.segmenter
            return
        with self.average.in_place():
            yield self.segmenter

    @contextmanager
    def trained_weights(self) -> Iterator[None]:
        """What the optimiser acts on, also while the average is validated."""
        with nullcontext() if self.average is None else self.average.out_of_place():
            yield

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """See `validate`; before the first step without what the method adds."""
        self.validate(batch, frozen=self.trainer.sanity_checking)

    def validate(self, batch: Batch, *, frozen: bool = False) -> None:
        """Collect scores of each query; the loss is averaged over images too."""
        metrics = self.frozen_metrics if frozen else self.val_metrics
        if not batch.queries:
            metrics.collect_nothing()
            return
        loss = self.loss
        inference = Inference(
            model=self.segmenter,
            task=self.task,
            machine=self.machine,
            tiling=self.segmenter.tiling,
            batch_size=self.config.batch_size,
            frozen=frozen,
        )
        inference.collect(batch, metrics, loss=loss, losses=lambda sums: loss.weighted(loss.terms(sums)))

    def on_validation_epoch_end(self) -> None:
        """Scores over the whole set, gathered from all processes."""
        if self.trainer.sanity_checking:
            self.frozen_scores = self.frozen_metrics.compute()
            self.frozen_metrics.reset()
            return
        self.val_scores = self.val_metrics.compute()
        self.val_metrics.reset()
        for name, value in self.val_scores.items():
            if not name.endswith(("_low", "_high")) and not name.startswith("best_"):
                self.log(f"val_{name}", value, prog_bar=name == "iou", sync_dist=True)  # the same in every process

    def configure_optimizers(self) -> Any:
        """AdamW; warm-up and cosine over the real number of steps."""
        config = self.config
        optimizer = self.optimizer()
        # Not trainer.estimated_stepping_batches: it sets the loaders up before a resumed run has restored where in
        # the epoch they were, and that place would be lost.
        steps = config.epochs * self.steps_per_epoch()
        warmup = round(steps * config.warmup)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer(self) -> torch.optim.AdamW:
        """AdamW without decay on biases, norms and embeddings."""
        decayed, plain = decay_groups(self.segmenter)
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        # Lightning does not clip for an optimiser that may unscale by itself; then PyTorch chooses.
        fused = True if self.config.clip is None else None
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.config.lr, fused=fused)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, and the average of the weights after it."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update()

    def batches_per_epoch(self, processes: int) -> int:
        """Batches that each of several processes gets in an epoch."""
        return math.ceil(math.ceil(self.images / processes) / self.config.batch_size)

    def steps_per_epoch(self) -> int:
        """Steps of the optimiser in an epoch of as many processes as there are."""
        return math.ceil(self.batches_per_epoch(self.trainer.world_size) / self.config.accumulate)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Only what is trained: the base stays where it is."""
        return self.segmenter.trained_state()

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Strict on exactly the trained tensors."""
        self.segmenter.load_trained_state(state_dict)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the base, so that a run is not continued on another one, and what the weights do not tell."""
        checkpoint["base_sha256"] = self.segmenter.backbone.identity.sha256
        checkpoint["frozen_scores"] = self.frozen_scores
        checkpoint["train_means"] = self.train_means.state_dict(self.trainer.strategy)
        processes, size = self.trainer.world_size, self.config.batch_size
        checkpoint["place"] = {"processes": processes, "batch_size": size, "pictures": self.images}
        if self.average is not None:
            checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another base; take up what `on_save_checkpoint` remembered."""
        own = self.segmenter.backbone.identity.sha256
        if checkpoint["base_sha256"] != own:
            raise CheckpointError(
                f"{LAST} was trained on a base with SHA-256 {checkpoint['base_sha256']}, this one has {own}."
            )
        self.start = None
        epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if epoch["processed"] == epoch["ready"]:  # with other processes or pictures, so many steps are another share
            checkpoint["lr_schedulers"][0]["last_epoch"] = epoch["ready"] * self.steps_per_epoch()
        self.frozen_scores = checkpoint.get("frozen_scores", {})
        self.train_means.load_state_dict(checkpoint.get("train_means", {}), first=self.trainer.global_rank == 0)
        if self.average is not None:
            self.average.load_state_dict(checkpoint["average"])
