"""The fast forms of attention against their plain twin, and the windows around them."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sam_adapter.kernels import blocked
from sam_adapter.kernels.attention import ATTENTION
from sam_adapter.kernels.windows import HeadLayout, filled_up, on_grid_again, position_biases, relative, sequences
from sam_adapter.system.machine import choose_attention


@dataclass(frozen=True)
class Case:
    """A grid of tokens and how they attend."""

    images: int
    heads: int
    height: int
    width: int
    window: int = 0
    channels: int = 8

    @property
    def layout(self) -> HeadLayout:
        return HeadLayout(self.heads, 0.3, self.window)

    def inputs(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Tokens, both tables and the fill."""
        generator = torch.Generator().manual_seed(self.height * self.width)
        height, width = self.layout.window_shape(self.height, self.width)
        wide = 3 * self.heads * self.channels
        shapes = [(self.images, self.height, self.width, wide)]
        shapes += [(2 * height - 1, self.channels), (2 * width - 1, self.channels), (wide,)]
        return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


CASES = [
    Case(1, 1, 1, 1),
    Case(2, 3, 5, 7),
    Case(1, 12, 14, 14, channels=4),
    Case(2, 2, 1, 9),
    Case(1, 2, 3, 2, window=4),  # a window larger than the grid
    Case(3, 3, 8, 8, window=4),  # whole windows alone
    Case(2, 2, 9, 7, window=4),  # the last windows reach beyond the grid
    Case(2, 4, 15, 30, window=14, channels=32),
    Case(3, 2, 7, 4, window=3, channels=4),  # biases wider than the channels, which are not folded
]


def attend(form: str, case: Case, inputs: list[Tensor]) -> Tensor:
    tokens, row_table, column_table, fill = inputs
    return ATTENTION[form](tokens, row_table, column_table, fill, case.layout)


def outcome(form: str, case: Case, inputs: list[Tensor]) -> list[Tensor]:
    """Result and all gradients, for an uneven gradient of the result."""
    attended = attend(form, case, inputs)
    weight = torch.linspace(-1, 1, attended.numel()).view_as(attended).to(attended.dtype)
    gradients = torch.autograd.grad(attended, inputs, weight, allow_unused=True)
    return [attended, *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("form", ["blocked", "folded"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fast_forms_equal_the_plain_one(form: str, case: Case, monkeypatch: pytest.MonkeyPatch):
    inputs = case.inputs()
    wanted = outcome("plain", case, inputs)
    height, width = case.layout.window_shape(case.height, case.width)
    row, head = 4 * height * width, 4 * (height * width) ** 2
    # Some queries of one head; some heads, the last portion of fewer; all; several images, the last of fewer.
    for most, block_bytes in ((0, 3 * row), (5, 1 << 23), (14, 1 << 23), (40, 1 << 23)):
        monkeypatch.setattr(blocked, "GROUP_BYTES", max(most * head, 1))
        monkeypatch.setattr(blocked, "TILE_BYTES", block_bytes)
        found = outcome(form, case, inputs)
        assert len(found) == len(wanted)
        for one, right in zip(found, wanted, strict=True):
            assert (one - right).abs().max() <= 4e-6 * right.abs().max().clamp(min=1)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("trained", [1, 3])
def test_a_frozen_fill_changes_no_other_gradient(case: Case, trained: int, monkeypatch: pytest.MonkeyPatch):
    """The grid is not filled up as a whole then, and queries beyond its last row are left out."""
    inputs = case.inputs()
    wanted = outcome("plain", case, inputs)[: trained + 1]
    inputs = [*inputs[:trained], *(tensor.detach() for tensor in inputs[trained:])]
    height, width = case.layout.window_shape(case.height, case.width)
    for most in (0, 5, 14, 40):
        monkeypatch.setattr(blocked, "GROUP_BYTES", max(most * 4 * (height * width) ** 2, 1))
        attended = attend("blocked", case, inputs)
        weight = torch.linspace(-1, 1, attended.numel()).view_as(attended)
        found = [attended, *torch.autograd.grad(attended, inputs[:trained], weight)]
        for one, right in zip(found, wanted, strict=True):
            assert (one - right).abs().max() <= 4e-6 * right.abs().max().clamp(min=1)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_flex_attention_equals_the_plain_one_forwards(case: Case):
    """PyTorch gives it no gradients on a CPU."""
    inputs = [tensor.detach() for tensor in case.inputs()]
    found, wanted = (attend(form, case, inputs) for form in ("flex", "plain"))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=4e-6)


@pytest.mark.parametrize("form", ["blocked", "folded"])
@pytest.mark.parametrize("case", [Case(1, 3, 9, 7), Case(2, 3, 6, 8), Case(1, 3, 9, 7, window=3)], ids=str)
def test_bfloat16_is_as_close_to_float32_as_the_plain_form(form: str, case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocked, "GROUP_BYTES", 1)
    monkeypatch.setattr(blocked, "TILE_BYTES", 2 * 63 * 20)  # the sums over blocks are rounded too
    inputs = case.inputs(torch.bfloat16)
    exact = outcome("plain", case, [tensor.detach().float().requires_grad_() for tensor in inputs])
    plain = outcome("plain", case, inputs)
    for found, twin, right in zip(outcome(form, case, inputs), plain, exact, strict=True):
        assert found.dtype == torch.bfloat16
        error, twins_error = ((one.float() - right).pow(2).mean().sqrt() for one in (found, twin))
        assert error <= 1.5 * twins_error + 1e-6


def test_blocked_attention_never_holds_all_scores(monkeypatch: pytest.MonkeyPatch):
    """The largest tensor that any operation gives out is one block."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            result = function(*arguments, **(options or {}))
            if isinstance(result, Tensor):
                self.size = max(self.size, result.numel())
            return result

    monkeypatch.setattr(blocked, "TILE_BYTES", 4 * 64 * 256)
    monkeypatch.setattr(blocked, "GROUP_BYTES", 1)
    case = Case(1, 2, 16, 16)
    inputs = case.inputs()
    with Largest() as largest:
        outcome("blocked", case, inputs)
    assert largest.size == 64 * 256
    with Largest() as plain:
        outcome("plain", case, inputs)
    assert plain.size == 2 * 256 * 256


def test_biases_are_products_with_the_relative_position():
    """By the formula, one query and key at a time."""
    query = torch.randn(2, 6, 8)
    row_table, column_table = torch.randn(3, 8), torch.randn(5, 8)  # 2 rows and 3 columns
    by_row, by_column = position_biases(query, relative(row_table, 2, query), relative(column_table, 3, query))
    for token in range(6):
        row, column = divmod(token, 3)
        for key_row in range(2):
            wanted = query[:, token] @ row_table[row - key_row + 1]
            torch.testing.assert_close(by_row[:, token, key_row], wanted)
        for key_column in range(3):
            wanted = query[:, token] @ column_table[column - key_column + 2]
            torch.testing.assert_close(by_column[:, token, key_column], wanted)


def test_auto_depends_on_the_device_alone():
    assert choose_attention("auto", "cpu") == "blocked"
    assert choose_attention("auto", "cuda") == "folded"
    assert choose_attention("plain", "cuda") == "plain"


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (3, 9), (1, 1)])
def test_windows_put_together_again_are_the_grid(height: int, width: int):
    tokens = torch.randn(2, height, width, 3)
    value = torch.tensor([1.0, 2.0, 3.0])
    filled = filled_up(tokens, 4, value)
    assert filled.shape == (2, -(-height // 4) * 4, -(-width // 4) * 4, 3)
    assert (filled[:, height:] == value).all()
    assert (filled[:, :, width:] == value).all()
    windows = sequences(filled[..., None, :], (4, 4))
    assert torch.equal(windows[0], filled[0, :4, :4].flatten(0, 1))
    assert torch.equal(on_grid_again(windows, (4, 4), (height, width), 1)[..., 0, :], tokens)
