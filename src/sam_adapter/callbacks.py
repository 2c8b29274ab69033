"""What happens beside the training loop: keep the best adapter, write metrics.csv, stop cleanly on Ctrl-C."""

import csv
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from .checkpoint import save_adapter
from .run_folder import read_metrics
from .writing import written_beside

log = logging.getLogger(__name__)


class AdapterKeeper(Callback):
    """Writes the adapter whenever the validation score improves, or after every epoch without validation.

    Args:
        folder: Where the adapter goes.
        monitor: Name of the validation score, None without validation.
        mode: ``max`` if more is better, else ``min``.
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str) -> None:
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None
        self.scores: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, for resuming."""
        return {"best": self.best, "scores": self.scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best score of before."""
        self.best, self.scores = state_dict["best"], state_dict["scores"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the adapter if it is better."""
        if self.monitor is None or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            log.warning(
                "No validation image has foreground: there is no %s, and the latest adapter is kept", self.monitor
            )
            self.scores = validation_scores(trainer)
            self.write(trainer, pl_module)
            return
        value = float(trainer.callback_metrics[self.monitor])
        if not math.isfinite(value):
            log.warning(
                "%s is %s after epoch %d; the adapter is not kept", self.monitor, value, trainer.current_epoch + 1
            )
            return
        better = self.best is None or (value > self.best if self.mode == "max" else value < self.best)
        if better:
            self.best = value
            self.scores = validation_scores(trainer)
            self.write(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without validation the latest is kept."""
        if self.monitor is None:
            self.write(trainer, pl_module)

    def write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the adapter, once for all processes."""
        if trainer.is_global_zero:
            save_adapter(self.folder, pl_module.segmenter, scores=self.scores)  # type: ignore[arg-type]


class GracefulStop(Callback):
    """On Ctrl-C (or SIGTERM) finish the step, write last.ckpt and, if there is none yet, the adapter; then stop.

    At the end of an epoch, and during validation, the validation is finished first, so that the resumed run misses no
    score. A second Ctrl-C stops at once.

    Args:
        checkpoint: Where last.ckpt goes.
        keeper: Writes the adapter.
    """

    def __init__(self, checkpoint: Path, keeper: AdapterKeeper) -> None:
        self.checkpoint = checkpoint
        self.keeper = keeper
        self.asked = False
        self._process = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while training, and afterwards put back what was there before.

        This wraps the whole of Lightning's run, which sets handlers of its own on the way out.
        """
        self._process = os.getpid()
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The first moment after the signal at which no gradient is waiting for an optimiser step."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch:
            self._stop_if_asked(trainer, save=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch before was validated and is in last.ckpt."""
        self._stop_if_asked(trainer, save=False)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a reading process that was forked from this one
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        log.warning("Stopping after this step, or after the validation; once more to stop at once.")

    def _stop_if_asked(self, trainer: Trainer, *, save: bool) -> None:
        # All processes stop at the same step, whichever of them got the signal.
        if not trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            return
        if save:
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if not (self.keeper.folder / "adapter_config.json").exists():
            self.keeper.write(trainer, trainer.lightning_module)
        if trainer.is_global_zero and self.checkpoint.exists():
            log.warning("Stopped. '--resume true' goes on from %s.", self.checkpoint)
        raise KeyboardInterrupt


class MetricsTable(Callback):
    """Writes one row an epoch to a CSV file and keeps the rows of before when a run is continued.

    Args:
        path: The file.
    """

    COLUMNS = (
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_iou",
        "val_loss",
        "val_iou",
        "val_dice",
        "val_mae",
        "val_ber",
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that goes on in the middle of an epoch has no other start."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row; rows of a run that went further before it was resumed are replaced."""
        if not trainer.is_global_zero:
            return
        scores = trainer.callback_metrics
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name in self.COLUMNS[3:]:
            row[name] = float(scores[name]) if name in scores else ""
        now = time.perf_counter()
        row["seconds"], self._began = round(now - self._began, 3), now
        before = [old for old in read_metrics(self.path) if int(old["epoch"]) < trainer.current_epoch]
        with written_beside(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=[*self.COLUMNS, "seconds"])
            writer.writeheader()
            writer.writerows([*before, row])
        shown = [f"{name.replace('_', ' ')} {row[name]:.4f}" for name in self.COLUMNS[3:] if row[name] != ""]
        log.info(
            "epoch %d of %d: %s (%.1f s)",
            row["epoch"] + 1,
            trainer.max_epochs,
            ", ".join(shown),
            row["seconds"],
        )


def validation_scores(trainer: Trainer) -> dict[str, float]:
    """The latest validation scores by name without ``val_``."""
    found = trainer.callback_metrics
    return {name.removeprefix("val_"): float(found[name]) for name in sorted(found) if name.startswith("val_")}
