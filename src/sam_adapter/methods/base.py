"""The contract of a method of adaptation: what it adds to a base model, and from which options.

A method is one file with a subclass of `Method`, and an entry in `sam_adapter.config.registry.METHODS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from ..backbones import Backbone
from ..backbones.base import BlockPrompts
from ..config.registry import METHODS, Part, look_up
from ..config.training import TrainConfig
from ..errors import ConfigError

BACKBONE = "backbone."
"""How the names of a base model's tensors begin in adapter files."""
ENCODER: Part = "image_encoder"
ENCODER_MODULE = ".vision_encoder."
"""What `transformers` calls it in every family."""
TABLE_ORDER: tuple[Part, ...] = ("image_encoder", "prompt_encoder", "mask_decoder")


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """A method with everything that defines it; stored with the weights.

    Attributes:
        name: A key of `METHODS`; ``none`` is the base as it is.
        parts: Parts of the base that are trained themselves.
        adapter: Settings of what the method adds, of its `Method.settings_type`; None if it adds nothing.
        carried: Names of frozen tensors that differ from the base and are saved too (imported checkpoints, and adapters
            written before `Backbone.untrained` ones were frozen).
        prepare_frozen: Whether what `Backbone.prepare` uses stays as the base has it, although its part is trained; so
            that what it gives can be kept.
    """

    name: str = "none"
    parts: tuple[Part, ...] = ()
    adapter: Any = None
    carried: tuple[str, ...] = ()
    prepare_frozen: bool = False

    @property
    def leaves_encoder(self) -> bool:
        """Whether images are encoded as the base does it, so that what the encoder gives can be kept."""
        changed = any(ENCODER_MODULE in name for name in self.carried)
        return self.adapter is None and ENCODER not in self.parts and not changed

    @property
    def keeps_prepared(self) -> bool:
        """Whether `Backbone.prepare` gives what the base's does, too; then that can be kept, which is smaller."""
        return self.leaves_encoder and (self.prepare_frozen or "mask_decoder" not in self.parts)

    @property
    def some_untouched(self) -> bool:
        """Whether a loss may leave trained tensors without a gradient.

        The prompt encoder has tensors for each kind of point and corner; a batch touches those that its prompts have.
        Everything else that a method trains, but for `Backbone.untrained`, takes part in every answer.
        """
        return "prompt_encoder" in self.parts

    def carrying_untrained(self, names: Iterable[str], backbone: Backbone) -> Self:
        """The settings with which a file that holds these tensors can be loaded, also `Backbone.untrained` ones."""
        own = untrained_names(backbone)
        more = sorted(name for name in names if name.startswith(own) and name not in self.carried)
        return replace(self, carried=(*self.carried, *more))


class Method:
    """Options of a run to settings, and settings to the `Added` module of a base model, or None.

    This one adds nothing. Which parts of the base are trained is not said here, but in `METHODS` and ``--parts``.
    """

    settings_type: ClassVar[type | None] = None
    """Dataclass of all that defines what is added, None if nothing is. When a file is read, each field must be given
    and be of exactly its type, in the range that ``Annotated`` gives it; ``__post_init__`` may raise ValueError."""

    def settings(self, options: TrainConfig, backbone: Backbone) -> Any:
        """What the options of a run mean for a base: an instance of ``settings_type``, or None."""
        return None

    def compared(self, settings: Any) -> dict[str, Any]:
        """By name, the settings in which a run must agree with an adapter that it starts from."""
        return {} if settings is None else asdict(settings)

    def added(self, settings: Any, backbone: Backbone) -> "Added | None":
        """Make what is added to a base, or None."""
        return None


class Added(nn.Module, ABC):
    """What a method adds: to each encoder block's input, by a `BlockPrompts`, or to layers inside the base.

    All parameters are trained, and saved in adapter files under ``adapter.`` and their names here.
    """

    row: ClassVar[str] = "adapter"
    """What `parameter_table` calls it."""

    @abstractmethod
    def block_prompts(self, pixel_values: Tensor) -> BlockPrompts | None:
        """A new `BlockPrompts` for one pass of normalised images ``(B, 3, S, S)`` through the encoder.

        Nothing is computed before the encoder calls `BlockPrompts.start`. None if nothing is added between blocks.
        """

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """The base is as if nothing had been put into it for a while; block prompts are left out by not asking."""
        yield

    def remove(self) -> None:
        """Take what was put into the base out of it, for good."""

    def fold(self) -> None:
        """Change the base's own weights so that it answers as it does now, and `remove` what was added.

        Raises:
            ConfigError: If no weights of the base could do that.
        """
        raise ConfigError(
            "what it adds is computed anew from each picture, so no weights of the base can stand for it. Use the "
            "adapter as it is (--adapter)."
        )

    def peft_form(self, base: str) -> "PeftForm | None":
        """What is added, as `peft` reads it; None if it cannot.

        Args:
            base: What the user called the base model.
        """
        return None


@dataclass(frozen=True)
class PeftForm:
    """An adapter as the library `peft` has it.

    Attributes:
        config: Of ``adapter_config.json``.
        tensors: Of ``adapter_model.safetensors``, for the base model of `transformers`.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def method_named(name: str) -> Method:
    """The method of a name in `METHODS`, or the one that does nothing for ``none``."""
    return Unchanged() if name == "none" else look_up(METHODS, name)()


class Unchanged(Method):
    """The base as it is."""


def apply_method(
    settings: MethodSettings, backbone: Backbone, *, quality: bool = False, multimask: bool = False
) -> Added | None:
    """Freeze a base but for the parts that a method trains, and make what the method adds.

    Args:
        settings: The method.
        backbone: Changed in place: ``requires_grad`` of its parameters.
        quality: Whether what predicts the quality of answers is trained, if the mask decoder is.
        multimask: Whether the three masks of multimask output are trained, if the mask decoder is.

    Returns:
        The module that the method adds, if it adds one.
    """
    backbone.requires_grad_(False)
    for part in settings.parts:
        backbone.part(part).requires_grad_(True)
    reached = (*(backbone.quality if quality else ()), *(backbone.several_masks if multimask else ()))
    for name, parameter in backbone.named_parameters():
        left = (*backbone.untrained, *backbone.constants, *(backbone.preparing if settings.prepare_frozen else ()))
        if name.startswith(left) and not name.startswith(reached):
            parameter.requires_grad_(False)
    return None if settings.adapter is None else method_named(settings.name).added(settings.adapter, backbone)


def untrained_names(backbone: Backbone) -> tuple[str, ...]:
    """How the names of `Backbone.untrained` tensors begin in adapter files."""
    return tuple(f"{BACKBONE}{name}" for name in backbone.untrained)


def parameter_table(backbone: Backbone, added: Mapping[str, nn.Module]) -> list[tuple[str, int, int]]:
    """Rows of (part, parameters, trained parameters), what was added, by name, first and a total last.

    What was put into a part of the base counts where it was added.
    """
    named = list(added.items())
    own = {id(one) for module in added.values() for one in module.parameters()}
    named += [(part, backbone.part(part)) for part in TABLE_ORDER]
    rows = []
    for name, module in named:
        parameters = [one for one in module.parameters() if name in added or id(one) not in own]
        rows.append((name, sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)))
    return [*rows, ("total", sum(row[1] for row in rows), sum(row[2] for row in rows))]


def parameter_summary(rows: list[tuple[str, int, int]]) -> str:
    """The rows of `parameter_table` as text."""
    lines = [f"  {'part':<16}{'parameters':>14}{'trained':>14}"]
    lines += [f"  {part:<16}{count:>14,}{trained:>14,}" for part, count, trained in rows]
    return "\n".join(lines)
