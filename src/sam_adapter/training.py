"""Training: Lightning's trainer around a segmenter."""

import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from .batch import Batch
from .callbacks import AdapterKeeper, GracefulStop, MetricsTable
from .config import TrainConfig
from .curves import draw_curves
from .data.datamodule import PairDataModule
from .errors import CheckpointError, ConfigError
from .evaluation import score_batch
from .losses import weighted_loss
from .methods import parameter_summary
from .metrics import OverlapMetrics, score
from .model import SamSegmenter
from .options import parse_loss
from .run_folder import LAST, METRICS, clear_output, prepare_output
from .runtime import pick_device, resolve_precision

log = logging.getLogger(__name__)

LOWER_IS_BETTER = ("loss", "mae", "ber")


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        adapter: The adapter folder: the best by validation, or the last without validation.
        scores: Validation scores of that adapter.
        epochs: Epochs that were finished.
    """

    adapter: Path
    scores: dict[str, float]
    epochs: int


class SegmentationTask(lightning.LightningModule):
    """One training step, one validation step and the optimiser.

    Args:
        segmenter: What is trained.
        config: The run.
        images: Number of training images.
    """

    def __init__(self, segmenter: SamSegmenter, config: TrainConfig, *, images: int) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.config = config
        self.images = images
        self.loss_weights = parse_loss(config.loss)
        self.val_metrics = OverlapMetrics()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; ``loss``, its terms and the batch's ``iou`` are logged."""
        logits = self.segmenter.full_logits(self.segmenter(batch), batch.for_prompts(batch.original_sizes))
        targets = batch.for_prompts(batch.targets)
        loss, terms = weighted_loss(logits, targets, self.loss_weights)
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss.item()} at epoch {self.current_epoch}, step {self.global_step} (images "
                f"{', '.join(batch.names)}). Lower --lr, set --clip 1, or use --precision 32."
            )
        with torch.no_grad():
            pairs = zip(logits, targets, strict=True)
            rows = torch.stack([score(one.sigmoid()[0], target[0], self.segmenter.threshold) for one, target in pairs])
        scores = {"loss": loss.detach(), "iou": rows[:, 0].mean()}
        self.log_dict(scores, prog_bar=True, logger=False)
        epoch = {f"train_{name}": value for name, value in scores.items()}
        epoch |= {f"train_loss_{name}": term.detach() for name, term in terms.items()}
        self.log_dict(epoch, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect scores; the loss is averaged over images too."""
        logits = self.segmenter.full_logits(self.segmenter(batch), batch.original_sizes)
        losses = [
            weighted_loss([one], [target], self.loss_weights)[0]
            for one, target in zip(logits, batch.targets, strict=True)
        ]
        score_batch(self.val_metrics, batch, logits, self.segmenter.threshold, losses)

    def on_validation_epoch_end(self) -> None:
        """Scores over the whole set, gathered from all processes."""
        scores = {f"val_{name}": value for name, value in self.val_metrics.compute().items()}
        self.val_metrics.reset()
        for name, value in scores.items():
            self.log(name, value, prog_bar=name == "val_iou", sync_dist=True)  # the same in every process

    def configure_optimizers(self) -> Any:
        """AdamW without decay on biases and norms; warm-up and cosine over the real number of steps."""
        config = self.config
        decayed, plain = decay_groups(self.segmenter)
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr)
        # Not trainer.estimated_stepping_batches: it sets the loaders up before a resumed run has restored where in
        # the epoch they were, and that place would be lost.
        batches = self.batches_per_epoch(self.trainer.world_size)
        steps = config.epochs * math.ceil(batches / config.accumulate)
        warmup = round(steps * config.warmup)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def batches_per_epoch(self, processes: int) -> int:
        """Batches that each of several processes gets in an epoch."""
        return math.ceil(math.ceil(self.images / processes) / self.config.batch_size)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Only what is trained: the base stays where it is."""
        return self.segmenter.trained_state()

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Strict on exactly the trained tensors."""
        self.segmenter.load_trained_state(state_dict)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the base, so that a run is not continued on another one."""
        checkpoint["base_sha256"] = self.segmenter.backbone.identity.sha256

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another base."""
        own = self.segmenter.backbone.identity.sha256
        if checkpoint["base_sha256"] != own:
            raise CheckpointError(
                f"{LAST} was trained on a base with SHA-256 {checkpoint['base_sha256']}, this one has {own}."
            )


def decay_groups(segmenter: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters with weight decay, and those without: biases and norms."""
    norms = {
        id(parameter)
        for module in segmenter.modules()
        if isinstance(module, nn.LayerNorm)
        for parameter in module.parameters()
    }
    decayed, plain = [], []
    for name, parameter in segmenter.named_parameters():
        if parameter.requires_grad:
            without = name.endswith("bias") or id(parameter) in norms
            (plain if without else decayed).append(parameter)
    return decayed, plain


def train(config: TrainConfig) -> TrainResult:
    """Train as configured; what is written is described in `TrainConfig.output`.

    Args:
        config: The run.

    Returns:
        The adapter and its scores.

    Raises:
        ConfigError: If the output folder holds another run, or options do not fit together.
        DataError: If files are faulty.
        CheckpointError: If the base or the checkpoint to resume from cannot be loaded.
    """
    resume_from = prepare_output(config)
    lightning.seed_everything(config.seed, verbose=False)
    data = PairDataModule(config)
    segmenter = SamSegmenter.from_config(config)
    data.prepare(segmenter.preprocessing)
    validated = bool(data.val_records)
    keeper = AdapterKeeper(config.output / "adapter", f"val_{config.monitor}" if validated else None, _mode(config))
    stop = GracefulStop(config.output / LAST, keeper)
    trainer = _trainer(config, [stop, keeper], validated=validated)
    if trainer.is_global_zero:
        clear_output(config)
        log.info("Trained:\n%s", parameter_summary(segmenter.parameter_table()))
        log.info("Device %s, precision %s", trainer.strategy.root_device, trainer.precision)
    task = SegmentationTask(segmenter, config, images=len(data.train_records))
    try:
        with stop.listening():
            trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True if resume_from else None)
    except SystemExit as error:  # Lightning leaves the program after Ctrl-C; that is for the caller to decide
        raise KeyboardInterrupt from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the device ran out of memory ({str(error).splitlines()[0]}). In this order try: --batch-size 1 with "
            "--accumulate, --gradient-checkpointing true, --precision bf16-mixed, a smaller --image-size, a smaller "
            "--model."
        ) from error
    finally:
        if trainer.is_global_zero:
            draw_curves(config.output / METRICS, config.output / "curves.png")
    return TrainResult(config.output / "adapter", keeper.scores, trainer.current_epoch)


def _mode(config: TrainConfig) -> str:
    return "min" if config.monitor in LOWER_IS_BETTER else "max"


def _trainer(config: TrainConfig, own: list[Callback], *, validated: bool) -> lightning.Trainer:
    logger = _logger(config)
    callbacks: list[Callback] = [
        TQDMProgressBar(refresh_rate=1 if sys.stdout.isatty() else 0),
        *own,
        MetricsTable(config.output / METRICS),
        ModelCheckpoint(
            dirpath=config.output,
            filename="last",
            save_top_k=1,
            monitor=None,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    if logger:
        callbacks.append(LearningRateMonitor())
    if config.patience and validated:
        callbacks.append(EarlyStopping(f"val_{config.monitor}", mode=_mode(config), patience=config.patience))
    several = config.devices * config.nodes > 1
    strategy: Any = config.strategy
    if strategy.startswith(("fsdp", "deepspeed", "xla")):
        raise ConfigError(
            f"strategy: '{strategy}' spreads the weights over the devices, and adapters could not be written from one "
            "of them. An adapter is small: use ddp, with --gradient-checkpointing if memory is short."
        )
    if strategy in ("auto", "ddp") and several:
        # Which parts of the decoder take part depends on the prompts of a batch.
        strategy = DDPStrategy(find_unused_parameters=True)
    device = pick_device(config.accelerator)
    precision = resolve_precision(config.precision, device.type)
    settings: dict[str, Any] = {
        "max_epochs": config.epochs,
        "accelerator": "cuda" if device.type == "cuda" else "cpu",
        "devices": config.devices,
        "num_nodes": config.nodes,
        "strategy": strategy,
        "precision": precision,
        "accumulate_grad_batches": config.accumulate,
        "gradient_clip_val": config.clip,
        "callbacks": callbacks,
        "logger": logger,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": None if validated else 0,
        "log_every_n_steps": 1,
        "enable_model_summary": False,
        "default_root_dir": config.output,
    }
    try:
        return lightning.Trainer(**settings)
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"devices, accelerator, strategy or precision do not fit: {error}") from error


def _logger(config: TrainConfig) -> Logger | bool:
    name = config.run_name or config.output.resolve().name
    try:
        if config.logger == "wandb":
            import wandb  # noqa: F401 - Lightning's logger says nothing about how to install it
            from lightning.pytorch.loggers import WandbLogger

            return WandbLogger(project=config.project, name=name, save_dir=config.output)
        if config.logger == "tensorboard":
            import tensorboard  # noqa: F401
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(config.output, name="tensorboard", version="")
    except ImportError as error:
        raise ConfigError(
            f"logger: {config.logger} is not installed. pip install 'sam-adapter[{config.logger}]' brings it."
        ) from error
    return False
