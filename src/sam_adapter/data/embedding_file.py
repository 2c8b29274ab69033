"""What the encoder gave for one image, as a file of its own."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..batch import EncodedImage
from ..errors import DataError
from ..system.writing import write_tensors


def write_encoded(path: Path, encoded: EncodedImage) -> None:
    """Write the tensors of one image, without the dimension of images; folders are made."""
    write_tensors(path, {name: one.contiguous() for name, one in encoded.tensors.items()}, durable=False)


def read_encoded(path: Path) -> EncodedImage:
    """The tensors of one image that were kept on disk, memory-mapped.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return EncodedImage({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as an image embedding ({error}); delete it.") from error
