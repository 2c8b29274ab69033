"""What every method of adaptation keeps to with every family of base models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from sam_adapter.backbones.families import FAMILIES
from sam_adapter.batch import EncodedImage
from sam_adapter.checkpoints.adapter import load, save_adapter
from sam_adapter.config.registry import METHODS
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import ConfigError
from sam_adapter.methods.base import ENCODER, MethodSettings, method_named
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.training.lightning_module import TrainingModule
from test_model import BOX, POINTS, Prompt, config, example_batch

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "sam_adapter": [
        {"preset": "paper"},
        {"share_up": False},
        {"parts": ()},
        {"parts": ("prompt_encoder",)},
        {"embedding_read": "every_block"},
    ],
    "lora": [
        {"lora_targets": "all_linear", "lora_rank": 3, "rslora": True},
        {"dora": True, "lora_dropout": 0.3},
        {"parts": ()},
        {"parts": ("prompt_encoder",)},
    ],
    "decoder": [{"parts": ("prompt_encoder",)}, {"parts": ("image_encoder", "prompt_encoder")}],
}
"""Options of a method that change what is trained, beside none."""

REFUSED = {
    ("sam2", "embedding_read"),  # for encoders of one stage
}
"""Families, and what does not fit their encoders: options, or methods as a whole."""


def cases(*, refused: bool) -> list[Any]:
    return [
        pytest.param(family, {"method": name, **changes}, id="-".join(map(str, (family, name, *changes.values()))))
        for family in FAMILIES
        for name in METHODS
        for changes in ({}, *VARIANTS.get(name, []))
        if any((family, word) in REFUSED for word in (name, *changes)) == refused
    ]


every_method = pytest.mark.parametrize(("family", "options"), cases(refused=False))

BATCH = example_batch([BOX, POINTS, Prompt()])
assert BATCH.pixel_values is not None
PIXELS: Tensor = BATCH.pixel_values


def asked_for(folder: str, options: dict[str, Any]) -> TrainConfig:
    return config(folder, **options, lr=1e-2, precision="32", accelerator="cpu")


def made(folder: str, options: dict[str, Any]) -> SamSegmenter:
    torch.manual_seed(0)
    return SamSegmenter.from_config(asked_for(folder, options))


def after_a_step(folder: str, options: dict[str, Any]) -> SamSegmenter:
    """A segmenter after one step of training on prompts of every kind."""
    segmenter, chosen = made(folder, options), asked_for(folder, options)
    task = BinaryTask.from_options(chosen)
    module = TrainingModule(segmenter, task, chosen, Machine.asked(chosen), images=3).train()
    optimizer = module.optimizer()
    losses, _ = module.losses(BATCH)
    losses.sum().backward()
    optimizer.step()
    segmenter.train(False)
    return segmenter


def declared(segmenter: SamSegmenter) -> set[str]:
    """Names of what the settings say is trained: what is added, and the parts but for what no loss reaches."""
    backbone = segmenter.backbone
    parts = {id(one) for part in segmenter.method.parts for one in backbone.part(part).parameters()}
    left = (*backbone.untrained, *backbone.constants)
    own = {f"backbone.{n}" for n, one in backbone.named_parameters() if id(one) in parts and not n.startswith(left)}
    added = set() if segmenter.adapter is None else dict(segmenter.adapter.named_parameters()).keys()
    return own | {f"adapter.{name}" for name in added}


def same(one: EncodedImage, other: EncodedImage) -> bool:
    assert one.tensors.keys() == other.tensors.keys()
    return all(torch.equal(one[name], other[name]) for name in one.tensors)


@pytest.mark.parametrize(("family", "options"), cases(refused=True))
def test_what_does_not_fit_a_family_is_said_before_work_starts(
    family_folders: dict[str, str], family: str, options: dict[str, Any]
):
    named = "|".join((*options, *METHODS[options["method"]].options))
    with pytest.raises(ConfigError, match=rf"^({named}): .*(leave the option out|Choose another)"):
        made(family_folders[family], options)


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in FAMILIES for name in METHODS if (family, name) not in REFUSED]
)
def test_a_method_is_what_the_registry_says(family_folders: dict[str, str], family: str, name: str):
    segmenter, entry = made(family_folders[family], {"method": name}), METHODS[name]
    own = method_named(name)
    assert set(segmenter.method.parts) == set(entry.parts)
    assert (segmenter.adapter is not None) == (own.settings_type is not None) == entry.adds
    assert type(segmenter.method.adapter) is (own.settings_type or type(None))
    assert own.compared(segmenter.method.adapter).keys().isdisjoint({"method", "parts"})


@every_method
def test_a_step_changes_exactly_what_is_declared(family_folders: dict[str, str], family: str, options: dict[str, Any]):
    before = {name: one.detach().clone() for name, one in made(family_folders[family], options).named_parameters()}
    segmenter = after_a_step(family_folders[family], options)
    names = declared(segmenter)
    assert names
    changed = {name for name, one in segmenter.named_parameters() if not torch.equal(one, before[name])}
    assert changed == names
    for name, one in segmenter.named_parameters():
        assert (one.grad is not None) == (name in names), name
    assert segmenter.trained_state().keys() == names


@every_method
def test_what_was_saved_gives_equal_answers(
    family_folders: dict[str, str], family: str, options: dict[str, Any], tmp_path: Path
):
    segmenter = after_a_step(family_folders[family], options)
    save_adapter(tmp_path / "adapter", segmenter)
    again = load(tmp_path / "adapter")
    assert again.method == segmenter.method
    assert again.trained_state().keys() == declared(segmenter)
    with torch.no_grad():
        found, wanted, start = again(BATCH), segmenter(BATCH), made(family_folders[family], options)(BATCH)
    assert torch.equal(found.mask_logits, wanted.mask_logits)
    assert torch.equal(found.iou_scores, wanted.iou_scores)
    assert not torch.equal(found.mask_logits, start.mask_logits)  # the step is in it


@every_method
def test_a_method_says_whether_it_leaves_the_encoder(
    family_folders: dict[str, str], family: str, options: dict[str, Any]
):
    segmenter, base = after_a_step(family_folders[family], options), SamSegmenter.frozen(family_folders[family])
    with torch.no_grad():
        found, wanted = segmenter.encode(PIXELS), base.encode(PIXELS)
    assert segmenter.leaves_encoder == same(found, wanted)


@every_method
def test_embeddings_are_kept_where_the_encoder_is_left(
    family_folders: dict[str, str], family: str, options: dict[str, Any]
):
    leaves = made(family_folders[family], options).leaves_encoder
    caching = {**options, "embedding_cache": Path("cache"), "augment": "none"}
    if leaves:
        assert asked_for(family_folders[family], caching).embedding_cache == Path("cache")
    else:
        with pytest.raises(ConfigError, match="embedding_cache: the image encoder changes in training"):
            asked_for(family_folders[family], caching)


@every_method
def test_the_table_of_parameters_adds_up(family_folders: dict[str, str], family: str, options: dict[str, Any]):
    segmenter = made(family_folders[family], options)
    *parts, (_, every, trained) = segmenter.parameter_table()
    assert every == sum(count for _, count, _ in parts) > trained
    assert trained == sum(count for *_, count in parts)
    assert trained == sum(tensor.numel() for tensor in segmenter.trained_state().values())


def test_a_carried_tensor_of_the_encoder_changes_it():
    name = "backbone.sam.vision_encoder.neck.conv1.weight"
    left = MethodSettings(name="decoder", parts=("mask_decoder",), carried=("backbone.sam.prompt_encoder.x",))
    assert left.leaves_encoder
    assert not replace(left, carried=(name,)).leaves_encoder


@every_method
def test_what_is_added_can_be_left_out(family_folders: dict[str, str], family: str, options: dict[str, Any]):
    segmenter, base = after_a_step(family_folders[family], options), SamSegmenter.frozen(family_folders[family])
    with torch.no_grad():
        frozen, usual, wanted = (
            segmenter.encode(PIXELS, frozen=True),
            segmenter.encode(PIXELS),
            base.encode(PIXELS),
        )
        answers = segmenter(BATCH, frozen=True), base(BATCH)
    assert same(frozen, wanted) == (ENCODER not in segmenter.method.parts)
    assert same(frozen, usual) == (segmenter.adapter is None)
    assert torch.equal(*(one.mask_logits for one in answers)) == (not segmenter.method.parts)


@every_method
def test_only_what_is_trained_is_in_training_mode(family_folders: dict[str, str], family: str, options: dict[str, Any]):
    segmenter = made(family_folders[family], options)
    assert not any(module.training for module in segmenter.modules())
    segmenter.train()
    trained = [segmenter.backbone.part(part) for part in segmenter.method.parts]
    if segmenter.adapter is not None:
        trained.append(segmenter.adapter)
    inside = {id(module) for one in trained for module in one.modules()}
    inside |= {id(module) for module in segmenter.modules() if isinstance(module, BaseTunerLayer)}  # around the base's
    for module in segmenter.modules():
        if module is not segmenter:
            assert module.training == (id(module) in inside)
