"""The adapter on disk: ``sam_adapter.json`` and ``sam_adapter.safetensors``, self-describing and strict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..annotations.reading.classes import Classes
from ..backbones import Backbone, load_backbone
from ..backbones.families import BUNDLED
from ..config.registry import TASKS
from ..errors import CheckpointError, ConfigError
from ..segmenter import SamSegmenter
from ..system.writing import write_tensors, written_beside
from .description import Description, read_description
from .peft_folder import (
    PEFT_CONFIG,
    PEFT_FOLDER,
    PEFT_WEIGHTS,
    has_peft_folder,
    remove_peft_folder,
    require_same_peft_folder,
    write_peft_folder,
)

CONFIG_FILE = "sam_adapter.json"
WEIGHTS_FILE = "sam_adapter.safetensors"
NO_CLASSES = ("foreground",)
"""Classes in the description of an adapter of which none were named."""
FORMER_FILES = (PEFT_CONFIG, PEFT_WEIGHTS)
"""What the two were called before; the names are those of `peft`'s adapters."""


def save_adapter(
    folder: Path,
    segmenter: SamSegmenter,
    *,
    scores: Mapping[str, float] | None = None,
    frozen_scores: Mapping[str, float] | None = None,
    epoch: int | None = None,
    epochs: int | None = None,
    warnings: Sequence[str] = (),
    best_thresholds: Mapping[str, float] | None = None,
    core_rise: float | None = None,
) -> None:
    """Write an adapter folder; at every moment the folder holds complete files.

    Args:
        folder: Made if it is not there.
        segmenter: Only its trained tensors are written.
        scores: Validation scores to keep with it; those without a finite value are left out.
        frozen_scores: Those of the base without the adapter, on the same pictures.
        epoch: Which epoch it comes from, counted from 1.
        epochs: How many the run is to have.
        warnings: What its user should know, a sentence each.
        best_thresholds: The best threshold on validation for each kind of prompt; None keeps the segmenter's.
        core_rise: The best one on validation, see `split_objects`; None keeps the segmenter's.
    """
    backbone = segmenter.backbone
    description: dict[str, Any] = {
        "method": asdict(segmenter.method),
        "base": {"family": backbone.family, "name": backbone.identity.name, "sha256": backbone.identity.sha256},
        "preprocessing": asdict(segmenter.preprocessing),
        "reading": None if segmenter.reading is None else segmenter.reading.to_json(),
        "task": segmenter.task,
        "prompt": segmenter.prompt,
        "threshold": segmenter.threshold,
        "best_thresholds": dict(segmenter.best_thresholds if best_thresholds is None else best_thresholds),
        "core_rise": segmenter.core_rise if core_rise is None else core_rise,
        "classes": segmenter.class_names or NO_CLASSES,
        "class_tokens": segmenter.class_tokens,
        "tiles": None if segmenter.tiling is None else asdict(segmenter.tiling),
        "scores": _finite(scores),
        "frozen_scores": _finite(frozen_scores),
        "epoch": epoch,
        "epochs": epochs,
        "warnings": tuple(warnings),
        "versions": {name: version(name) for name in ("sam-adapter", "torch", "transformers")},
    }
    text = Description.model_validate(description).to_json()
    form = None if segmenter.adapter is None else segmenter.adapter.peft_form(backbone.identity.name)
    remove_peft_folder(folder)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in segmenter.trained_state().items()}
    write_tensors(folder / WEIGHTS_FILE, tensors, metadata={"format": "pt"}, durable=True)
    # Last, because a folder with a description counts as an adapter.
    with written_beside(folder / CONFIG_FILE, durable=True) as partial:
        partial.write_text(text, encoding="utf-8")
    for name in FORMER_FILES:
        (folder / name).unlink(missing_ok=True)
    if form is not None:
        write_peft_folder(folder, form)


def load(adapter: Path | str | None = None, *, model: str | None = None, image_size: int | None = None) -> SamSegmenter:
    """Load an adapter with its base, or a SAM as it is.

    Args:
        adapter: Adapter folder; None for a plain SAM.
        model: Base model; with an adapter, where its base lies if it is not where it was.
        image_size: For a plain SAM: side of the encoder's input.

    Returns:
        The segmenter in eval mode on the CPU.

    Raises:
        CheckpointError: If files are missing or do not fit, or the base is not the one the adapter was trained on.
    """
    if adapter is None:
        if model is None:
            raise CheckpointError("load: give an adapter folder, a base model, or both.")
        return SamSegmenter.frozen(model, image_size=image_size)
    folder = Path(adapter)
    description = read_adapter_config(folder)
    state = read_adapter_weights(folder)
    base, preprocessing = description.base, description.preprocessing_settings
    try:
        backbone = load_backbone(model or base.name, image_size=preprocessing.image_size)
    except CheckpointError as error:
        if model is not None:
            raise
        raise CheckpointError(
            f"the base of {folder} was '{base.name}': {error} If it lies elsewhere now, give its place as --model."
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{adapter_files(folder)[0]}: preprocessing.{error}") from error
    if backbone.identity.sha256 != base.sha256:
        raise CheckpointError(
            f"{folder} was trained on the base '{base.name}' with SHA-256 {base.sha256}, but "
            f"'{backbone.identity.name}' has {backbone.identity.sha256}. {_base_cure(base.name, backbone)}"
        )
    with torch.device("meta"):  # no memory for what the method adds until the file is known to fit it
        segmenter = SamSegmenter(
            backbone,
            description.method_settings.carrying_untrained(state, backbone),
            preprocessing,
            task=description.task,
            prompt=description.prompt,
            threshold=description.threshold,
            best_thresholds={**description.best_thresholds},
            core_rise=description.core_rise,
            reading=description.reading,
            class_names=described_classes(description),
            class_tokens=description.class_tokens,
            tiling=description.tiling,
        )
    try:
        segmenter.load_trained_state(state)
    except CheckpointError as error:
        raise CheckpointError(f"{adapter_files(folder)[1]}: {error}") from error
    if segmenter.adapter is not None and has_peft_folder(folder):
        require_same_peft_folder(folder, segmenter.adapter.peft_form(base.name))
    return segmenter.train(False)


def _base_cure(name: str, found: Backbone) -> str:
    if name in BUNDLED and found.identity.name == name:
        return (
            f"The bundled model '{name}' was pretrained again: train the adapter again with 'sam-adapter train "
            "--config RUN/config.yaml --overwrite true', or give the former weights with --model."
        )
    return "Give the right base with --model."


def described_classes(description: Description) -> tuple[str, ...]:
    """Names of the classes of an adapter; none of a task without classes."""
    entry = TASKS[description.task]
    named = entry.classes or (entry.objects and description.classes != NO_CLASSES)
    return description.classes if named else ()


def known_classes(description: Description) -> Classes | None:
    """The classes of an adapter, with values and colours where those are known."""
    names = described_classes(description)
    if not names:
        return None
    known = None if description.reading is None else description.reading.classes
    return known or Classes(names=names)


def holds_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter's description, under its name or that of before."""
    return any((folder / name).is_file() for name in (CONFIG_FILE, FORMER_FILES[0]))


def adapter_files(folder: Path) -> tuple[Path, Path]:
    """Description and weights of an adapter, under their names or those of before.

    Raises:
        CheckpointError: If the folder is no adapter.
    """
    if folder.name == PEFT_FOLDER and (folder.parent / CONFIG_FILE).is_file():
        raise CheckpointError(f"adapter: '{folder}' is the adapter as peft reads it. Give '{folder.parent}'.")
    names = FORMER_FILES if _is_former(folder) else (CONFIG_FILE, WEIGHTS_FILE)
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"adapter: '{folder}' has no {name}. Expected a folder that 'sam-adapter train' (RUN/adapter) or "
                "'sam-adapter convert' wrote."
            )
    return folder / names[0], folder / names[1]


def _is_former(folder: Path) -> bool:
    return not (folder / CONFIG_FILE).exists() and (folder / FORMER_FILES[0]).is_file()


def read_adapter_config(folder: Path) -> Description:
    """The description of an adapter, every field checked.

    Raises:
        CheckpointError: If the folder is no adapter, or its description is wrong or of a newer format.
    """
    return read_description(adapter_files(folder)[0])


def read_adapter_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter.

    Raises:
        CheckpointError: If the file is damaged, or a value is not finite.
    """
    path = adapter_files(folder)[1]
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own types on broken files
        raise CheckpointError(
            f"{path}: cannot be read as safetensors ({error}). Copy or train the adapter again."
        ) from error
    broken = [name for name, tensor in sorted(state.items()) if not tensor.float().isfinite().all()]
    if broken:
        more = f" and {len(broken) - 8} more" if len(broken) > 8 else ""
        raise CheckpointError(
            f"{path}: NaN or infinite values in {', '.join(broken[:8])}{more}. Training had diverged or the file is "
            "damaged; use the adapter of an earlier run."
        )
    return state


def _finite(scores: Mapping[str, float] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (scores or {}).items() if math.isfinite(value)}
