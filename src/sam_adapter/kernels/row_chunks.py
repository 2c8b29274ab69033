"""Pieces of a transformer block with frozen weights, a chunk of rows at a time.

On a CPU what lies between the matrix products of a block, norms, casts, activations and sums, costs as much as they do
once it passes through memory. Here a chunk of a thousand tokens goes through a whole piece while it is in the cache::

    tokens    | chunk 0 | chunk 1 | ... |      for each chunk in turn:  norm -> linear -> GELU -> linear -> sum
    results   | chunk 0 | chunk 1 | ... |

PyTorch differentiates the chunks one after another too, as it goes back in the order of the forward pass. It keeps for
each what it keeps for the plain modules: with frozen weights what enters a norm and what enters the activation.

A training step of ViT-B at 1024 has its peak at 2.3 GB with chunks and 2.7 to 2.9 GB without in bfloat16, and at 3.2 GB
either way in float32; time differs by less than 6 % (benchmarks/kernels.md).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ONEDNN_FLOAT32 = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether oneDNN can be asked for float32 products, by an operation of PyTorch that is not public. PyTorch takes oneDNN
for half precision alone; an x86 processor gets float32 products a tenth faster from it than from MKL. The public ways
to it, tensors in its own layout and convolutions, are no faster than MKL (benchmarks/kernels.md)."""
ROWS = 1024
"""Tokens of a chunk: products lose speed with fewer, the cache overflows with more."""


def in_chunks(piece: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``piece(*inputs)``, of inputs ``(..., C)`` that differ in C alone; it makes a row of the same row of each."""
    chunks = zip(*(rows.flatten(0, -2).split(ROWS) for rows in inputs), strict=True)
    return torch.cat([piece(*rows) for rows in chunks]).unflatten(0, inputs[0].shape[:-1])


def frozen_linear(linear: nn.Linear, rows: Tensor) -> Tensor:
    """``linear(rows)`` for a plain layer with frozen weights and rows ``(N, C)``."""
    if ONEDNN_FLOAT32 and rows.dtype == linear.weight.dtype == torch.float32:
        product = _OneDnnLinear.apply(rows, linear.weight, linear.bias)
        assert isinstance(product, Tensor)
        return product
    return linear(rows)


class _OneDnnLinear(torch.autograd.Function):
    """``rows @ weight.T + bias`` by oneDNN; only the rows get a gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Keeps the weights."""
        ctx.save_for_backward(weight)
        return _product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The rows' gradient."""
        (weight,) = ctx.saved_tensors
        return _product(gradients[0], weight.T, None), None, None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
