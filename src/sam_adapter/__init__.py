"""Teach Segment Anything (SAM) to see what it misses.

The public API: `train`, `evaluate`, `predict`, `load`, `SamSegmenter`, `Predictor` and their configurations. Names are
imported when they are first used, so that importing the package does not import torch.
"""

from importlib import import_module
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
    globals()[name] = value  # a function may share its name with nothing else: looked up once
    return value
