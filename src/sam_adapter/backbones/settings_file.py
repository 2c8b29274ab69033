"""What tensors do not say of a model, from a file of settings beside its checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import yaml

from ..errors import CheckpointError

LARGEST_SETTINGS = 1 << 20
"""Bytes of the largest file that is looked at for a model's settings; Meta's have four thousand."""
KEY = "global_att_blocks"
"""A file without it is about something else."""
T = TypeVar("T")


def described(source: Path, untold: type[T], kind: str) -> T | None:
    """What a file beside a checkpoint says of it: YAML or JSON, with Meta's settings as they are, or these alone.

    Its stem begins the checkpoint's, as ``sam2.1_hiera_t.yaml`` does that of ``sam2.1_hiera_tiny.pt``; of several the
    longest counts.

    Args:
        source: The checkpoint.
        untold: A dataclass of whole numbers, numbers and tuples of whole numbers, under the names of Meta's settings.
        kind: What errors call the model.

    Raises:
        CheckpointError: If the file has other values than these.
    """
    found = (one for one in source.parent.glob("*") if one.suffix in (".yaml", ".json") and one.is_file())
    beside = [one for one in found if source.stem.startswith(one.stem) and one.stat().st_size <= LARGEST_SETTINGS]
    for path in sorted(beside, key=lambda one: -len(one.stem)):
        try:
            values = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
            if KEY not in values:
                continue
            read = {name: _reader(hint) for name, hint in get_type_hints(untold).items()}
            return untold(**{name: reader(values[name]) for name, reader in read.items() if name in values})
        except (OSError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
            names = ", ".join(get_type_hints(untold))
            raise CheckpointError(
                f"{path}: expected the settings of a {kind}, as Meta's, with {names} ({error})."
            ) from error
    return None


def _flat(settings: Any) -> Mapping[str, Any]:
    """The settings of the model, of its trunk and of its decoder side by side."""
    if not isinstance(settings, dict):
        return {}
    model = settings.get("model", settings)
    trunk = model.get("image_encoder", {}).get("trunk", {})
    return {**model, **model.get("sam_mask_decoder_extra_args", {}), **trunk}


def _reader(hint: Any) -> Callable[[Any], Any]:
    return (lambda values: tuple(map(int, values))) if get_origin(hint) is tuple else hint
