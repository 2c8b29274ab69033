"""What a run here would compute on, and with which versions."""

import platform
from importlib.metadata import version

import torch

from .backbones.families import ALIASES, BUNDLED
from .config.commands import InfoConfig
from .errors import amount
from .system.machine import FUSED, Machine

LIBRARIES = ("torch", "transformers", "lightning", "albumentations", "numpy")


def describe(config: InfoConfig) -> str:
    """Lines for the user.

    Raises:
        ConfigError: If a GPU is asked for and there is none.
    """
    machine = Machine.asked(config)
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [
        f"sam-adapter {version('sam-adapter')}, Python {platform.python_version()}, {platform.platform()}",
        versions,
        f"CPU: {amount(torch.get_num_threads(), 'thread')}",
        *(f"GPU {index}: {_gpu(index)}" for index in range(torch.cuda.device_count())),
        f"Runs compute on: {machine}; SAM 2 and SAM 3 attend {FUSED}",
        f"Models: {', '.join(BUNDLED)} comes with the package; {', '.join(ALIASES)} are fetched when they are named",
    ]
    return "\n".join(lines)


def _gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
