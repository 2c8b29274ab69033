"""The folder ``peft`` inside an adapter folder: the same adapter as the library `peft` reads it.

It is made from the adapter's own weights, and is there only while it agrees with them: it is removed before they are
written and written after them, its description last.
"""

import json
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..errors import CheckpointError
from ..methods.base import PeftForm
from ..system.writing import write_tensors, written_beside

PEFT_FOLDER = "peft"
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_SAME = ("peft_type", "r", "lora_alpha", "use_dora", "use_rslora", "target_modules")
"""What decides, with the tensors, what an adapter adds."""


def has_peft_folder(folder: Path) -> bool:
    """Whether an adapter folder holds the adapter for `peft` too."""
    return (folder / PEFT_FOLDER / PEFT_CONFIG).is_file()


def write_peft_folder(folder: Path, form: PeftForm) -> None:
    """Write an adapter for `peft` into the folder of the adapter."""
    inner = folder / PEFT_FOLDER
    tensors = {name: tensor.cpu().contiguous() for name, tensor in form.tensors.items()}
    write_tensors(inner / PEFT_WEIGHTS, tensors, metadata={"format": "pt"}, durable=True)
    with written_beside(inner / PEFT_CONFIG, durable=True) as partial:
        partial.write_text(json.dumps(form.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def remove_peft_folder(folder: Path) -> None:
    """Remove what `write_peft_folder` wrote; what others put there stays."""
    inner = folder / PEFT_FOLDER
    for name in (PEFT_CONFIG, PEFT_WEIGHTS):  # without its description it is no adapter
        (inner / name).unlink(missing_ok=True)
    with suppress(OSError):
        inner.rmdir()


def require_same_peft_folder(folder: Path, form: PeftForm | None) -> None:
    """Compare an adapter for `peft` with the adapter that it lies in.

    Raises:
        CheckpointError: If they differ.
    """
    inner = folder / PEFT_FOLDER
    cure = f"The adapter itself is whole: remove '{inner}', or copy the adapter again with all its files."
    try:
        config = json.loads((inner / PEFT_CONFIG).read_text(encoding="utf-8"))
        state = load_file(inner / PEFT_WEIGHTS)
    except Exception as error:  # safetensors raises its own types on broken files
        raise CheckpointError(f"{inner}: cannot be read ({error}). {cure}") from error
    if form is None:
        raise CheckpointError(f"{inner}: expected no adapter for peft, as the method has none. {cure}")
    own = dict(form.tensors)
    wrong = [name for name in _SAME if not isinstance(config, dict) or config.get(name) != form.config[name]]
    wrong += sorted(own.keys() ^ state.keys())
    wrong += [name for name in sorted(own.keys() & state.keys()) if not torch.equal(own[name].cpu(), state[name])]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError(
            f"{inner}: {', '.join(wrong[:8])}{more} differ from the adapter in '{folder}', of which it was made. {cure}"
        )
