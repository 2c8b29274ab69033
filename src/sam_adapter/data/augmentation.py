"""Augmentation of image and mask together, by albumentations."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError

PRESETS = ("default", "flip", "none")


class Augmentation:
    """A pipeline that changes an image and its mask in the same way.

    Args:
        name: ``default`` (with p 0.5 one of horizontal flip, vertical flip, quarter turn, shift-scale-rotate),
            ``flip`` (horizontal, p 0.5), ``none``, or a .yaml or .json file that albumentations serialised.

    Raises:
        ConfigError: If the name is neither, or the file is no pipeline.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pipeline: Any = None if name == "none" else _pipeline(name)

    def __call__(self, image: np.ndarray, mask: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment one pair.

        Args:
            image: ``(H, W, 3)`` uint8.
            mask: ``(H, W)`` bool.
            seed: The same seed gives the same result, in whatever process it runs.

        Returns:
            Image and mask; their size may have changed.
        """
        if self._pipeline is None:
            return image, mask
        self._pipeline.set_random_seed(seed)
        changed = self._pipeline(image=image, mask=mask.astype(np.uint8))
        return np.ascontiguousarray(changed["image"]), np.ascontiguousarray(changed["mask"]) > 0


def _pipeline(name: str) -> Any:
    # Without this albumentations asks the network for a newer version when it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    alb: Any = import_module("albumentations")

    if name == "flip":
        return alb.Compose([alb.HorizontalFlip(p=0.5)])
    if name == "default":
        shift_scale_rotate = alb.Affine(translate_percent=(-0.0625, 0.0625), scale=(0.9, 1.1), rotate=(-45, 45), p=1.0)
        kinds = [alb.HorizontalFlip(p=1), alb.VerticalFlip(p=1), alb.RandomRotate90(p=1), shift_scale_rotate]
        return alb.Compose([alb.OneOf(kinds, p=0.5)])
    path = Path(name)
    if not path.is_file():
        presets = ", ".join(PRESETS)
        raise ConfigError(f"augment: expected one of {presets} or a .yaml or .json file, got '{name}'.")
    try:
        pipeline = alb.load(path, data_format="json" if path.suffix == ".json" else "yaml")
    except Exception as error:  # whatever the file makes the library raise
        raise ConfigError(
            f"augment: '{name}' is not a pipeline that albumentations can load ({error}). "
            "Write one with albumentations.save(pipeline, file)."
        ) from error
    if not hasattr(pipeline, "set_random_seed"):
        pipeline = alb.Compose([pipeline])
    return pipeline
