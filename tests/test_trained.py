"""What a method trains, saves and counts, and runs that start from an adapter."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import random_sam, write_pairs
from sam_adapter import TrainConfig, load, train
from sam_adapter.batch import Batch
from sam_adapter.checkpoints.adapter import save_adapter
from sam_adapter.errors import CheckpointError
from sam_adapter.methods.base import untrained_names
from sam_adapter.training.setup import module_and_data
from training_runs import config, rows, weights


@pytest.mark.parametrize("changes", [{}, {"preset": "paper"}, {"method": "decoder"}, {"method": "full"}])
def test_all_that_is_trained_gets_a_gradient_and_nothing_else_is_counted(
    pairs: Path, sam_folder: str, tmp_path: Path, changes: dict
):
    asked = {"prompt": "mixed", "prompts_per_image": 3, "negative_points": 1, "precision": "32"}
    run = config(pairs, sam_folder, tmp_path / "run", **asked, **changes)
    module, data = module_and_data(run)
    module.segmenter.train()
    module.losses(Batch.collate([data.train_set[0], data.train_set[1]]))[0].sum().backward()
    trained = {name: one for name, one in module.segmenter.named_parameters() if one.requires_grad}
    assert [name for name, one in trained.items() if one.grad is None] == []
    assert set(trained) == set(module.segmenter.trained_state())
    untrained = untrained_names(module.segmenter.backbone)
    assert not any(name.startswith(untrained) for name in trained)
    assert module.segmenter.parameter_table()[-1][2] == sum(one.numel() for one in trained.values())
    left = [name for name, _ in module.segmenter.named_parameters() if name.startswith(untrained)]
    assert {name.split(".")[3] for name in left} == {"iou_prediction_head", "output_hypernetworks_mlps", "mask_embed"}


@pytest.mark.parametrize("method", ["sam_adapter", "decoder"])
def test_adapters_that_hold_untrained_tensors_load_with_them(pairs: Path, sam_folder: str, tmp_path: Path, method: str):
    """Earlier versions and the foreign implementations save the whole mask decoder."""
    train(config(pairs, sam_folder, tmp_path / "run", epochs=1, method=method))
    adapter = tmp_path / "run/adapter"
    plain = load(adapter)
    name = "backbone.sam.mask_decoder.iou_prediction_head.proj_out.weight"
    state = weights(tmp_path / "run") | {name: plain.get_parameter(name).detach() + 1}
    save_file(state, adapter / "sam_adapter.safetensors")
    loaded = load(adapter)
    assert torch.equal(loaded.get_parameter(name), state[name])
    assert loaded.leaves_encoder == plain.leaves_encoder == (method == "decoder")
    save_adapter(tmp_path / "again", loaded)
    assert torch.equal(load(tmp_path / "again").get_parameter(name), state[name])
    state["backbone.sam.vision_encoder.neck.conv1.weight"] = state[name].clone()
    save_file(state, adapter / "sam_adapter.safetensors")
    with pytest.raises(CheckpointError, match="is unknown"):
        load(adapter)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, sam_folder: str) -> TrainConfig:
    folder = tmp_path_factory.mktemp("first")
    run = config(write_pairs(folder / "pairs"), sam_folder, folder / "run", epochs=1, lr=1e-2)
    train(run)
    return run


def test_a_run_starts_from_an_adapter(first: TrainConfig, tmp_path: Path):
    adapter = first.output / "adapter"
    still = first.but(output=tmp_path / "still", start_from=adapter, lr=1e-30, ema=0.5)
    train(still)
    before, after = weights(first.output), weights(still.output)
    assert before.keys() == after.keys()
    assert all(torch.allclose(tensor, after[name], atol=1e-12) for name, tensor in before.items())
    # Row 0 is still the base and not the adapter.
    assert rows(still.output)[0]["val_iou"] == rows(first.output)[0]["val_iou"]
    assert rows(still.output)[1]["val_iou"] == pytest.approx(rows(first.output)[1]["val_iou"])
    # Other data, size, loss and prompts are a new run's own.
    other = write_pairs(tmp_path / "other", seed=5)
    moved = first.but(
        output=tmp_path / "moved",
        images=other / "images",
        masks=other / "masks",
        start_from=adapter,
        prompt="none",
        loss="dice",
        image_size=96,
    )
    train(moved)
    description = json.loads((moved.output / "adapter/sam_adapter.json").read_text())
    assert description["prompt"] == "none"
    with pytest.raises(Exception, match="start_from: was"):
        train(moved.but(resume=True, start_from=None))
    train(moved.but(resume=True, epochs=2))


def test_a_run_does_not_start_from_another_base_or_method(first: TrainConfig, tmp_path: Path):
    run = first.but(output=tmp_path / "run", start_from=first.output / "adapter")
    with pytest.raises(CheckpointError, match="with '--method sam_adapter', and the run has '--method decoder'"):
        train(run.but(method="decoder"))
    with pytest.raises(CheckpointError, match="tune_dim is 192 there and 7 here"):
        train(run.but(tune_dim=7))
    random_sam(seed=5).save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"start_from: .* SHA-256"):
        train(run.but(model=str(tmp_path / "base")))
    with pytest.raises(CheckpointError, match=r"no sam_adapter\.json"):
        train(run.but(start_from=tmp_path))
    broken = tmp_path / "broken"
    shutil.copytree(first.output / "adapter", broken)
    state = load_file(broken / "sam_adapter.safetensors")
    state.pop("adapter.shared_up.weight")
    save_file(state, broken / "sam_adapter.safetensors")
    with pytest.raises(CheckpointError, match=r"'adapter\.shared_up\.weight' is missing"):
        train(run.but(start_from=broken))
    assert not run.output.exists()
