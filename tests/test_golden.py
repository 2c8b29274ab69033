"""Outputs, gradients, losses and metrics of the reference implementations, on their own weights and pictures."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import GOLDEN, needs_shared
from golden_cases import mean_loss
from sam_adapter.batch import Annotation, Batch, Output, Prompt, Query, Size
from sam_adapter.checkpoints.foreign import import_adapter
from sam_adapter.methods.sam_adapter.high_frequency import high_frequency
from sam_adapter.methods.sam_adapter.module import patches
from sam_adapter.prediction.predictor import Predictor
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.tasks.metrics import COLUMNS, score
from sam_adapter.tasks.prompts import box_from_mask

pytestmark = needs_shared(GOLDEN)

BASE = str(GOLDEN / "base_meta_keys.safetensors")


@cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


@cache
def numbers() -> dict:
    return json.loads((GOLDEN / "golden.json").read_text())


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def run_batch(segmenter: SamSegmenter, *, boxes: bool) -> Batch:
    run = tensors("second_impl_run")
    images = [run[f"image_{i}"].numpy() for i in (0, 1)]
    masks = [run[f"mask_{i}"] for i in (0, 1)]
    prompts = [Prompt(box=torch.from_numpy(box_from_mask(mask.numpy()))) if boxes else Prompt() for mask in masks]
    return Batch(
        indices=[0, 1],
        names=["a", "b"],
        pixel_values=torch.stack([segmenter.preprocessing.pixel_values(image) for image in images]),
        annotations=[Annotation.of(mask.to(torch.uint8)) for mask in masks],
        queries=[Query(prompt=prompt) for prompt in prompts],
        original_sizes=[(mask.shape[0], mask.shape[1]) for mask in masks],
    )


def targets_of(batch: Batch) -> list[torch.Tensor]:
    """Of each query ``(H, W)`` float32."""
    annotations = [one for one in batch.for_queries(batch.annotations) if one is not None]
    return [one.target(query.label).float() for one, query in zip(annotations, batch.queries, strict=True)]


def full_logits(segmenter: SamSegmenter, output: Output, sizes: list[Size]) -> list[torch.Tensor]:
    """Of each query ``(H, W)``."""
    logits = output.mask_logits
    return [segmenter.preprocessing.to_original_size(one, size)[0] for one, size in zip(logits, sizes, strict=True)]


def test_second_implementation_five_steps():
    segmenter = import_adapter(BASE, GOLDEN / "second_impl_partial.safetensors")
    run, batch = tensors("second_impl_run"), run_batch(segmenter, boxes=True)
    for index in (0, 1):
        resized = segmenter.preprocessing.resized(run[f"image_{index}"].numpy())
        assert torch.equal(torch.from_numpy(resized).permute(2, 0, 1), run[f"resized_{index}"])
        prompt = segmenter.preprocessing.prompt_to_input(batch.queries[index].prompt, batch.original_sizes[index])
        assert prompt.box is not None
        torch.testing.assert_close(prompt.box, run[f"box_1024_{index}"].reshape(4), rtol=1e-6, atol=1e-4)
    assert batch.pixel_values is not None
    tokens = patches(high_frequency(batch.pixel_values), 16).flatten(1, 2)[:, ::37, ::11]
    assert relative(tokens, run["hfc_tokens_sample"]) < 1e-4

    targets = targets_of(batch)
    optimizer = torch.optim.AdamW([p for p in segmenter.parameters() if p.requires_grad], lr=2e-4)
    for step, expected in enumerate(numbers()["second_impl"]["steps"]):
        encoded = segmenter.encode(batch.pixel_values)
        output = segmenter(replace(batch, encoded=encoded))
        logits = full_logits(segmenter, output, batch.original_sizes)
        loss, terms = mean_loss(logits, targets, {"bce": 1.0, "iou": 1.0})
        rows = torch.stack([score(one.detach().sigmoid(), t) for one, t in zip(logits, targets, strict=True)])
        assert terms["bce"].item() == pytest.approx(expected["bce"], abs=1e-4)
        assert terms["iou"].item() == pytest.approx(expected["iou"], abs=1e-4)
        assert rows[:, COLUMNS.index("iou")].mean().item() == pytest.approx(expected["miou"], abs=1e-4)
        assert rows[:, COLUMNS.index("dice")].mean().item() == pytest.approx(expected["dice"], abs=1e-4)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert relative(encoded["image_embeddings"].detach(), run["image_embeddings"]) < 1e-4
            for index in (0, 1):
                assert relative(output.mask_logits[index][0].detach(), run[f"low_res_logits_{index}"]) < 1e-4
                assert relative(logits[index].sigmoid().detach(), run[f"probabilities_{index}"]) < 1e-4
                torch.testing.assert_close(
                    output.iou_scores[index].detach(), run[f"iou_score_{index}"], rtol=1e-4, atol=1e-5
                )
            compare_gradients(segmenter, run, second_name, expected=12)
        optimizer.step()


def test_paper_implementation_three_steps():
    segmenter = import_adapter(BASE, GOLDEN / "paper_impl_full.safetensors")
    run, batch = tensors("paper_impl_run"), run_batch(segmenter, boxes=False)
    assert segmenter.preprocessing.resize == "squash"
    assert batch.pixel_values is not None
    assert relative(batch.pixel_values[:, :, ::64, ::64], run["pixel_values_sample"]) < 1e-4
    side = segmenter.preprocessing.image_size
    targets = [
        torch.nn.functional.interpolate(target[None, None], (side, side), mode="nearest")[0, 0]
        for target in targets_of(batch)
    ]
    optimizer = torch.optim.AdamW([p for p in segmenter.parameters() if p.requires_grad], lr=2e-4)
    for step, expected in enumerate(numbers()["paper_impl"]["losses"]):
        encoded = segmenter.encode(batch.pixel_values)
        output = segmenter(replace(batch, encoded=encoded))
        logits = full_logits(segmenter, output, [(side, side)] * 2)
        loss, _ = mean_loss(logits, targets, {"bce": 1.0, "iou": 1.0})
        assert loss.item() == pytest.approx(expected, abs=1e-4)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert relative(encoded["image_embeddings"].detach(), run["image_embeddings"]) < 1e-4
            sample = torch.stack(logits)[..., ::4, ::4].detach()
            wanted = run["mask_logits_every_4"]
            assert relative(sample.reshape(wanted.shape), wanted) < 1e-4
            compare_gradients(segmenter, run, paper_name, expected=12)
        optimizer.step()


@pytest.mark.parametrize("kind", ["points", "box", "box_points", "mask"])
@pytest.mark.parametrize("multimask", [False, True])
def test_meta_predictor(kind: str, multimask: bool):
    run, asked = tensors("meta_predictor"), numbers()["meta_predictor"]
    predictor = meta_predictor()
    answer = predictor.predict(
        box=asked["box"] if kind != "points" else None,  # the mask prompt comes with the box
        points=asked["points"] if "points" in kind else None,
        labels=asked["labels"] if "points" in kind else None,
        mask_input=run["mask_input"] if kind == "mask" else None,
        multimask=multimask,
    )
    key = f"{kind}_{'multi' if multimask else 'single'}"
    assert isinstance(answer.mask_logits, torch.Tensor)
    assert relative(answer.mask_logits, run[f"{key}.low_res_logits"]) < 1e-4
    assert relative(answer.iou_scores, run[f"{key}.iou_scores"]) < 1e-4
    areas = answer.masks.sum((1, 2))
    assert (areas - run[f"{key}.mask_area"]).abs().max() <= 2


@cache
def meta_predictor() -> Predictor:
    run = tensors("meta_predictor")
    predictor = Predictor(SamSegmenter.frozen(BASE), device="cpu", precision="32")
    predictor.set_image(run["image"].numpy())
    assert predictor._encoded is not None
    assert relative(predictor._encoded["image_embeddings"], run["image_embeddings"]) < 1e-4
    return predictor


def test_distributed_prefix_and_pth(tmp_path: Path):
    state = tensors("second_impl_partial")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "adapter.pth")
    torch.save(tensors("base_meta_keys"), tmp_path / "base.pth")
    plain = import_adapter(BASE, GOLDEN / "second_impl_partial.safetensors").trained_state()
    prefixed = import_adapter(str(tmp_path / "base.pth"), tmp_path / "adapter.pth").trained_state()
    assert plain.keys() == prefixed.keys()
    assert all(torch.equal(plain[name], prefixed[name]) for name in plain)


def test_paper_checkpoint_of_another_base_is_refused(tmp_path: Path):
    from sam_adapter.errors import CheckpointError

    state = dict(tensors("base_meta_keys"))
    state["image_encoder.neck.0.weight"] = state["image_encoder.neck.0.weight"] + 1
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="neck"):
        import_adapter(str(tmp_path / "other.safetensors"), GOLDEN / "paper_impl_full.safetensors")


def compare_gradients(segmenter: SamSegmenter, run: dict, rename, expected: int) -> None:
    compared = 0
    assert segmenter.adapter is not None
    for name, parameter in segmenter.adapter.named_parameters():
        assert parameter.grad is not None
        theirs = run[f"grad.image_encoder.{rename(name)}"]
        assert relative(parameter.grad.reshape(theirs.shape), theirs) < 1e-4, name
        compared += 1
    assert compared >= expected
    assert compared == sum(key.startswith("grad.") for key in run)


def second_name(name: str) -> str:
    for ours, theirs in (
        ("high_frequency_tune", "HFC_tune"),
        ("embedding_tune", "patch_embed_tune"),
        ("shared_up", "task_adapter_up"),
    ):
        name = name.replace(ours, theirs)
    if name.startswith("down."):
        _, block, kind = name.split(".")
        return f"task_adapter_blocks.{block}.down_projection.{kind}"
    return name


def paper_name(name: str) -> str:
    for ours, theirs in (
        ("high_frequency_tune", "prompt_generator.proj"),
        ("embedding_tune", "embedding_generator"),
        ("shared_up", "shared_mlp"),
    ):
        name = name.replace(ours, theirs)
    if name.startswith("down."):
        _, block, kind = name.split(".")
        name = f"lightweight_mlp_{block}.0.{kind}"
    return f"prompt_generator.{name}"
