"""A block in chunks of rows against the same modules at once, and blocks of which a part was replaced."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionLayer

from sam_adapter.kernels import encoder_block, row_chunks
from sam_adapter.kernels.attention import ATTENTION

CHANNELS = 24


class Scaled(nn.Module):
    """A wrapper like LoRA's: all of it is frozen, and it gives something else than the layer inside."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> Tensor:
        return 2 * self.inner(rows) + 1


class ScaledLinear(nn.Linear):
    """A layer that looks like a plain one, and isn't."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input) + 1


def scaled_linear(inner: nn.Linear) -> ScaledLinear:
    outer = ScaledLinear(inner.in_features, inner.out_features)
    outer.load_state_dict(inner.state_dict())
    return outer


class Other(SamVisionLayer):
    """A block with a forward of its own."""

    def forward(self, hidden_states: Tensor) -> Tensor:  # type: ignore[override]
        return hidden_states * 3


def random_layer(window: int, kind: type[SamVisionLayer] = SamVisionLayer) -> SamVisionLayer:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "hidden_size": CHANNELS,
        "num_attention_heads": 3,
        "mlp_dim": 40,
        "image_size": 80,
        "patch_size": 16,
    }
    config = SamVisionConfig(**settings)
    config._attn_implementation = "eager"
    layer = kind(config, window)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer.requires_grad_(False).eval()


def outcome(run: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (2, 5, 5)) -> tuple[Tensor, Tensor]:
    """Result and gradient of the hidden states, for an uneven gradient of the result."""
    hidden = torch.randn(*shape, CHANNELS, generator=torch.Generator().manual_seed(1)).requires_grad_()
    result = run(hidden)
    weight = torch.linspace(-1, 1, result.numel()).view_as(result)
    return result, torch.autograd.grad(result, hidden, weight)[0]


def run_block(layer: SamVisionLayer) -> Callable[[Tensor], Tensor]:
    return lambda hidden: encoder_block.encoder_block(layer, hidden, ATTENTION["blocked"])


def same(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], tolerance: float = 1e-4) -> None:
    for one, right in zip(found, wanted, strict=True):
        assert one.dtype == right.dtype
        torch.testing.assert_close(one, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize(("rows", "batch", "window"), [(1 << 20, 1, 0), (4, 1, 0), (5, 2, 3), (1, 1, 3)])
def test_chunks_give_what_the_modules_give(
    rows: int, batch: int, window: int, onednn: bool, half: bool, monkeypatch: pytest.MonkeyPatch
):
    layer = random_layer(window)
    if half:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)
    shape = (batch, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16) if half else nullcontext():
        wanted = outcome(layer if not half else lambda hidden: plain(layer, hidden), shape)
        monkeypatch.setattr(row_chunks, "ROWS", rows)
        monkeypatch.setattr(row_chunks, "ONEDNN_FLOAT32", onednn and row_chunks.ONEDNN_FLOAT32)
        assert encoder_block.goes_in_chunks(layer, torch.zeros(shape))
        found = outcome(run_block(layer), shape)
    if half:
        for one, right in zip(found, wanted, strict=True):
            assert (one - right).norm() <= 0.02 * right.norm()
    else:
        same(found, wanted)


def plain(layer: SamVisionLayer, hidden: Tensor) -> Tensor:
    """The block without chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_block, "goes_in_chunks", lambda *_: False)
        return encoder_block.encoder_block(layer, hidden, ATTENTION["plain"])


@pytest.mark.parametrize("wrap", [Scaled, scaled_linear])
@pytest.mark.parametrize("part", ["attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"])
@pytest.mark.parametrize("window", [0, 3])
def test_a_wrapped_layer_is_called_and_never_taken_for_a_plain_one(
    part: str, wrap: Callable[[nn.Linear], nn.Module], window: int
):
    layer = random_layer(window)
    unwrapped = outcome(layer)
    linear = layer.get_submodule(part)
    assert isinstance(linear, nn.Linear)
    layer.set_submodule(part, wrap(linear).requires_grad_(False))
    assert not encoder_block.goes_in_chunks(layer, torch.zeros(1, 5, 5, CHANNELS))
    found = outcome(run_block(layer))
    same(found, outcome(layer))
    assert (found[0] - unwrapped[0]).abs().max() > 0.1


@pytest.mark.parametrize("part", ["layer_norm1", "layer_norm2", "mlp.act", "mlp"])
def test_other_replaced_parts_take_the_plain_path_too(part: str):
    layer = random_layer(3)
    inner = layer.get_submodule(part)
    layer.set_submodule(part, nn.Sequential(inner, nn.Tanh()))
    assert not encoder_block.goes_in_chunks(layer, torch.zeros(1, 5, 5, CHANNELS))
    same(outcome(run_block(layer)), outcome(layer))


def test_a_block_of_another_kind_runs_itself():
    layer = random_layer(3, Other)
    hidden = torch.randn(1, 5, 5, CHANNELS)
    assert torch.equal(run_block(layer)(hidden), 3 * hidden)


def test_trained_blocks_and_other_types_do_not_go_in_chunks():
    layer, hidden = random_layer(0), torch.zeros(1, 5, 5, CHANNELS)
    assert encoder_block.goes_in_chunks(layer, hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not encoder_block.goes_in_chunks(layer, hidden)
    assert not encoder_block.goes_in_chunks(layer, hidden.to("meta"))
    layer.attn.rel_pos_h.requires_grad_()
    assert not encoder_block.goes_in_chunks(layer, hidden)
