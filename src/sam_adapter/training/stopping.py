"""Ending a run early and in good order: on Ctrl-C, on SIGTERM, and when one of several processes dies."""

import logging
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies.launchers import subprocess_script

from ..checkpoints.adapter import holds_adapter
from ..errors import ProcessError
from ..system.processes import GRACE, LOOK_EVERY, announced_as_first, handling_signals, stop_error
from .adapter_keeper import AdapterKeeper
from .lightning_module import TrainingModule

log = logging.getLogger(__name__)

RESUMING = "'--resume true' goes on from the last checkpoint."


class GracefulStop(Callback):
    """On Ctrl-C or SIGTERM finish the step, write last.ckpt and, if there is none yet, the adapter; then stop.

    A step is one of training or of validation; a validation that was cut off is done again when the run goes on. All
    processes of a run stop at the same step, whichever of them got the signal. A second signal stops at once, as does
    the first one before training has begun.

    Args:
        checkpoint: Where last.ckpt goes.
        keeper: Writes the adapter.
    """

    def __init__(self, checkpoint: Path, keeper: AdapterKeeper) -> None:
        self.checkpoint = checkpoint
        self.keeper = keeper
        self.asked = 0  # number of the signal that came
        self._training = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals while training, and afterwards put back what was there before."""
        with handling_signals(self._ask):
            yield

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning from catching SIGTERM: it would wait for the other processes within its handler, for ever."""
        trainer._signal_connector.register_signal_handlers = lambda: None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to keep."""
        self._training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Everything is written."""
        self._training = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The first moment after the signal at which no gradient is waiting for an optimiser step."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch:  # after the last one comes the validation, or the epoch's end
            self._stop_if_asked(trainer, save=True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Validation is cut off between two batches."""
        if self._training:
            self._stop_if_asked(trainer, save=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch before was validated and is in last.ckpt."""
        self._stop_if_asked(trainer, save=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A validation that is cut off starts from its first batch again, as none of its scores are kept."""
        if trainer.validating and self._training:
            counts = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress |= {"total": dict(counts), "current": dict(counts), "is_last_batch": False}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._training:
            self.asked = self.asked or number
            raise stop_error(self.asked)
        self.asked = number
        log.warning("Stopping after this step; once more to stop at once.")

    def _stop_if_asked(self, trainer: Trainer, *, save: bool) -> None:
        if not trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False):
            return
        if save:
            assert isinstance(trainer.lightning_module, TrainingModule)
            with trainer.lightning_module.trained_weights():
                trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if not holds_adapter(self.keeper.folder):
            self.keeper.write(trainer, trainer.lightning_module)
        if trainer.is_global_zero and self.checkpoint.exists():
            log.warning("Stopped. '--resume true' goes on from %s.", self.checkpoint)
        trainer.strategy.barrier()  # a process that ends early would look like one that has died
        raise stop_error(self.asked)

    def stopped(self) -> KeyboardInterrupt:
        """What Lightning's way out of the program, after a signal, stands for."""
        return stop_error(self.asked)


@contextmanager
def ending_together(children: Callable[[], list[subprocess.Popen]]) -> Iterator[None]:
    """End this process, with a sentence, within seconds of the death of another process of the run.

    A process whose partner is gone would wait for it, for up to half an hour. Lightning's own watch kills without a
    word, also a process that is still writing; it is put out of work meanwhile.

    Args:
        children: Gives the processes that this one has started so far.

    Raises:
        ProcessError: If communication failed because another process is gone.
    """
    over = threading.Event()

    def lost() -> str | None:
        for rank, child in enumerate(children(), start=1):
            if status := child.poll():
                how = f"by signal {-status}" if status < 0 else f"with status {status}"
                return f"Process {rank} of the run (number {child.pid}) was ended {how}; the run stops."
        return None

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            if (sentence := lost()) and not over.wait(GRACE):
                log.error("sam-adapter: error: %s %s", sentence, RESUMING)
                for child in children():
                    child.kill()
                os._exit(1)

    lightnings: Any = subprocess_script  # the function is not public
    observe, lightnings._launch_process_observer = lightnings._launch_process_observer, lambda _: None
    threading.Thread(target=watch, daemon=True, name="ending-together").start()
    try:
        with announced_as_first():
            yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and not re.search("gloo|nccl", str(error), re.IGNORECASE):
            raise
        # A process that ends closes its connections some moments before the system tells that it is gone.
        deadline = time.monotonic() + GRACE
        while not (sentence := lost()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for child in children():
            child.kill()
        raise ProcessError(f"{sentence or 'Another process of the run has ended.'} {RESUMING}") from error
    finally:
        lightnings._launch_process_observer = observe
        over.set()
