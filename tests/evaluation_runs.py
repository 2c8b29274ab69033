"""Pairs, adapters and calls of `evaluate` that several files of tests share."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from conftest import write_pairs
from sam_adapter import EvaluateConfig, evaluate
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.methods.base import MethodSettings
from sam_adapter.segmenter import SamSegmenter

KINDS = ("box", "points", "none")
EMPTY = (2, 5)
"""Pairs without foreground."""
BEST = {"box": 0.35, "points": 0.6, "none": 0.45}


def eight_pairs(place: Path) -> Path:
    """Eight pairs, two of them without foreground."""
    folder = write_pairs(place / "pairs", 8)
    for index in EMPTY:
        path = folder / f"masks/img_{index:02}.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    return folder


def three_adapters(folder: Path, sam_folder: str) -> dict[str, Path]:
    """Adapters of the decoder with random changes: as different as trained ones, and made at once.

    'one' and 'other' differ in weights, 'squash' from 'one' in resizing alone; all but 'other' know best thresholds.
    """
    result = {}
    for name, seed, resize in (("one", 1, "pad"), ("other", 2, "pad"), ("squash", 1, "squash")):
        base = SamSegmenter.frozen(sam_folder)
        preprocessing = type(base.preprocessing)(image_size=64, resize=resize)  # type: ignore[arg-type]
        segmenter = SamSegmenter(
            base.backbone, MethodSettings(name="decoder", parts=("mask_decoder",)), preprocessing, prompt="mixed"
        )
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in segmenter.trained_state().values():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        save_adapter(folder / name, segmenter, best_thresholds=BEST if name != "other" else {})
        result[name] = folder / name
    return result


def scored(pairs: Path, adapter: Path | None, output: Path, /, **changes: Any) -> dict[str, Any]:
    values = {"images": pairs / "images", "masks": pairs / "masks", "adapter": adapter, "precision": "32"}
    return evaluate(EvaluateConfig(output=output, workers=0, accelerator="cpu", **{**values, **changes}))


def rows_of(output: Path, **of: str) -> list[dict[str, str]]:
    with (output / "per_image.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[name] == value for name, value in of.items())]


def truth_of(pairs: Path, index: int) -> np.ndarray:
    return np.asarray(Image.open(pairs / f"masks/img_{index:02}.png")) > 0


def overlap(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    both, total = (mask & truth).sum(), mask.sum() + truth.sum()
    return (both + 1e-3) / (total - both + 1e-3), (2 * both + 1e-3) / (total + 1e-3)
