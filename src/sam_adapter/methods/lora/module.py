r"""LoRA: a product of two narrow matrices beside each of some linear layers of a frozen image encoder.

After Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models* (2022). The layers are those of `peft`, which also
has DoRA and rsLoRA::

    x --> W x + b --------------------------- + --> y        W, b: of the base, frozen
      \-> dropout -> A (r, in) -> B (out, r) -/  * alpha/r   A, B: trained; B begins at zero

Where one layer makes queries, keys and values, queries and values alone are adapted: the rows of B that make keys are
zero and stay zero, and with DoRA so does what its magnitudes add to keys.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones import Backbone
from ...backbones.families import ALIASES, BUNDLED
from ..base import ENCODER, ENCODER_MODULE, Added, PeftForm
from .settings import LoraSettings
from .targets import is_fused, target_layers

ADAPTER = "default"
"""What `peft` calls the one adapter of a layer."""
PEFT_NAMES = {
    "lora_A.weight": "lora_A.weight",
    "lora_B.weight": "lora_B.weight",
    "magnitude.weight": "lora_magnitude_vector",
}
"""What `peft` calls the tensors of a layer in files."""


class LoraAdapter(Added):
    """What LoRA adds, by the names of the layers it stands beside; the layers themselves are put into the encoder.

    Args:
        settings: Rank, scale and targets.
        backbone: Changed in place: layers of `peft` around linear layers of its image encoder.
    """

    row = "lora"

    def __init__(self, settings: LoraSettings, backbone: Backbone) -> None:
        super().__init__()
        from peft import LoraConfig, inject_adapter_in_model

        self.settings = settings
        encoder = backbone.part(ENCODER)
        self.targets = tuple(target_layers(encoder, len(backbone.blocks), settings.targets))
        config = lora_config(settings, self.targets)
        assert isinstance(config, LoraConfig)
        inject_adapter_in_model(config, encoder, adapter_name=ADAPTER)
        # In a list and a tuple, as what belongs to the base is not registered here.
        self._encoder = (encoder,)
        self._places: list[tuple[nn.Module, str, Any]] = []
        for name in self.targets:
            parent, _, own = name.rpartition(".")
            layer = encoder.get_submodule(name)
            if is_fused(name, settings.targets):
                _hold_keys(layer)
            self._places.append((encoder.get_submodule(parent), own, layer))
            _put(self, name, _tensors_of(layer))

    def block_prompts(self, pixel_values: Tensor) -> None:
        """Nothing is added between the blocks."""
        return

    def train(self, mode: bool = True) -> "LoraAdapter":
        """Dropout is on in training mode, which layers of DoRA ask of themselves."""
        super().train(mode)
        for _, _, layer in self._places:
            layer.training = mode
        return self

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """See `Added.left_out`: the base's own layers are in their places."""
        self._put_back()
        try:
            yield
        finally:
            for parent, name, layer in self._places:
                setattr(parent, name, layer)

    def remove(self) -> None:
        """See `Added.remove`."""
        self._put_back()
        del self._encoder[0].peft_config  # where `peft` notes that there is an adapter

    def _put_back(self) -> None:
        for parent, name, layer in self._places:
            setattr(parent, name, layer.base_layer)

    def fold(self) -> None:
        """See `Added.fold`; what stays as it was, such as keys, stays to the last bit."""
        for (*_, layer), name in zip(self._places, self.targets, strict=True):
            weight = layer.base_layer.weight
            before = weight.detach().clone()
            layer.merge(safe_merge=True)
            if is_fused(name, self.settings.targets):
                third = len(before) // 3
                with torch.no_grad():
                    layer.base_layer.weight[third : 2 * third] = before[third : 2 * third]
        self.remove()

    def peft_form(self, base: str) -> PeftForm:
        """See `Added.peft_form`: for `transformers`' model of the base, its decoder as it was."""
        names = {target: f"{ENCODER_MODULE.strip('.')}.{target}" for target in self.targets}
        known = ALIASES.get(base, base)
        path = base in BUNDLED or Path(known).is_absolute()
        config = lora_config(
            self.settings,
            tuple(names.values()),
            base_model_name_or_path=None if path else known,
            inference_mode=True,
        ).to_dict()
        config["target_modules"] = sorted(config["target_modules"])
        tensors = {
            f"base_model.model.{names[target]}.{PEFT_NAMES[own]}": tensor.detach()
            for target in self.targets
            for own, tensor in self.get_submodule(target).named_parameters()
        }
        return PeftForm(config, tensors)


class WithoutKeys(nn.Linear):
    """LoRA's B of a layer of queries, keys and values: the rows of keys are taken as zero and get no gradient."""

    def forward(self, input: Tensor) -> Tensor:
        """``(..., r)`` to ``(..., 3*C)``."""
        query, key, value = self.weight.chunk(3)  # (C, r) each
        return functional.linear(input, torch.cat([query, torch.zeros_like(key), value]))


def lora_config(settings: LoraSettings, targets: tuple[str, ...], **more: Any) -> Any:
    """The settings as `peft` has them, for layers of these names."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType] - any number does
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        use_rslora=settings.rslora,
        target_modules=list(targets),
        bias="none",
        **more,
    )


def _hold_keys(layer: Any) -> None:
    """Have a layer of `peft` leave the last third but one of its rows, those of keys, as the base has them."""
    usual = layer.lora_B[ADAPTER]
    held = WithoutKeys(usual.in_features, usual.out_features, bias=False, device="meta")
    held.weight = usual.weight
    layer.lora_B[ADAPTER] = held
    if ADAPTER in layer.lora_magnitude_vector:
        layer.lora_magnitude_vector[ADAPTER].register_forward_hook(_without_keys)


def _without_keys(module: nn.Module, inputs: Any, added: Tensor) -> Tensor:
    """What is added to queries, keys and values ``(..., 3*C)``, with nothing for keys, whatever rounding left there."""
    query, key, value = added.chunk(3, -1)
    return torch.cat([query, torch.zeros_like(key), value], -1)


def _tensors_of(layer: Any) -> nn.ModuleDict:
    """What LoRA adds to a layer of the base."""
    own = {"lora_A": layer.lora_A, "lora_B": layer.lora_B, "dropout": layer.lora_dropout}
    if ADAPTER in layer.lora_magnitude_vector:
        own["magnitude"] = layer.lora_magnitude_vector
    return nn.ModuleDict({name: one[ADAPTER] for name, one in own.items()})


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    """Register a module under a name with dots."""
    *parents, own = name.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(own, module)
