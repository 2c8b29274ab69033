"""What happens in one step of training and of validation, and with which optimiser."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from statistics import median
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from ..batch import Batch
from ..checkpoints.embeddings import embeddings_of
from ..config.commands import TrainConfig
from ..config.options import ASKED_KINDS, asked_kinds, parse_loss
from ..data.datamodule import PairDataModule
from ..errors import CheckpointError, ConfigError
from ..evaluation.scoring import score_batch
from ..segmenter import SamSegmenter
from ..system.machine import Machine
from ..tasks.metrics import OverlapMetrics, score
from .averaging import MovingAverage
from .epoch_means import EpochMeans
from .losses import image_losses, weighted_sum
from .run_folder import LAST
from .starting import starting_from


class SegmentationTask(lightning.LightningModule):
    """One training step, one validation step and the optimiser.

    What Lightning calls its sanity check is the whole validation, before the first step, of the base without what the
    method adds; nothing is trained by then.

    Args:
        segmenter: What is trained.
        config: The run.
        machine: Precision, for what Lightning does not call.
        images: Number of training images.
        start: Trained tensors to begin with, once the base has been scored.
        warnings: What the user of the adapter should know, whichever weights are kept.
    """

    def __init__(
        self,
        segmenter: SamSegmenter,
        config: TrainConfig,
        machine: Machine,
        *,
        images: int,
        start: Mapping[str, Tensor] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.machine = machine
        self.config = config
        self.images = images
        self.start = start
        self.loss_weights = parse_loss(config.loss)
        self.train_means = EpochMeans()
        self.val_metrics = OverlapMetrics()
        self.val_scores: dict[str, float] = {}
        """Of the latest validation, as `OverlapMetrics.compute` gives them."""
        self.frozen_scores: dict[str, float] = {}
        """Of the base without what the method adds, on the same images under the same prompts."""
        self.warnings = list(warnings)
        self.average: MovingAverage | None = None
        if config.ema:
            trained = [(name, one) for name, one in segmenter.named_parameters() if one.requires_grad]
            self.average = MovingAverage(trained, config.ema)

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
        """The batch's share of the loss of an optimiser step, so that the shares add up to the mean over its images.

        An optimiser step may have several batches and processes, of unequal sizes at the end of an epoch. Lightning
        divides the gradient by the number of batches and of processes, and here that is taken back.
        """
        losses, terms, iou = self.losses(batch)
        weight = losses.new_tensor(batch.weight)
        if not torch.isfinite(losses).all():
            raise ConfigError(
                f"the loss became {losses.mean().item()} at epoch {self.current_epoch + 1}, step {self.global_step} "
                f"(images {', '.join(batch.names)}). Lower --lr, set --clip 1, or use --precision 32."
            )
        total = (losses * weight).sum()
        with torch.no_grad():
            named = {"loss": losses, "iou": iou, **{f"loss_{name}": values for name, values in terms.items()}}
            sums = {name: (values.detach() * weight).sum() for name, values in named.items()}
        self.train_means.add(self.current_epoch, sums, weight.sum())
        shown = {name: sums[name] / weight.sum().clamp(min=1) for name in ("loss", "iou")}
        self.log_dict(shown, prog_bar=True, logger=False)
        processes, accumulate = self.trainer.world_size, self.config.accumulate
        return total * processes * accumulate / self.images_of_step(batch_idx, processes)

    def images_of_step(self, batch_idx: int, processes: int) -> int:
        """Images in the optimiser step to which a batch belongs, those of all processes together."""
        a_batch = self.config.batch_size * processes
        start = batch_idx // self.config.accumulate * self.config.accumulate * a_batch
        return min(start + self.config.accumulate * a_batch, self.images) - start

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss of each prompt ``(Q,)``, its terms, and the IoU."""
        logits, terms = self._answered(batch)
        targets, valid = batch.for_prompts(batch.targets), batch.for_prompts(batch.valid)
        with torch.no_grad():
            answers = zip(logits, targets, valid, strict=True)
            threshold = self.segmenter.threshold
            rows = torch.cat([score(one.sigmoid(), target, threshold, valid=some) for one, target, some in answers])
        return weighted_sum(terms, self.loss_weights), terms, rows[:, 0]

    def _answered(self, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Logits of each prompt ``(1, H, W)`` at original size, and the terms of its loss, each ``(Q,)``."""
        logits = self.segmenter.full_logits(self.segmenter(batch), batch.for_prompts(batch.original_sizes))
        targets, valid = batch.for_prompts(batch.targets), batch.for_prompts(batch.valid)
        return logits, image_losses(logits, targets, self.loss_weights, valid=valid)

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
    def kept_weights(self) -> Iterator[SamSegmenter]:
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
        """Collect scores of each prompt; the loss is averaged over images too."""
        if frozen and batch.pixel_values is not None:
            embeddings = self.segmenter.backbone.encode(batch.pixel_values, None)
            batch = replace(batch, pixel_values=None, image_embeddings=embeddings)
        logits, terms = self._answered(batch)
        losses = weighted_sum(terms, self.loss_weights)
        thresholds = dict.fromkeys(ASKED_KINDS, self.segmenter.threshold)
        score_batch(self.val_metrics, batch, logits, thresholds, losses, search_thresholds=not frozen)

    def on_validation_epoch_end(self) -> None:
        """Scores over the whole set, gathered from all processes."""
        scores = self.val_metrics.compute()
        self.val_metrics.reset()
        if self.trainer.sanity_checking:
            self.frozen_scores = scores
            return
        self.val_scores = scores
        for name, value in scores.items():
            if not name.endswith(("_low", "_high")) and not name.startswith("best_threshold"):
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


def prepared(config: TrainConfig) -> tuple[SegmentationTask, PairDataModule]:
    """What a run trains, and on what.

    Raises:
        ConfigError: If options do not fit together.
        DataError: If files are faulty.
        CheckpointError: If the base cannot be loaded.
    """
    data = PairDataModule(config)
    machine = Machine.asked(config)
    machine.prepare_process()
    segmenter, start = SamSegmenter.from_config(config), None
    if config.start_from is not None:
        segmenter, start = starting_from(config.start_from, segmenter)
    segmenter.suited_to(machine, for_good=True)
    if machine.attention == "flex" and machine.device.type == "cpu" and not segmenter.leaves_encoder:
        raise ConfigError(
            "attention: PyTorch's FlexAttention cannot be trained through on a CPU; use auto, or blocked, there."
        )
    segmenter.reading = data.reading
    data.prepare(segmenter.preprocessing)
    task = SegmentationTask(
        segmenter, config, machine, images=len(data.train_records), start=start, warnings=_warnings(config, data)
    )
    return task, data


def _warnings(config: TrainConfig, data: PairDataModule) -> list[str]:
    """What a user of the adapter should know of the masks that it is trained on."""
    counts = [data.looks[record].objects.count for record in data.train_records]
    middle = median([count for count in counts if count] or [0])
    if "box" not in asked_kinds(config.prompt) or middle <= 1:
        return []
    told = f"Trained on boxes around all objects of a picture (median {middle:g} objects)"
    return [f"{told}: a box no longer means one object."]


def decay_groups(segmenter: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters with weight decay, and those without: biases, norms and embeddings.

    A row of an embedding that the prompts of a run do not use has no gradient; decay alone would shrink it.
    """
    whole = {
        id(parameter)
        for module in segmenter.modules()
        if isinstance(module, nn.LayerNorm | nn.Embedding)
        for parameter in module.parameters()
    }
    decayed, plain = [], []
    for name, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            without = name.endswith("bias") or id(parameter) in whole
            (plain if without else decayed).append(parameter)
    return decayed, plain
