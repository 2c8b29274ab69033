"""Which linear layers of an image encoder LoRA adapts, found by what its blocks are made of.

``attention``: what makes queries and values. Where one layer makes queries, keys and values (SAM, SAM-HQ, SAM 2), it is
adapted as a whole and its keys are held (`sam_adapter.methods.lora.module`). ``all_linear``: every linear layer of the
blocks, projections between the stages of a Hiera among them.
"""

from collections.abc import Iterator

from torch import nn

from ...config.lora_options import LoraTargets
from ...errors import ConfigError

FUSED = "qkv"
"""Name of a layer whose rows are those of queries, keys and values, a third each."""
SEPARATE = ("q_proj", "v_proj")
"""Names of layers of queries and of values."""


def target_layers(encoder: nn.Module, depth: int, targets: LoraTargets) -> dict[str, nn.Linear]:
    """The linear layers to adapt, by their names in the encoder.

    Args:
        encoder: The image encoder of a base model.
        depth: Number of its blocks.
        targets: Which of their layers.

    Raises:
        ConfigError: If the blocks have none.
    """
    found = {
        f"{blocks}.{name}": layer
        for blocks, module in encoder.named_modules()
        if _is_blocks(module, depth)
        for name, layer in _linear(module)
        if targets == "all_linear" or name.split(".")[-1] in (FUSED, *SEPARATE)
    }
    if not found:
        held = ", ".join(sorted({name.split(".")[-1] for name, _ in _linear(encoder)})) or "none"
        raise ConfigError(
            f"lora_targets: expected {depth} blocks with linear layers named {FUSED}, or {' and '.join(SEPARATE)}, in "
            f"the image encoder; its linear layers are named {held}. Choose another method for this base."
        )
    return found


def is_fused(name: str, targets: LoraTargets) -> bool:
    """Whether a target makes queries, keys and values, of which the keys are to stay."""
    return targets == "attention" and name.split(".")[-1] == FUSED


def _is_blocks(module: nn.Module, depth: int) -> bool:
    """Whether a module is the list of the encoder's blocks: so many, each with linear layers."""
    return isinstance(module, nn.ModuleList) and len(module) == depth and all(any(_linear(one)) for one in module)


def _linear(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, one in module.named_modules():
        if isinstance(one, nn.Linear):
            yield name, one
