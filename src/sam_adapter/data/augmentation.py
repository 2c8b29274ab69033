"""Augmentation of image and mask together, by albumentations."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError

PRESETS = ("default", "flip", "none")

_TRIED = 256
"""Side of the pair that a pipeline is tried on when it is loaded."""


class Augmentation:
    """A pipeline that changes an image and its mask in the same way.

    Args:
        name: ``default`` (with p 0.5 one of horizontal flip, vertical flip, quarter turn, shift-scale-rotate),
            ``flip`` (horizontal, p 0.5), ``none``, or a .yaml or .json file that albumentations serialised.

    Raises:
        ConfigError: If the name is neither, or the file is no pipeline of pictures to pictures.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pipeline: Any = None if name == "none" else _pipeline(name)
        if name not in PRESETS:
            self.require_pictures(_TRIED, _TRIED)

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self._pipeline is not None

    def require_pictures(self, height: int, width: int) -> None:
        """Try the pipeline on a picture of a size, so that what it cannot do is known before training.

        Raises:
            ConfigError: If it does not give RGB pictures of 8 bits and masks of their size, or fails.
        """
        if self._pipeline is None:
            return
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None] = 1
        for seed in range(_TRIES):
            self._pipeline.set_random_seed(seed)
            try:
                changed = self._pipeline(image=image, mask=mask)
                problem = _problem(changed)
            except Exception as error:  # whatever its transforms raise
                problem = f"it fails on a picture of {width}x{height} pixels ({_first_line(error)})"
            if problem:
                raise ConfigError(
                    f"augment: '{self.name}' cannot be used, as {problem}. A pipeline makes RGB pictures of 8 bits of "
                    "such; leave Normalize, ToFloat and ToTensorV2 out, as SAM's own normalisation follows, and crop "
                    "no more than the smallest picture has."
                )

    def __call__(self, image: np.ndarray, labels: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Augment one pair.

        Args:
            image: ``(H, W, 3)`` uint8.
            labels: ``(H, W)`` uint8 or int32 label map; void is a label that goes wherever the map goes.
            seed: The same seed gives the same result, in whatever process it runs.

        Returns:
            Image and label map; their size may have changed.

        Raises:
            DataError: If the pipeline cannot take this pair.
        """
        if self._pipeline is None:
            return image, labels
        self._pipeline.set_random_seed(seed)
        try:
            changed = self._pipeline(image=image, mask=_movable(labels))
        except Exception as error:  # whatever its transforms raise
            raise DataError(
                f"augment: '{self.name}' cannot change a picture of {image.shape[1]}x{image.shape[0]} pixels "
                f"({_first_line(error)}). Crops must fit into the smallest picture; PadIfNeeded before them helps."
            ) from error
        moved = np.ascontiguousarray(changed["mask"]).astype(labels.dtype, copy=False)
        return _as_picture(changed["image"]), moved.reshape(changed["image"].shape[:2])


def _movable(labels: np.ndarray) -> np.ndarray:
    """A label map in a type that OpenCV warps without loss: it does not warp int32."""
    if labels.dtype == np.uint8:
        return labels
    return labels.astype(np.uint16 if labels.max(initial=0) <= np.iinfo(np.uint16).max else np.float32)


_TRIES = 8
"""Random draws that a pipeline is tried with."""


def _problem(changed: dict[str, Any]) -> str | None:
    """What is wrong with a pipeline's result."""
    image, mask = changed["image"], changed["mask"]
    if not isinstance(image, np.ndarray) or not isinstance(mask, np.ndarray):
        return f"it gives {type(image).__name__} instead of an array"
    if image.dtype != np.uint8:
        return f"it gives pictures of {image.dtype} instead of uint8"
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        return f"it gives pictures of shape {image.shape} instead of (H, W, 3)"
    if mask.shape[:2] != image.shape[:2] or mask.size != image.shape[0] * image.shape[1]:
        return f"it gives masks of shape {mask.shape} for pictures of shape {image.shape}"
    if mask.dtype != np.uint8:
        return f"it gives masks of {mask.dtype} instead of uint8"
    return None


def _as_picture(image: np.ndarray) -> np.ndarray:
    """``(H, W, 3)``, also of what ToGray left one channel of."""
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
