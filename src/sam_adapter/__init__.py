"""Teach Segment Anything (SAM) to see what it misses.

The public API: `train`, `evaluate`, `predict`, `load`, `SamSegmenter`, `Predictor` and their configurations. Names are
imported when they are first used, so that importing the package does not import torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import load
    from .config import CheckConfig, ConvertConfig, EvaluateConfig, PredictConfig, TrainConfig
    from .convert import convert
    from .data.inspection import inspect
    from .evaluation import evaluate
    from .model import SamSegmenter
    from .prediction import Predictor, predict
    from .training import train

__version__ = "0.1.0"

_HOMES = {
    "load": "checkpoint",
    "CheckConfig": "config",
    "ConvertConfig": "config",
    "EvaluateConfig": "config",
    "PredictConfig": "config",
    "TrainConfig": "config",
    "convert": "convert",
    "inspect": "data.inspection",
    "evaluate": "evaluation",
    "SamSegmenter": "model",
    "Predictor": "prediction",
    "predict": "prediction",
    "train": "training",
}

__all__ = [
    "CheckConfig",
    "ConvertConfig",
    "EvaluateConfig",
    "PredictConfig",
    "Predictor",
    "SamSegmenter",
    "TrainConfig",
    "convert",
    "evaluate",
    "inspect",
    "load",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sam_adapter' has no attribute '{name}'")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # looked up once
    return value


class _Package(ModuleType):
    """The package; a public name means the same whatever was imported before."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python sets a submodule as an attribute of its package, and 'convert' is the name of both.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
