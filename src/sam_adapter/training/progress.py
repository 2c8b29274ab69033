"""Progress within an epoch where no bar can be drawn."""

import logging
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)

SHARE = 0.1
SECONDS = 30.0


class ProgressLines(Callback):
    """Logs a line each tenth of an epoch, but at most every 30 seconds, when the output is not a terminal."""

    def __init__(self) -> None:
        self._line = 0.0, 0
        self._began = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that goes on in the middle of an epoch has no other start."""
        self._line = self._began = time.perf_counter(), trainer.fit_loop.batch_idx + 1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._line = self._began = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far the epoch is, if that is due."""
        done, total, now = batch_idx + 1, int(trainer.num_training_batches), time.perf_counter()
        then, steps = self._line
        if sys.stdout.isatty() or done == total or now - then < SECONDS or done - steps < SHARE * total:
            return
        self._line = now, done
        began, first = self._began
        left = (now - began) / (done - first) * (total - done)
        shown = ", ".join(f"{name} {float(trainer.progress_bar_metrics[name]):.4f}" for name in ("loss", "iou"))
        log.info(
            "epoch %d of %d: %.0f %% (step %d of %d), %s, %.0f s left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            100 * done / total,
            done,
            total,
            shown,
            left,
        )
