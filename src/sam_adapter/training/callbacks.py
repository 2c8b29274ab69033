"""What happens beside the training loop: metrics.csv is written."""

import csv
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..config.choices import ASKED_KINDS, MIXED_KINDS, PromptKind, asked_kinds
from ..config.registry import TASKS
from ..config.scores import headings, with_kinds
from ..system.writing import written_beside
from .lightning_module import TrainingModule
from .run_folder import read_metrics

log = logging.getLogger(__name__)


class MetricsTable(Callback):
    """Writes one row an epoch to a CSV file and keeps the rows of before when a run is continued.

    Epochs count from 1; row 0 has the validation scores of the base before training.

    Args:
        path: The file.
        task: Whose scores have columns.
        prompt: Kind that the run asks with.
        added: Scores that ``--metrics`` adds.
    """

    TRAINING = ("step", "lr", "train_loss", "train_iou")

    def __init__(self, path: Path, task: str, prompt: PromptKind, added: Sequence[str] = ()) -> None:
        self.path = path
        self.shown = (*TASKS[task].scores, *headings(added))
        kinds = dict.fromkeys((*MIXED_KINDS, *asked_kinds(prompt)))  # the columns of most runs are the same
        self.validation = [f"val_{name}" for name in ("loss", *with_kinds(kinds, task, added), "empty_correct")]
        self._began = 0.0

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of the base."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero:
            row = self._add(0, {"step": 0}, pl_module.frozen_scores)
            log.info("frozen base: %s (%.1f s)", _shown(row, self.shown), row["seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that goes on in the middle of an epoch has no other start."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row; rows of a run that went further before it was resumed are replaced."""
        assert isinstance(pl_module, TrainingModule)
        means = pl_module.train_scores()
        if not trainer.is_global_zero:
            return
        training = {f"train_{name}": value for name, value in means.items()}
        training |= {"step": trainer.global_step, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
        row = self._add(trainer.current_epoch + 1, training, pl_module.val_scores)
        log.info(
            "epoch %d of %d: %s (%.1f s)", row["epoch"], trainer.max_epochs, _shown(row, self.shown), row["seconds"]
        )

    def _add(self, epoch: int, training: Mapping[str, float], scores: Mapping[str, float]) -> dict[str, Any]:
        columns = ["epoch", *self.TRAINING, *self.validation, "seconds"]
        values = {**training, **{f"val_{name}": value for name, value in scores.items()}, "epoch": epoch}
        row: dict[str, Any] = {name: values.get(name, "") for name in columns}
        now = time.perf_counter()
        row["seconds"], self._began = round(now - self._began, 3), now
        before = [old for old in read_metrics(self.path) if int(old["epoch"]) < epoch]
        with written_beside(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=columns)
            writer.writeheader()
            writer.writerows([*before, row])
        return row


def _shown(row: Mapping[str, Any], scores: Sequence[str]) -> str:
    """The scores of a row for people, IoU by kind of prompt; where one kind is scored, it is not said twice."""
    kinds = [kind for kind in ASKED_KINDS if row.get(f"val_iou_{kind}", "") != ""]
    names = ["train_loss", "train_iou", "val_loss"]
    for name in scores:
        names.append(f"val_{name}")
        names += [f"val_iou_{kind}" for kind in kinds if name == "iou" and len(kinds) > 1]
    names.append("val_empty_correct")
    return ", ".join(f"{name.replace('_', ' ')} {row[name]:.4f}" for name in names if row[name] != "")
