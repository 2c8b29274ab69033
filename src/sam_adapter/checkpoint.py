"""The adapter on disk: ``adapter_config.json`` and ``adapter_model.safetensors``, self-describing and strict."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from .backbones import load_backbone
from .data.transforms import Preprocessing
from .errors import CheckpointError
from .methods import MethodSettings
from .model import SamSegmenter
from .nn.sam_adapter import AdapterSettings
from .writing import written_beside

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FORMAT = 1


def save_adapter(folder: Path, segmenter: SamSegmenter, *, scores: Mapping[str, float] | None = None) -> None:
    """Write an adapter folder; at every moment the folder holds complete files.

    Args:
        folder: Made if it is not there.
        segmenter: Only its trained tensors are written.
        scores: Validation scores to keep with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backbone = segmenter.backbone
    config = {
        "format": FORMAT,
        "method": asdict(segmenter.method),
        "base": {
            "family": backbone.family,
            "name": backbone.identity.name,
            "sha256": backbone.identity.sha256,
        },
        "preprocessing": asdict(segmenter.preprocessing),
        "prompt": segmenter.prompt,
        "threshold": segmenter.threshold,
        "classes": ["foreground"],
        "scores": dict(scores or {}),
        "versions": {name: version(name) for name in ("sam-adapter", "torch", "transformers")},
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in segmenter.trained_state().items()}
    weights, description = folder / WEIGHTS_FILE, folder / CONFIG_FILE
    with written_beside(weights) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    # Last, because a folder with a description counts as an adapter.
    with written_beside(description) as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


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
    config = read_adapter_config(folder)
    preprocessing = Preprocessing(**{k: _tuple(v) for k, v in config["preprocessing"].items()})
    base = config["base"]
    try:
        backbone = load_backbone(model or base["name"], image_size=preprocessing.image_size)
    except CheckpointError as error:
        if model is not None:
            raise
        raise CheckpointError(
            f"the base of {folder} was '{base['name']}': {error} If it lies elsewhere now, give its place as --model."
        ) from error
    if backbone.identity.sha256 != base["sha256"]:
        raise CheckpointError(
            f"{folder} was trained on the base '{base['name']}' with SHA-256 {base['sha256']}, but "
            f"'{backbone.identity.name}' has {backbone.identity.sha256}. Give the right base with --model."
        )
    segmenter = SamSegmenter(
        backbone,
        method_of(config),
        preprocessing,
        prompt=config["prompt"],
        threshold=config["threshold"],
    )
    try:
        segmenter.load_trained_state(load_file(folder / WEIGHTS_FILE))
    except CheckpointError as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: {error}") from error
    except Exception as error:  # safetensors raises its own types on broken files
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: cannot be read ({error}).") from error
    return segmenter.train(False)


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The description of an adapter.

    Raises:
        CheckpointError: If the folder is no adapter, or one of a newer format.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"adapter: '{folder}' has no {name}. Expected a folder that 'sam-adapter train' (RUN/adapter) or "
                "'sam-adapter convert' wrote."
            )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        found = config["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: not an adapter description ({error}).") from error
    if found != FORMAT:
        raise CheckpointError(f"{folder}: adapter format {found} is not known here (format {FORMAT} is). Upgrade.")
    return config


def method_of(config: dict[str, Any]) -> MethodSettings:
    """How an adapter was trained, by its description from `read_adapter_config`."""
    values = config["method"]
    adapter = values.get("adapter")
    return MethodSettings(
        name=values["name"],
        parts=tuple(values["parts"]),
        adapter=AdapterSettings(**adapter) if adapter else None,
        carried=tuple(values["carried"]),
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
