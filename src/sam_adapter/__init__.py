"""Teach Segment Anything (SAM) to see what it misses.

The public API: `train`, `evaluate`, `predict`, `load`, `SamSegmenter`, `Predictor` and their configurations. Names are
imported when they are first used, so that importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints.adapter import load
    from .checkpoints.foreign import convert
    from .checkpoints.merging import merge
    from .config.commands import CheckConfig, ConvertConfig, EvaluateConfig, MergeConfig, PredictConfig
    from .config.training import TrainConfig
    from .data.inspection.inspect import inspect
    from .evaluation.evaluate import evaluate
    from .prediction.folder import predict
    from .prediction.predictor import Predictor
    from .segmenter import SamSegmenter
    from .training.run import train

__version__ = "0.1.0"

_HOMES = {
    "load": "checkpoints.adapter",
    "CheckConfig": "config.commands",
    "ConvertConfig": "config.commands",
    "EvaluateConfig": "config.commands",
    "MergeConfig": "config.commands",
    "PredictConfig": "config.commands",
    "TrainConfig": "config.training",
    "convert": "checkpoints.foreign",
    "merge": "checkpoints.merging",
    "inspect": "data.inspection.inspect",
    "evaluate": "evaluation.evaluate",
    "SamSegmenter": "segmenter",
    "Predictor": "prediction.predictor",
    "predict": "prediction.folder",
    "train": "training.run",
}

__all__ = [
    "CheckConfig",
    "ConvertConfig",
    "EvaluateConfig",
    "MergeConfig",
    "PredictConfig",
    "Predictor",
    "SamSegmenter",
    "TrainConfig",
    "convert",
    "evaluate",
    "inspect",
    "load",
    "merge",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sam_adapter' has no attribute '{name}'")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # looked up once
    return value
