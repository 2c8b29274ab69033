"""The families of base models, and loading one by name, folder or file."""

import json
from pathlib import Path

from torch import nn

from ..errors import CheckpointError
from .base import Backbone
from .download import download_folder
from .family import Family
from .meta_names import read_tensors
from .sam import SamFamily
from .sam2 import Sam2Family
from .sam3 import Sam3Family
from .sam_hq import SamHqFamily

FAMILIES: dict[str, Family] = {
    family.name: family for family in (SamFamily(), SamHqFamily(), Sam2Family(), Sam3Family())
}

SHOWN_NAMES = 3
"""Of tensors, where a file is of no family."""
ALIASES = {alias: model for family in FAMILIES.values() for alias, model in family.aliases.items()}
"""Short names of models that are fetched when they are named, to Hugging Face ids."""
BUNDLED = {name: folder for family in FAMILIES.values() for name, folder in family.bundled.items()}
"""Folders of models that come with the package."""


def load_backbone(model: str, *, image_size: int | None = None) -> Backbone:
    """Load a base model.

    Args:
        model: Hugging Face id or local folder, an alias (``vit_b``, ``sam_hq_b``, ``sam2.1_t``, ``sam3``, ...), the
            bundled ``tiny``, or a file of its authors' (``.pth``, ``.pt``).
        image_size: Side of the encoder's square input; position tables are interpolated. None keeps the model's own.

    Returns:
        The backbone in float32, frozen, in eval mode.

    Raises:
        CheckpointError: If the weights are missing or are of no known family.
        ConfigError: If the image size does not fit the patches.
    """
    path = BUNDLED.get(model, Path(model))
    if path.is_file():
        family, loaded = _from_file(path)
    elif path.is_dir():
        family, loaded = _from_folder(path)
    elif path.suffix in (".pth", ".pt", ".safetensors") or model.startswith((".", "/", "~")):
        raise CheckpointError(f"model: there is no file or folder '{model}'.")
    else:
        family, loaded = _from_folder(download_folder(ALIASES.get(model, model), alias=model, aliases=ALIASES))
    # A file or folder of the user's is remembered by its full path, so that an adapter finds it from anywhere.
    name = str(path.resolve()) if model not in BUNDLED and path.exists() else model
    return family.backbone(loaded, name, image_size=image_size).requires_grad_(False).eval()


def _from_file(path: Path) -> tuple[Family, nn.Module]:
    state = read_tensors(str(path))
    family = next((one for one in FAMILIES.values() if one.is_own(state)), None)
    if family is None:
        names = ", ".join(sorted(state)[:SHOWN_NAMES]) or "none"
        raise CheckpointError(
            f"{path}: not a SAM checkpoint: no known family ({', '.join(FAMILIES)}) names tensors so; the "
            f"first are {names}. Expected one of Meta's files such as sam_vit_b_01ec64.pth or sam2.1_hiera_tiny.pt."
        )
    return family, family.from_tensors(state, str(path))


def _from_folder(folder: Path) -> tuple[Family, nn.Module]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: expected a model folder with config.json and model.safetensors.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a model's description ({error}).") from error
    families = FAMILIES.values()
    by_type = {held: family for family in families for held in (family.model_type, *family.more_model_types)}
    if not isinstance(found, str) or found not in by_type:
        known = " or ".join(f"'{name}'" for name in by_type)
        raise CheckpointError(f"{folder}: expected a model of type {known}, got {found!r:.80}.")
    return by_type[found], by_type[found].from_folder(folder)
