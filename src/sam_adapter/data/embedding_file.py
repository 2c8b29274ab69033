"""One image embedding as a file of its own."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import DataError
from ..system.writing import write_tensors

NAME = "image_embedding"
"""Name of the tensor in the file."""


def write_embedding(path: Path, embedding: Tensor) -> None:
    """Write an image embedding ``(D, h, w)``; folders are made."""
    write_tensors(path, {NAME: embedding.contiguous()}, durable=False)


def read_embedding(path: Path) -> Tensor:
    """An image embedding ``(D, h, w)`` that was kept on disk, memory-mapped.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(NAME)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as an image embedding ({error}); delete it.") from error
