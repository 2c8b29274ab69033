"""Which device does the arithmetic, and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from .errors import ConfigError


def pick_device(accelerator: str) -> torch.device:
    """The device for evaluation and prediction.

    Args:
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        ConfigError: If a GPU is asked for and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator: PyTorch finds no GPU here; use '--accelerator cpu'.")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_precision(asked: str, device_type: str) -> str:
    """The precision that is meant: ``auto`` is bfloat16 on GPUs that have it, float32 elsewhere."""
    if asked == "auto":
        return "bf16-mixed" if device_type == "cuda" and torch.cuda.is_bf16_supported() else "32"
    return asked


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Context in which matrix products run in the precision asked for."""
    resolved = resolve_precision(precision, device.type)
    if resolved == "32":
        return nullcontext()
    dtype = torch.bfloat16 if resolved == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype=dtype)
