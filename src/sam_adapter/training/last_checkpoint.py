"""How ``last.ckpt`` is written and read: on the output's own disk, and complete at every moment."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from ..errors import CheckpointError, ConfigError
from ..system.writing import written_beside

_KEYS = frozenset({"state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step"})


class RunCheckpointIO(TorchCheckpointIO):
    """Lightning's own way stages the file in the system's temporary folder and copies it over the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the state of a run.

        Raises:
            OutputError: If it cannot be written; the old file is as it was.
        """
        with written_beside(Path(path), durable=True) as partial:
            try:
                with partial.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:  # PyTorch's writer puts its own error over the system's
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the state of a run; never code.

        Raises:
            CheckpointError: If the file is damaged, or no state of a run.
        """
        return _read(path, map_location=map_location or "cpu")


def require_epochs_left(path: Path, epochs: int) -> None:
    """Refuse to go on to fewer epochs than a run has begun.

    Args:
        path: Its ``last.ckpt``, of which the tensors are not read.
        epochs: How many it is to have.

    Raises:
        ConfigError: If it has begun more.
        CheckpointError: If the file is damaged, or no state of a run.
    """
    begun = _read(path, map_location="cpu", mmap=True)["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"]
    if begun > epochs:
        raise ConfigError(f"epochs: the run has come to epoch {begun} already; give {begun} or more, got {epochs}.")


def require_same_place(path: Path, **now: int) -> None:
    """Refuse to go on in the middle of an epoch with other values of what decides which pictures were seen in it.

    Args:
        path: Its ``last.ckpt``, of which the tensors are not read. What it does not hold is not compared.
        now: Some of what `SegmentationTask` writes as the checkpoint's ``place``, as it is now.

    Raises:
        ConfigError: If the last epoch was not finished and values differ; it names both.
        CheckpointError: If the file is damaged, or no state of a run.
    """
    checkpoint = _read(path, map_location="cpu", mmap=True)
    epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    before = checkpoint.get("place", {})
    changed = [
        f"{name}: was {before[name]}, is {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    ]
    if changed and epoch["processed"] < epoch["ready"]:
        raise ConfigError(
            f"resume: '{path}' is of the middle of epoch {epoch['ready']}, and with other values of these it cannot be "
            "told which pictures that epoch has still to see. Go on with the same ones (processes are --devices times "
            "--nodes); another number of processes, or of pictures, needs a checkpoint of an epoch's end.",
            *changed,
        )


def _read(path: Any, *, map_location: Any, mmap: bool = False) -> dict[str, Any]:
    cure = "Start the run again (--overwrite true), or copy the file again if it is a copy."
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # of many types, depending on where the file is cut
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({reason}). {cure}") from error
    missing = _KEYS - checkpoint.keys() if isinstance(checkpoint, dict) else _KEYS
    if missing:
        raise CheckpointError(f"{path}: no state of a run, it has no '{min(missing)}'. {cure}")
    return checkpoint
