"""The three masks for a point: left as they are, or trained by the best of them."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sam_adapter import TrainConfig
from sam_adapter.batch import Prompt
from sam_adapter.checkpoints.adapter import load, save_adapter
from sam_adapter.errors import ConfigError
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.instance import InstanceTask
from sam_adapter.training.corrections import chosen
from sam_adapter.training.lightning_module import TrainingModule
from sam_adapter.training.starting import starting_from
from test_model import BOX, POINTS, config, example_batch

THREE = [f"backbone.sam.mask_decoder.output_hypernetworks_mlps.{mask}." for mask in (1, 2, 3)]
POINT = Prompt(points=torch.tensor([[20.0, 20]]), point_labels=torch.tensor([1]))
BATCH = example_batch([BOX, POINT, Prompt(), POINTS])


def options(folder: str, **changes) -> TrainConfig:
    own = {"task": "instance", "prompt": "mixed", "precision": "32", "accelerator": "cpu", "lr": 1e-2}
    return config(folder, **{**own, **changes})


def module_of(folder: str, **changes) -> TrainingModule:
    torch.manual_seed(0)
    own = options(folder, **changes)
    segmenter = SamSegmenter.from_config(own)
    return TrainingModule(segmenter, InstanceTask.from_options(own), own, Machine.asked(own), images=4).train()


def after_a_step(folder: str, **changes) -> TrainingModule:
    module = module_of(folder, **changes)
    optimizer = module.optimizer()
    module.losses(BATCH)[0].sum().backward()
    optimizer.step()
    return module


def of_three(names: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensor for name, tensor in names.items() if name.startswith(tuple(THREE))]


def test_without_the_option_they_stay_as_the_base_has_them_and_are_not_saved(sam_folder: str, tmp_path: Path):
    module = after_a_step(sam_folder)
    base = module_of(sam_folder).segmenter
    names = dict(module.segmenter.named_parameters())
    assert len(of_three(names)) == 18
    for name, tensor in base.named_parameters():
        if name.startswith(tuple(THREE)):
            assert torch.equal(names[name], tensor)
    save_adapter(tmp_path / "adapter", module.segmenter)
    assert not of_three(load_file(tmp_path / "adapter/sam_adapter.safetensors"))


def test_with_it_they_are_trained_and_saved(sam_folder: str, tmp_path: Path):
    module = after_a_step(sam_folder, multimask=True)
    segmenter = module.segmenter.train(False)
    save_adapter(tmp_path / "adapter", segmenter)
    assert len(of_three(load_file(tmp_path / "adapter/sam_adapter.safetensors"))) == 18
    again, without = load(tmp_path / "adapter"), after_a_step(sam_folder).segmenter.train(False)
    with torch.no_grad():
        found, wanted, other = (one(BATCH, multimask=True).mask_logits for one in (again, segmenter, without))
    assert torch.equal(found, wanted)
    assert not torch.equal(wanted, other)


def test_the_best_of_three_is_added_for_one_point_alone(sam_folder: str):
    plain, module = module_of(sam_folder), module_of(sam_folder, multimask=True)
    wanted, found = plain.losses(BATCH)[0], module.losses(BATCH)[0]
    output = plain.segmenter(chosen(BATCH, [1]), multimask=True)
    three, errors = [], []
    for mask in range(3):
        terms, ious = plain.query_losses.of_masks(output.mask_logits[:, mask], chosen(BATCH, [1]))
        three.append(plain.loss.weighted(terms))
        errors.append((output.iou_scores[:, mask] - ious).square())
    added = torch.stack(three).min() + torch.stack(errors).mean()
    torch.testing.assert_close(found - wanted, torch.tensor([0, added.item(), 0, 0]))
    best = int(torch.stack(three).argmin())
    found.sum().backward()
    for mask, name in enumerate(THREE):
        gradients = [one.grad for other, one in module.trained() if other.startswith(name)]
        assert all(one is not None and bool(one.any()) == (mask == best) for one in gradients)


def test_a_batch_without_a_point_has_a_gradient_of_zero(sam_folder: str):
    """Other processes, whose batches have one, wait for it; the decoder makes all masks, and hands one of them out."""
    module = module_of(sam_folder, multimask=True)
    losses, _ = module.losses(chosen(BATCH, [0, 2, 3]))
    assert torch.equal(losses, module_of(sam_folder).losses(chosen(BATCH, [0, 2, 3]))[0])
    losses.sum().backward()
    gradients = [one.grad for name, one in module.trained() if name.startswith(tuple(THREE))]
    assert len(gradients) == 18
    assert all(one is not None and not one.any() for one in gradients)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_a_run_may_start_from_an_adapter_of_the_other_kind(sam_folder: str, tmp_path: Path, before: bool, after: bool):
    trained = after_a_step(sam_folder, multimask=before).segmenter
    save_adapter(tmp_path / "adapter", trained)
    begun, state = starting_from(tmp_path / "adapter", module_of(sam_folder, multimask=after).segmenter)
    begun.load_trained_state(state)
    with torch.no_grad():
        found, wanted = begun(BATCH, multimask=True), trained.train(False)(BATCH, multimask=True)
    assert torch.equal(found.mask_logits, wanted.mask_logits)
    assert all(one.requires_grad == after for one in of_three(dict(begun.named_parameters())))


@pytest.mark.parametrize(
    "changes", [{"task": "binary"}, {"prompt": "box"}, {"positive_points": 2}, {"parts": ("prompt_encoder",)}]
)
def test_what_cannot_be_trained_is_refused(changes):
    with pytest.raises(ConfigError, match="multimask: expected task instance, prompts of one positive point"):
        options("m", multimask=True, **changes)
