"""Pieces of a transformer block with frozen weights, some rows at a time.

On a CPU what lies between the matrix products of a block, norms, casts, activations and sums, costs as much as they do
once it passes through memory. Here a thousand tokens go through a whole piece while they are in the cache, and the
backward pass does the same. The arithmetic is that of the plain modules under autocast: products in the weights' type,
norms and residual sums in that of the hidden states. Only the inputs get gradients.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

ONEDNN_FLOAT32 = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether oneDNN can be asked for float32 products too. PyTorch takes it for half precision alone; an x86 processor
gets float32 products a tenth faster from it than from MKL."""

ROWS = 1024
"""Tokens that go through a piece together: products lose speed with fewer, the cache overflows with more."""


def normed_linear(hidden_states: Tensor, norm: nn.LayerNorm, linear: nn.Linear) -> Tensor:
    """``linear(norm(hidden_states))``.

    Args:
        hidden_states: ``(..., C)``, contiguous.
        norm: Over the last dimension.
        linear: From ``C`` to ``D``.

    Returns:
        ``(..., D)`` in the type of the linear layer's weights.
    """
    result = _NormedLinear.apply(hidden_states.flatten(0, -2), *_parts(norm), *_parts(linear))
    assert isinstance(result, Tensor)
    return result.view(*hidden_states.shape[:-1], -1)


def added_linear(hidden_states: Tensor, inputs: Tensor, linear: nn.Linear) -> Tensor:
    """``hidden_states + linear(inputs)``.

    Args:
        hidden_states: ``(..., C)``.
        inputs: ``(..., D)`` in the type of the weights.
        linear: From ``D`` to ``C``.

    Returns:
        ``(..., C)`` in the type of the hidden states.
    """
    result = _AddedLinear.apply(hidden_states.flatten(0, -2), inputs.flatten(0, -2), *_parts(linear))
    assert isinstance(result, Tensor)
    return result.view_as(hidden_states)


def added_mlp(hidden_states: Tensor, norm: nn.LayerNorm, first: nn.Linear, second: nn.Linear) -> Tensor:
    """``hidden_states + second(gelu(first(norm(hidden_states))))``.

    Args:
        hidden_states: ``(..., C)``, contiguous.
        norm: Over the last dimension.
        first: From ``C`` to ``D``.
        second: From ``D`` to ``C``.

    Returns:
        ``(..., C)``.
    """
    rows = hidden_states.flatten(0, -2)
    keep = torch.is_grad_enabled() and rows.requires_grad
    result = _AddedMlp.apply(rows, *_parts(norm), *_parts(first), *_parts(second), keep)
    assert isinstance(result, Tensor)
    return result.view_as(hidden_states)


class _NormedLinear(torch.autograd.Function):
    """Forward and backward of `normed_linear` on ``(N, C)``."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, scale: Tensor, shift: Tensor, epsilon: float, weight: Tensor, bias: Tensor
    ) -> Tensor:
        """Keeps the hidden states and the norm's statistics."""
        result = weight.new_empty(len(hidden), len(weight))
        statistics = hidden.new_empty(2, len(hidden), 1)
        with torch.autocast("cpu", enabled=False):
            for rows in _row_blocks(hidden):
                normed = _normed(hidden, rows, scale, shift, epsilon, statistics)
                _linear(normed.to(weight.dtype), weight, bias, out=result[rows])
        ctx.save_for_backward(hidden, statistics, scale, shift, weight)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The hidden states' gradient."""
        hidden, statistics, scale, shift, weight = ctx.saved_tensors
        gradient = gradients[0]
        d_hidden = torch.empty_like(hidden)
        for rows in _row_blocks(hidden):
            d_normed = _linear(gradient[rows], weight.T)
            d_hidden[rows] = _norm_backward(d_normed, hidden, rows, scale, shift, statistics)
        return d_hidden, None, None, None, None, None


class _AddedLinear(torch.autograd.Function):
    """Forward and backward of `added_linear` on ``(N, C)`` and ``(N, D)``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Keeps nothing but the weights."""
        result = torch.empty_like(hidden)
        with torch.autocast("cpu", enabled=False):
            for rows in _row_blocks(hidden):
                torch.add(hidden[rows], _linear(inputs[rows], weight, bias), out=result[rows])
        ctx.save_for_backward(weight)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the hidden states and of the inputs."""
        (weight,) = ctx.saved_tensors
        gradient = gradients[0]
        d_inputs = weight.new_empty(len(gradient), weight.shape[1])
        for rows in _row_blocks(gradient):
            _linear(gradient[rows].to(weight.dtype), weight.T, out=d_inputs[rows])
        return gradient, d_inputs, None, None


class _AddedMlp(torch.autograd.Function):
    """Forward and backward of `added_mlp` on ``(N, C)``."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        scale: Tensor,
        shift: Tensor,
        epsilon: float,
        first: Tensor,
        first_bias: Tensor,
        second: Tensor,
        second_bias: Tensor,
        keep: bool,
    ) -> Tensor:
        """Keeps the hidden states, the norm's statistics and, for gradients, what enters the activation."""
        result = torch.empty_like(hidden)
        statistics = hidden.new_empty(2, len(hidden), 1)
        entering = first.new_empty(len(hidden) if keep else min(ROWS, len(hidden)), len(first))
        with torch.autocast("cpu", enabled=False):
            for rows in _row_blocks(hidden):
                normed = _normed(hidden, rows, scale, shift, epsilon, statistics)
                some = entering[rows] if keep else entering[: len(normed)]
                _linear(normed.to(first.dtype), first, first_bias, out=some)
                added = _linear(functional.gelu(some), second, second_bias)
                torch.add(hidden[rows], added, out=result[rows])
        ctx.save_for_backward(hidden, statistics, entering, scale, shift, first, second)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The hidden states' gradient."""
        hidden, statistics, entering, scale, shift, first, second = ctx.saved_tensors
        gradient = gradients[0]
        d_hidden = torch.empty_like(hidden)
        for rows in _row_blocks(hidden):
            d_activated = _linear(gradient[rows].to(second.dtype), second.T)
            d_normed = _linear(torch.ops.aten.gelu_backward(d_activated, entering[rows]), first.T)
            d_through = _norm_backward(d_normed, hidden, rows, scale, shift, statistics)
            torch.add(d_through, gradient[rows], out=d_hidden[rows])
        return d_hidden, None, None, None, None, None, None, None, None


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias``."""
    if ONEDNN_FLOAT32 and rows.dtype == torch.float32:
        product = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product if out is None else out.copy_(product)
    if bias is None:
        return torch.mm(rows, weight.T, out=out)
    return torch.addmm(bias, rows, weight.T, out=out)


def _normed(hidden: Tensor, rows: slice, scale: Tensor, shift: Tensor, epsilon: float, statistics: Tensor) -> Tensor:
    """Norm of some rows; their mean and reciprocal deviation go into `statistics` ``(2, N, 1)``."""
    normed, mean, deviation = torch.native_layer_norm(hidden[rows], scale.shape, scale, shift, epsilon)
    statistics[0, rows], statistics[1, rows] = mean, deviation
    return normed


def _norm_backward(
    gradient: Tensor, hidden: Tensor, rows: slice, scale: Tensor, shift: Tensor, statistics: Tensor
) -> Tensor:
    """Gradient of some rows before the norm."""
    mean, deviation = statistics[0, rows], statistics[1, rows]
    return torch.ops.aten.native_layer_norm_backward(
        gradient.to(hidden.dtype), hidden[rows], scale.shape, mean, deviation, scale, shift, [True, False, False]
    )[0]


def _row_blocks(rows: Tensor) -> Iterator[slice]:
    for start in range(0, len(rows), ROWS):
        yield slice(start, start + ROWS)


def _parts(module: nn.LayerNorm | nn.Linear) -> tuple[Any, ...]:
    """What a function needs of a module: its weights and, for a norm, epsilon."""
    return (
        (module.weight, module.bias, module.eps) if isinstance(module, nn.LayerNorm) else (module.weight, module.bias)
    )
