"""LoRA against products of its matrices written out: answers, gradients, keys, dropout, precision."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.func import functional_call

from conftest import random_sam
from lora_models import BATCH, PIXELS, VARIANTS, adapter_of, keys_of, layers_of, lora, spread, with_keys
from sam_adapter.errors import ConfigError
from sam_adapter.kernels import encoder_block
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.training.lightning_module import TrainingModule
from test_model import config, loss_of

each_variant = pytest.mark.parametrize("options", VARIANTS, ids=str)


class Loss(nn.Module):
    """A segmenter to its loss, for `functional_call`."""

    def __init__(self, segmenter: SamSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self) -> Tensor:
        return loss_of(self.segmenter, BATCH)


def trained(folder: str, steps: int = 3, **options: Any) -> SamSegmenter:
    """After some steps with a decay that no weight could miss."""
    torch.manual_seed(0)
    machine = {"precision": "32", "accelerator": "cpu"}
    chosen = config(folder, method="lora", lr=1e-2, weight_decay=5.0, **machine, **options)
    segmenter = SamSegmenter.from_config(chosen)
    module = TrainingModule(segmenter, BinaryTask.from_options(chosen), chosen, Machine.asked(chosen), images=3).train()
    optimizer = module.optimizer()
    for _ in range(steps):
        optimizer.zero_grad()
        module.losses(BATCH)[0].sum().backward()
        optimizer.step()
    segmenter.train(False)
    return segmenter


def written_out(segmenter: SamSegmenter) -> dict[str, Tensor]:
    """The weights of the encoder's adapted layers by the papers' formulas, made of the adapter's own parameters."""
    settings, adapter = segmenter.method.adapter, adapter_of(segmenter)
    scale = settings.alpha / (settings.rank**0.5 if settings.rslora else settings.rank)
    encoder, weights = segmenter.backbone.part("image_encoder"), {}
    for target in adapter.targets:
        own = dict(adapter.get_submodule(target).named_parameters())
        base = encoder.get_parameter(f"{target}.base_layer.weight").detach()
        weight = base + scale * own["lora_B.weight"] @ own["lora_A.weight"]
        if settings.dora:
            weight = own["magnitude.weight"][:, None] * weight / weight.detach().norm(dim=1, keepdim=True)
            if settings.targets == "attention":
                query, _, value = weight.chunk(3)
                weight = torch.cat([query, keys_of(base), value])
        weights[f"{target}.weight"] = weight
    return weights


@each_variant
@pytest.mark.parametrize("attention", ["plain", "blocked"])
def test_answers_and_gradients_are_those_of_the_written_out_product(sam_folder: str, options: dict, attention: str):
    segmenter = spread(lora(sam_folder, **options))
    segmenter.backbone.attention = attention
    plain = SamSegmenter.frozen(sam_folder)
    plain.backbone.attention = "plain"
    weights = {f"backbone.sam.vision_encoder.{name}": one for name, one in written_out(segmenter).items()}
    own = list(adapter_of(segmenter).parameters())
    found = loss_of(segmenter, BATCH)
    gradients = torch.autograd.grad(found, own)
    wanted = functional_call(Loss(plain), {f"segmenter.{name}": one for name, one in weights.items()}, ())
    expected = torch.autograd.grad(wanted, own)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    names = [name for name, _ in adapter_of(segmenter).named_parameters()]
    for name, gradient, right in zip(names, gradients, expected, strict=True):
        if options.get("lora_targets") != "all_linear" and not name.endswith("lora_A.weight"):
            right = with_keys(right, 0)
        assert right.any(), name
        torch.testing.assert_close(gradient, right, rtol=1e-3, atol=1e-3 * float(right.abs().max()), msg=name)


def test_the_scale_is_alpha_over_the_rank_or_its_root(sam_folder: str):
    scales = [
        layer.scaling["default"]
        for options in (
            {},
            {"lora_alpha": 8.0},
            {"rslora": True},
            {"lora_alpha": 8.0, "rslora": True},
        )
        for layer in layers_of(lora(sam_folder, lora_rank=16, **options))[:1]
    ]
    assert scales == [1.0, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("options", [{}, {"dora": True, "lora_dropout": 0.2}], ids=str)
def test_keys_stay_to_the_last_bit(sam_folder: str, options: dict):
    """After steps with gradients, weight decay and an average; on weights in bfloat16 too."""
    start, segmenter = lora(sam_folder, **options), trained(sam_folder, **options)
    for name, one in adapter_of(segmenter).named_parameters():
        before = start.get_parameter(f"adapter.{name}")
        assert not torch.equal(one, before)
        if not name.endswith("lora_A.weight"):
            assert torch.equal(keys_of(one), keys_of(before)), name
    tokens = torch.randn(2, 5, 5, 32)
    for half in (False, True):
        if half:
            segmenter.keep_frozen_in_bfloat16()
        for layer in layers_of(segmenter):
            with torch.no_grad(), torch.autocast("cpu", enabled=half):
                found, base = layer(tokens), layer.base_layer(tokens)
            changed = [bool(one.any()) for one in (found != base).chunk(3, -1)]
            assert changed == [True, False, True]


def test_dropout_is_on_in_training_and_off_otherwise(sam_folder: str):
    for options in ({}, {"dora": True}):
        segmenter = spread(lora(sam_folder, lora_dropout=0.4, **options))
        without = spread(lora(sam_folder, **options))
        with torch.no_grad():
            usual = [segmenter.encode(PIXELS)["image_embeddings"] for _ in range(2)]
            assert torch.equal(usual[0], usual[1])
            assert torch.equal(usual[0], without.encode(PIXELS)["image_embeddings"])
            segmenter.train()
            dropped = [segmenter.encode(PIXELS)["image_embeddings"] for _ in range(2)]
        assert not torch.equal(dropped[0], dropped[1])
        assert not torch.equal(dropped[0], usual[0])


def test_what_is_removed_leaves_the_base_as_it_was(sam_folder: str):
    segmenter, plain = trained(sam_folder, parts=()), SamSegmenter.frozen(sam_folder)
    adapter_of(segmenter).remove()
    own, base = (dict(one.backbone.named_parameters()) for one in (segmenter, plain))
    assert own.keys() == base.keys()
    assert all(torch.equal(own[name], base[name]) for name in own)
    with torch.no_grad():
        assert torch.equal(segmenter(BATCH).mask_logits, plain(BATCH).mask_logits)


def test_the_table_of_parameters_names_it(sam_folder: str):
    first, second, *_ = lora(sam_folder, lora_rank=3).parameter_table()
    assert first == ("lora", 2 * 3 * (32 + 96), 2 * 3 * (32 + 96))
    assert second == ("image_encoder", sum(one.numel() for one in random_sam().vision_encoder.parameters()), 0)


def test_checkpointed_blocks_have_the_same_gradients(sam_folder: str):
    gradients = []
    for checkpointing in (False, True):
        segmenter = spread(lora(sam_folder, lora_dropout=0.3, gradient_checkpointing=checkpointing)).train()
        torch.manual_seed(3)
        gradients.append(torch.autograd.grad(loss_of(segmenter, BATCH), list(adapter_of(segmenter).parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_frozen_weights_in_bfloat16_change_nothing_under_autocast(sam_folder: str):
    """The rounded base under the matrices, which stay in float32."""
    found = []
    for half in (False, True):
        segmenter = spread(lora(sam_folder))
        if half:
            segmenter.keep_frozen_in_bfloat16()
            assert all(layer.base_layer.weight.dtype == torch.bfloat16 for layer in layers_of(segmenter))
        assert all(one.dtype == torch.float32 for one in adapter_of(segmenter).parameters())
        with torch.autocast("cpu"):
            loss = loss_of(segmenter, BATCH)
        found.append((loss, *torch.autograd.grad(loss, list(adapter_of(segmenter).parameters()))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_compiled_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Traced as for any backend, without a C++ compiler's minute."""
    random_sam(depth=1).save_pretrained(tmp_path)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(encoder_block, "_compiled", encoder_block._compiled.__wrapped__)
    gradients = []
    for compiled in (False, True):
        segmenter = spread(lora(str(tmp_path), dora=True))
        counters["stats"].clear()
        segmenter.suited_to(Machine.choose(device="cpu", precision="32", attention="folded", compiled=compiled))
        gradients.append(torch.autograd.grad(loss_of(segmenter, BATCH), list(adapter_of(segmenter).parameters())))
        assert (counters["stats"]["unique_graphs"] > 0) == compiled
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_methods_that_wrap_the_encoder_do_not_train_it(sam_folder: str):
    with pytest.raises(ConfigError, match="parts: method lora adds to the layers of image_encoder"):
        config(sam_folder, method="lora", parts=("mask_decoder", "image_encoder"))


def test_its_options_are_refused_with_other_methods(sam_folder: str):
    with pytest.raises(ConfigError, match="lora_rank: belongs to method lora; give '--method lora', or leave it out"):
        config(sam_folder, method="sam_adapter", lora_rank=16)
    with pytest.raises(ConfigError, match="dora: belongs to method lora"):
        config(sam_folder, method="decoder", dora=True)
