"""The fast forms of attention against their plain twin, and the windows around them."""

import pytest
import torch
from torch import Tensor

from sam_adapter.nn import blocked
from sam_adapter.nn.attention import ATTENTION, choose_attention
from sam_adapter.nn.windows import filled_up, partition, unpartition


def example(*, heads: int, height: int, width: int, channels: int = 8, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(heads * height * width)
    length = height * width
    shapes = [(heads, length, channels)] * 3 + [(heads, length, height), (heads, length, width)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def attend(form: str, inputs: list[Tensor]) -> Tensor:
    query, key, value, bias_rows, bias_columns = inputs
    return ATTENTION[form](query, key, value, bias_rows, bias_columns, 0.3)


def outcome(form: str, inputs: list[Tensor]) -> list[Tensor]:
    """Result and all gradients, for an uneven gradient of the result."""
    attended = attend(form, inputs)
    weight = torch.linspace(-1, 1, attended.numel()).view_as(attended).to(attended.dtype)
    return [attended, *torch.autograd.grad(attended, inputs, weight)]


@pytest.mark.parametrize("form", ["blocked", "folded"])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 7), (3, 7, 5), (2, 13, 3), (12, 14, 14), (2, 1, 9)])
def test_fast_forms_equal_the_plain_one(form: str, size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch):
    heads, height, width = size
    inputs = example(heads=heads, height=height, width=width)
    wanted = outcome("plain", inputs)
    # Blocks of a part of one head, of one whole head, and of several, the last block being smaller.
    for block_bytes in (1, 4 * height * width * 3, 4 * (height * width) ** 2 * 5, 1 << 23):
        monkeypatch.setattr(blocked, "BLOCK_BYTES", block_bytes)
        monkeypatch.setattr(blocked, "WHOLE_HEADS_BYTES", block_bytes)
        for found, right in zip(outcome(form, inputs), wanted, strict=True):
            assert (found - right).abs().max() <= 2e-6 * right.abs().max().clamp(min=1)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 7), (3, 7, 5), (12, 14, 14), (2, 1, 9)])
def test_flex_attention_equals_the_plain_one_forwards(size: tuple[int, int, int]):
    """PyTorch gives it no gradients on a CPU."""
    heads, height, width = size
    inputs = [tensor.detach() for tensor in example(heads=heads, height=height, width=width)]
    torch.testing.assert_close(attend("flex", inputs), attend("plain", inputs), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("form", ["blocked", "folded"])
@pytest.mark.parametrize(("height", "width"), [(9, 7), (3, 5)])
def test_bfloat16_is_as_close_to_float32_as_the_plain_form(form: str, height: int, width: int):
    inputs = example(heads=3, height=height, width=width, dtype=torch.bfloat16)
    exact = outcome("plain", [tensor.detach().float().requires_grad_() for tensor in inputs])
    plain = outcome("plain", inputs)
    for found, twin, right in zip(outcome(form, inputs), plain, exact, strict=True):
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

    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 16 * 256)
    monkeypatch.setattr(blocked, "WHOLE_HEADS_BYTES", 4 * 16 * 256)
    inputs = example(heads=2, height=16, width=16)
    with Largest() as largest:
        outcome("blocked", inputs)
    assert largest.size == max(16 * 256, *(tensor.numel() for tensor in inputs))
    with Largest() as plain:
        outcome("plain", inputs)
    assert plain.size == 2 * 256 * 256


def test_query_count_may_differ_from_the_grid():
    query, key, value, rows, columns = example(heads=2, height=3, width=4)
    fewer = [query[:, :5], key, value, rows[:, :5], columns[:, :5]]
    for form in ("blocked", "folded"):
        assert torch.allclose(attend(form, fewer), attend("plain", fewer), atol=1e-6)


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
    windows = partition(filled, 4)
    assert torch.equal(windows[0], filled[0, :4, :4])
    assert torch.equal(unpartition(windows, *filled.shape[1:3])[:, :height, :width], tokens)
