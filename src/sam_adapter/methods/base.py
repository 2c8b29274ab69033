"""Methods of adaptation: what each adds to a SAM and which parts of it are trained; everything else stays frozen."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

from torch import nn

from ..backbones import SamBackbone
from ..config.options import Method, Part
from .sam_adapter.module import AdapterSettings, SamAdapter

_SAM = "backbone.sam."
SPARE = tuple(
    f"{_SAM}{name}."
    for name in (
        "mask_decoder.iou_prediction_head",
        *(f"mask_decoder.output_hypernetworks_mlps.{mask}" for mask in (1, 2, 3)),
        "prompt_encoder.mask_embed",
    )
)
"""How the names of tensors begin that no loss reaches: the predicted quality, the three masks beside the one that is
trained, and what reads an earlier mask. They stay as the base has them."""


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """A method with everything that defines it; stored with the weights.

    Attributes:
        name: ``sam_adapter``, ``decoder`` or ``full``; ``none`` is SAM as it is.
        parts: Parts of SAM that are trained themselves.
        adapter: Settings of the SAM-Adapter, for the method that has one.
        carried: Names of frozen tensors that differ from the base and are saved too (imported checkpoints, and adapters
            written before `SPARE` tensors were frozen).
    """

    name: Method | str = "none"
    parts: tuple[Part, ...] = ()
    adapter: AdapterSettings | None = None
    carried: tuple[str, ...] = field(default=())

    @property
    def leaves_encoder(self) -> bool:
        """Whether images are encoded as the base does it, so that their embeddings can be kept."""
        changed = any(name.startswith(f"{_SAM}vision_encoder.") for name in self.carried)
        return self.adapter is None and "image_encoder" not in self.parts and not changed

    @property
    def some_untouched(self) -> bool:
        """Whether a loss may leave trained tensors without a gradient.

        The prompt encoder has tensors for each kind of point and corner; a batch touches those that its prompts have.
        Everything else that a method trains, but for `SPARE`, takes part in every answer.
        """
        return "prompt_encoder" in self.parts

    def carrying_spare(self, names: Iterable[str]) -> Self:
        """The settings with which a file that holds these tensors can be loaded, `SPARE` ones among them."""
        spare = sorted(name for name in names if name.startswith(SPARE) and name not in self.carried)
        return replace(self, carried=(*self.carried, *spare))


def apply_method(settings: MethodSettings, backbone: SamBackbone) -> SamAdapter | None:
    """Freeze a backbone but for the parts that a method trains, and make what the method adds.

    Args:
        settings: The method.
        backbone: Changed in place: ``requires_grad`` of its parameters.

    Returns:
        The module that the method adds, if it adds one.
    """
    backbone.requires_grad_(False)
    for part in settings.parts:
        backbone.part(part).requires_grad_(True)
    # SAM's random Fourier features are constants in Meta's code; a parameter only in name.
    backbone.sam.shared_image_embedding.requires_grad_(False)
    for name, parameter in backbone.named_parameters(prefix="backbone"):
        if name.startswith(SPARE):
            parameter.requires_grad_(False)
    if settings.adapter is None:
        return None
    return SamAdapter(
        settings.adapter,
        hidden_size=backbone.hidden_size,
        depth=backbone.depth,
        patch_size=backbone.patch_size,
    )


def parameter_table(backbone: SamBackbone, adapter: nn.Module | None) -> list[tuple[str, int, int]]:
    """Rows of (part, parameters, trained parameters), the adapter first and a total last."""
    named: list[tuple[str, nn.Module]] = [] if adapter is None else [("adapter", adapter)]
    named += [(part, backbone.part(part)) for part in ("image_encoder", "prompt_encoder", "mask_decoder")]
    rows = []
    for name, module in named:
        parameters = list(module.parameters())
        rows.append((name, sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)))
    return [*rows, ("total", sum(row[1] for row in rows), sum(row[2] for row in rows))]


def parameter_summary(rows: list[tuple[str, int, int]]) -> str:
    """The rows of `parameter_table` as text."""
    lines = [f"  {'part':<16}{'parameters':>14}{'trained':>14}"]
    lines += [f"  {part:<16}{count:>14,}{trained:>14,}" for part, count, trained in rows]
    return "\n".join(lines)
