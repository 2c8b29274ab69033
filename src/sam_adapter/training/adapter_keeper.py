"""Who saves: the adapter of the best epoch, or of the latest without validation."""

import logging
import math
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..checkpoints.adapter import holds_adapter, save_adapter
from ..config.choices import ASKED_KINDS
from .lightning_module import TrainingModule
from .outcome import worse_than_frozen

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
        self.thresholds: dict[str, float] = {}
        self.core_rise: float | None = None
        self.epoch: int | None = None
        """The epoch that was kept, counted from 1."""

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, for resuming."""
        kept = ("best", "scores", "epoch", "thresholds", "core_rise")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best score of before, if what had it is still there."""
        if state_dict["epoch"] is not None and not self._written():
            log.warning(
                "The adapter of epoch %d is no longer in '%s'; the best from here on is kept.",
                state_dict["epoch"],
                self.folder,
            )
            return
        self.best, self.scores, self.epoch = state_dict["best"], state_dict["scores"], state_dict["epoch"]
        self.thresholds, self.core_rise = state_dict["thresholds"], state_dict.get("core_rise")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the adapter if it is better."""
        if self.monitor is None or trainer.sanity_checking:
            return
        assert isinstance(pl_module, TrainingModule)
        epoch = trainer.current_epoch + 1
        value = pl_module.val_scores.get(self.monitor)
        if value is None and self.best is None:
            log.warning("No validation image has foreground, so there is no %s; the latest is kept", self.monitor)
        elif value is None or not math.isfinite(value):  # also a loss that is NaN for every image, which has no mean
            log.warning("%s is %s after epoch %d; the adapter is not kept", self.monitor, value, epoch)
            return
        if value is None or self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best, self.epoch = value, epoch
            found = pl_module.val_scores
            self.thresholds = {kind: found[name] for kind in ASKED_KINDS if (name := f"best_threshold_{kind}") in found}
            self.core_rise = found.get("best_core_rise")
            self.scores = {name: one for name, one in found.items() if not name.startswith("best_")}
            self.write(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without validation the latest is kept."""
        if self.monitor is None:
            self.epoch = trainer.current_epoch + 1
            self.write(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """If nothing was kept, as in a run that was over when it went on without its adapter, keep the latest."""
        if trainer.is_global_zero and not self._written():
            self.epoch = trainer.current_epoch
            log.warning("There was no adapter in '%s'; it now holds the latest, of epoch %d.", self.folder, self.epoch)
            self.write(trainer, pl_module)

    def _written(self) -> bool:
        return holds_adapter(self.folder)

    def write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the adapter, once for all processes."""
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero:
            return
        with pl_module.validated_weights() as segmenter:
            save_adapter(
                self.folder,
                segmenter,
                scores=self.scores,
                frozen_scores=pl_module.frozen_scores,
                epoch=self.epoch,
                epochs=trainer.max_epochs,
                warnings=self.warnings(pl_module),
                best_thresholds=self.thresholds,
                core_rise=self.core_rise,
            )

    def warnings(self, module: TrainingModule) -> list[str]:
        """What the user of the kept adapter should know."""
        return [*module.warnings, *worse_than_frozen(self.scores, module.frozen_scores)]
