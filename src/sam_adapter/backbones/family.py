"""The contract of a family of base models: how they are found, loaded and told apart."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from .base import Backbone


class Family(ABC):
    """How the base models of a family are found and loaded.

    Attributes:
        name: Of the family; stored with adapters.
        model_type: What ``config.json`` of a Hugging Face folder calls it.
        more_model_types: Of folders that hold the same image model beside other things.
        aliases: Short names to Hugging Face ids.
        bundled: Folders of models that come with the package, by name.
        prepares: Whether `Backbone.prepare` uses weights of the mask decoder; see `Backbone.preparing`.
    """

    name: ClassVar[str]
    model_type: ClassVar[str]
    more_model_types: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = {}
    bundled: ClassVar[Mapping[str, Path]] = {}
    prepares: ClassVar[bool] = False

    @abstractmethod
    def from_folder(self, folder: Path) -> nn.Module:
        """The model of a Hugging Face folder, in float32; raises ``CheckpointError``."""

    @abstractmethod
    def is_own(self, names: Iterable[str]) -> bool:
        """Whether tensors of these names are a checkpoint of this family's authors, and of no other family."""

    @abstractmethod
    def from_tensors(self, state: dict[str, Tensor], source: str) -> nn.Module:
        """The model of such a checkpoint, in float32; raises ``CheckpointError`` that names the source."""

    @abstractmethod
    def backbone(self, model: Any, name: str, *, image_size: int | None) -> Backbone:
        """The model as a `Backbone`.

        Args:
            model: Of this family, as it was loaded.
            name: What the user called it.
            image_size: Side of the encoder's square input; None keeps the model's own.
        """


def tensors_sha256(model: nn.Module) -> str:
    """Digest of all parameters and buffers by name, shape and float32 value, from whatever file format they come.

    Buffers that no file has follow from the configuration, and are left out.
    """
    digest, held = hashlib.sha256(), model.state_dict().keys()
    buffers = [(name, tensor) for name, tensor in model.named_buffers() if name in held]
    for name, tensor in sorted([*model.named_parameters(), *buffers]):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().contiguous().cpu().numpy().data)
    return digest.hexdigest()
