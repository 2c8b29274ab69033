"""Models of `transformers` from a folder, or from tensors under its names; strict about both."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import CheckpointError

BLOCK = re.compile(r"^vision_encoder\..*\b(?:layers|blocks)\.\d+\.")
"""Names of tensors of a block of the image encoder. Other tensors may be more than a model needs: videos have some."""
SHOWN = 8
"""Names in an error; the others are counted."""


def model_from_folder(
    folder: Path,
    kind: str,
    config_type: type[PreTrainedConfig],
    model_type: type[PreTrainedModel],
    require_sensible: Callable[[Any], None],
) -> Any:
    """The model of a Hugging Face folder, in float32.

    Args:
        folder: With ``config.json`` and the weights.
        kind: What errors call the model.
        config_type: Of its configuration.
        model_type: Of the model.
        require_sensible: Raises ``CheckpointError`` for a configuration that is no real model's, before it is built.

    Raises:
        CheckpointError: If it is none, or damaged.
    """
    try:
        values, _ = config_type.get_config_dict(folder)
        # Of a type that holds the same model beside other things `transformers` would warn.
        config = config_type.from_dict({**values, "model_type": config_type.model_type})
        require_sensible(config)
        _require_weights(config, model_type, folder)
        # The library's own bar counts tensors, not bytes; only fetching shows a bar here.
        transformers.utils.logging.disable_progress_bar()
        # Its report of tensors that do not fit is a table of any length; they are named below.
        with _silent():
            loaded: Any = model_type.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except CheckpointError:
        raise
    except Exception as error:  # a damaged config.json or model.safetensors shows in many ways
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{folder}: cannot be loaded as a {kind} ({reason}). Copy or fetch it again.") from error
    model, info = loaded
    wrong = sorted(info["missing_keys"])
    wrong += [
        f"{name} has shape {tuple(held)}, config.json asks for {tuple(wanted)}"
        for name, held, wanted in sorted(info["mismatched_keys"])
    ]
    wrong += [
        f"{name} is of a block that config.json has not"
        for name in sorted(info["unexpected_keys"])
        if BLOCK.search(name)
    ]
    if wrong:
        others = f" and {len(wrong) - SHOWN} others" if len(wrong) > SHOWN else ""
        raise CheckpointError(f"{folder}: tensors that do not fit: {'; '.join(wrong[:SHOWN])}{others}.")
    return model


def assembled(model_type: Any, config: PreTrainedConfig, state: Mapping[str, Tensor], kind: str) -> Any:
    """A model with these tensors, without drawing random weights first.

    Args:
        model_type: Of the model.
        config: Of the model.
        state: All its tensors under the library's names.
        kind: What errors call the model.

    Raises:
        CheckpointError: If a tensor is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        model = model_type(config)
    if wrong := misfits(model.state_dict(), state, unknown=f"is not part of {kind}"):
        raise CheckpointError(f"{len(wrong)} tensors do not fit a {kind} of this size: {'; '.join(wrong[:SHOWN])}.")
    # Copies, so that nothing shares memory with the file or with the model it came from.
    model.load_state_dict({name: tensor.detach().float().clone() for name, tensor in state.items()}, assign=True)
    model.tie_weights()
    return model


def misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], *, unknown: str) -> list[str]:
    """What does not fit of named tensors, in words: missing ones, unknown ones, and other shapes in their order.

    Args:
        wanted: With the names and shapes that are to be.
        state: Those that there are.
        unknown: What is said of a name that is not wanted.
    """
    wrong = [f"'{name}' is missing" for name in sorted(wanted.keys() - state.keys())]
    wrong += [f"'{name}' {unknown}" for name in sorted(state.keys() - wanted.keys())]
    wrong += [
        f"'{name}' has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return wrong


@contextmanager
def errors_of(source: str, kind: str) -> Iterator[None]:
    """Make errors about the tensors of a checkpoint name their file.

    Args:
        source: The file.
        kind: What errors call the model.

    Raises:
        CheckpointError: Instead of it, or of what shapes that are not those of the model lead to.
    """
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: its tensors' shapes are not those of a {kind} ({error}).") from error


@contextmanager
def _silent() -> Iterator[None]:
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(before)


def _require_weights(config: PreTrainedConfig, model_type: Any, folder: Path) -> None:
    """Compare what a configuration asks for with what the files hold, before memory is taken for it."""
    with torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in model_type(config).parameters())
    held = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if wanted > held:  # a byte for each number is the least
        raise CheckpointError(
            f"{folder}: config.json asks for {wanted} parameters, but the weights have {held} bytes. One of the files "
            "is damaged or of another model; copy or fetch it again."
        )
