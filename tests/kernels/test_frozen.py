"""Pieces of a frozen block by rows against the plain modules."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sam_adapter.kernels import frozen

Piece = Callable[[Tensor, Tensor], Tensor]
"""Hidden states and inputs to the piece's result."""
CHANNELS, WIDE = 24, 40


def pieces(dtype: torch.dtype) -> dict[str, tuple[Piece, Piece]]:
    """Each piece by rows, and from plain modules."""
    torch.manual_seed(0)
    norm = nn.LayerNorm(CHANNELS, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    first, second = nn.Linear(CHANNELS, WIDE).to(dtype), nn.Linear(WIDE, CHANNELS).to(dtype)
    for module in (norm, first, second):
        module.requires_grad_(False)
    return {
        "normed_linear": (
            lambda hidden, _: frozen.normed_linear(hidden, norm, first),
            lambda hidden, _: first(norm(hidden).to(dtype)),
        ),
        "added_linear": (
            lambda hidden, inputs: frozen.added_linear(hidden, inputs, second),
            lambda hidden, inputs: hidden + second(inputs),
        ),
        "added_mlp": (
            lambda hidden, _: frozen.added_mlp(hidden, norm, first, second),
            lambda hidden, _: hidden + second(nn.functional.gelu(first(norm(hidden).to(dtype)))),
        ),
    }


def outcome(piece: Piece, dtype: torch.dtype, shape: tuple[int, ...]) -> list[Tensor]:
    """Result and gradients for an uneven gradient of the result."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(*shape, CHANNELS, generator=generator).requires_grad_()
    inputs = torch.randn(*shape, WIDE, generator=generator).to(dtype).requires_grad_()
    result = piece(hidden, inputs)
    weight = torch.linspace(-1, 1, result.numel()).view_as(result).to(result.dtype)
    gradients = torch.autograd.grad(result, [hidden, inputs], weight, allow_unused=True)
    return [result, *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("name", ["normed_linear", "added_linear", "added_mlp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "shape"), [(512, (1, 3, 5)), (4, (1, 3, 5)), (5, (2, 5, 7)), (1, (1, 1, 1))])
def test_rows_give_what_the_modules_give(
    name: str, dtype: torch.dtype, rows: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(frozen, "ROWS", rows)
    by_rows, plain = pieces(dtype)[name]
    found, wanted = outcome(by_rows, dtype, shape), outcome(plain, dtype, shape)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert len(found) == len(wanted)
    for one, right in zip(found, wanted, strict=True):
        assert one.dtype == right.dtype
        torch.testing.assert_close(one, right, rtol=tolerance, atol=tolerance)


def test_nothing_is_kept_where_no_gradient_is_wanted():
    by_rows, plain = pieces(torch.float32)["added_mlp"]
    hidden = torch.randn(2, 7, CHANNELS)
    with torch.no_grad():
        torch.testing.assert_close(by_rows(hidden, hidden), plain(hidden, hidden))
    assert by_rows(hidden, hidden).grad_fn is None
