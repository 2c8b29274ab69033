"""Training: Lightning's trainer around a segmenter."""

import logging
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
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

from ..config.choices import monitor_mode
from ..config.training import TrainConfig
from ..errors import ConfigError, amount
from ..methods.base import parameter_summary
from ..system.locking import owned
from ..system.processes import follow_first_process, is_main_process, pause_before_forks
from ..system.writing import remove_leftovers, require_writable
from .adapter_keeper import AdapterKeeper
from .callbacks import MetricsTable
from .collapse import CollapseWatch
from .curves import draw_curves
from .dry_run import memory_advised
from .last_checkpoint import RunCheckpointIO, require_epochs_left, require_same_place
from .lightning_module import TrainingModule
from .outcome import comparison
from .progress import ProgressLines
from .quiet import quiet_lightning
from .run_folder import LAST, METRICS, clear_output, prepare_output
from .setup import module_and_data
from .stopping import GracefulStop, ending_together

log = logging.getLogger(__name__)

MOST_ON_SMALL_CPUS = 4
"""Processes on a CPU with fewer cores, to try out several."""


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        adapter: The adapter folder: the best by validation, or the last without validation.
        scores: Validation scores of that adapter.
        epochs: Epochs that were finished.
        epoch: The one that was kept, counted from 1.
        frozen_scores: Validation scores of the base without the adapter.
        warnings: What the adapter's user should know, a sentence each; also in its description.
        summary: What was kept, of which epoch, and how it stands to the frozen base.
    """

    adapter: Path
    scores: dict[str, float]
    epochs: int
    epoch: int | None
    frozen_scores: dict[str, float]
    warnings: list[str]
    summary: str


@quiet_lightning()
def train(config: TrainConfig) -> TrainResult:
    """Train as configured; what is written is described in `TrainConfig.output`.

    The path of a picture: `PairDataset` (data/dataset.py) reads it, and the task makes queries of its annotation: for a
    binary one several prompts that all ask for the foreground. `TrainingModule.losses` (training/lightning_module.py)
    calls `SamSegmenter.forward` (segmenter.py), which encodes the picture (`SamBackbone.encode` in backbones/sam.py,
    with the block prompts of `SamAdapter` in methods/sam_adapter/module.py) and decodes the queries: `Backbone.decode`
    hands those with prompts of one structure together to `SamBackbone.decode_together`. `sum_over_pixels`
    (tasks/pixels.py) compares the answers with their targets for `WeightedLosses` (training/losses/base.py): by default
    the mean cross entropy and 1 - IoU, each with weight 1.

    Of a fresh run with validation, Lightning's sanity check scores the frozen base before the first step
    (`TrainingModule.validation_step`); after each epoch the same function scores the adapter. `AdapterKeeper` then has
    the first process write it: the best one so far, or without validation the latest; with the weights of the moving
    average if there is one. `save_adapter` (checkpoints/adapter.py) writes the trained tensors, then the JSON
    description.

    Args:
        config: The run.

    Returns:
        The adapter and its scores.

    Raises:
        ConfigError: If the output folder holds another run, or options do not fit together.
        DataError: If files are faulty.
        CheckpointError: If the base or the checkpoint to resume from cannot be loaded.
    """
    follow_first_process()
    if config.devices * config.nodes > 1:
        pause_before_forks()
    require_writable(config.output)
    with owned(config.output) if is_main_process() else nullcontext():
        return _train(config)


def _train(config: TrainConfig) -> TrainResult:
    """Train in a folder that belongs to this process."""
    if is_main_process():
        remove_leftovers(config.output)
    resume_from = prepare_output(config)
    if resume_from:
        require_epochs_left(resume_from, config.epochs)
        require_same_place(resume_from, processes=config.devices * config.nodes, batch_size=config.batch_size)
    lightning.seed_everything(config.seed, verbose=False)
    module, data = module_and_data(config)
    if resume_from:
        require_same_place(resume_from, pictures=module.images)
    validated = bool(data.val_records)
    keeper = AdapterKeeper(
        config.output / "adapter", config.monitored if validated else None, monitor_mode(config.monitored)
    )
    stop = GracefulStop(config.output / LAST, keeper)
    trainer = _trainer(config, module, [stop, keeper], validated=validated, score_base=not resume_from)
    if trainer.is_global_zero:
        clear_output(config)
        data.keep_inspections()
        log.info("Trained:\n%s", parameter_summary(module.segmenter.parameter_table()))
        log.info("Training on %s", module.segmenter.backbone.on(module.machine))
    try:
        children = partial(getattr, trainer.strategy.launcher, "procs", [])
        with stop.listening(), ending_together(children), memory_advised(config, module.machine):
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True if resume_from else None)
    except SystemExit as error:  # Lightning leaves the program after Ctrl-C; that is for the caller to decide
        raise stop.stopped() from error
    finally:
        if trainer.is_global_zero:
            draw_curves(config.output / METRICS, config.output / "curves.png", config.added_metrics)
    warned = keeper.warnings(module)
    if trainer.is_global_zero:
        for sentence in warned:
            log.warning("Warning: %s", sentence)
    compared = comparison(keeper.scores, module.frozen_scores)
    kept = f"kept epoch {keeper.epoch} of {trainer.current_epoch}"
    if keeper.core_rise is not None:
        kept += f"; objects are split at peaks of their cores that rise by {keeper.core_rise:g}"
    return TrainResult(
        config.output / "adapter",
        scores=keeper.scores,
        epochs=trainer.current_epoch,
        epoch=keeper.epoch,
        frozen_scores=module.frozen_scores,
        warnings=warned,
        summary=f"{compared}; {kept}" if compared else kept,
    )


def _trainer(
    config: TrainConfig, module: TrainingModule, own: list[Callback], *, validated: bool, score_base: bool
) -> lightning.Trainer:
    logger, machine = _logger(config), module.machine
    callbacks: list[Callback] = [
        TQDMProgressBar(refresh_rate=1 if sys.stdout.isatty() else 0),
        *own,
        MetricsTable(config.output / METRICS, config.task, config.prompt, config.added_metrics),
        CollapseWatch(),
        ProgressLines(),
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
        # Not strict: a validation without any foreground has no IoU.
        callbacks.append(
            EarlyStopping(
                f"val_{config.monitored}", mode=monitor_mode(config.monitored), patience=config.patience, strict=False
            )
        )
    settings: dict[str, Any] = {
        "max_epochs": config.epochs,
        "accelerator": machine.device.type,
        "devices": config.devices,
        "num_nodes": config.nodes,
        "strategy": _strategy(config, module),
        "precision": machine.precision,
        "accumulate_grad_batches": config.accumulate,
        "gradient_clip_val": config.clip,
        "callbacks": callbacks,
        "plugins": [RunCheckpointIO()],
        "logger": logger,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": -1 if validated and score_base else 0,  # see TrainingModule
        "limit_val_batches": None if validated else 0,
        "log_every_n_steps": 1,
        "enable_model_summary": False,
        "default_root_dir": config.output,
    }
    try:
        return lightning.Trainer(**settings)
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(f"devices, accelerator, strategy or precision do not fit: {error}") from error


def _strategy(config: TrainConfig, module: TrainingModule) -> DDPStrategy | str:
    """How several processes go together; alone, or where the user has named another way, Lightning's name for it."""
    most = max(os.cpu_count() or 1, MOST_ON_SMALL_CPUS)
    if module.machine.device.type == "cpu" and config.devices > most:
        raise ConfigError(f"devices: expected at most {amount(most, 'process')} on this CPU, got {config.devices}.")
    if config.strategy.startswith(("fsdp", "deepspeed", "xla")):
        raise ConfigError(
            f"strategy: '{config.strategy}' spreads the weights over the devices, and adapters could not be written "
            "from one of them. An adapter is small: use ddp, with --gradient-checkpointing if memory is short."
        )
    if config.strategy in ("auto", "ddp") and config.devices * config.nodes > 1:
        # Looking for untouched tensors costs a walk through the graph each step, and PyTorch warns if there are none.
        return DDPStrategy(find_unused_parameters=module.segmenter.method.some_untouched)
    return config.strategy


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
