"""Which trained parameters decay."""

from torch import nn


def decay_groups(segmenter: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters with weight decay, and those without: vectors (biases, norms, magnitudes) and embeddings.

    A row of an embedding that the prompts of a run do not use has no gradient; decay alone would shrink it.
    """
    whole = {
        id(parameter)
        for module in segmenter.modules()
        if isinstance(module, nn.LayerNorm | nn.Embedding)
        for parameter in module.parameters()
    }
    decayed, plain = [], []
    for parameter in segmenter.parameters():
        if parameter.requires_grad:
            without = parameter.ndim == 1 or id(parameter) in whole
            (plain if without else decayed).append(parameter)
    return decayed, plain
