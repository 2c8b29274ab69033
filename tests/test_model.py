"""SAM's behaviour around a method: its batches, its size, its weights and its files."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils.data._utils.pin_memory import pin_memory
from transformers import SamModel

from conftest import random_sam, sam_of
from golden_cases import mean_loss
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.family import tensors_sha256
from sam_adapter.batch import Annotation, Batch, EncodedImage, Prompt, Query
from sam_adapter.checkpoints.adapter import load, save_adapter
from sam_adapter.config.choices import AttentionKind
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import CheckpointError, ConfigError
from sam_adapter.kernels import encoder_block
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from sam_adapter.tasks.pixels import sum_over_pixels
from sam_adapter.training.losses.base import WeightedLosses

BOX = Prompt(box=torch.tensor([10.0, 12, 40, 44]))
POINTS = Prompt(points=torch.tensor([[20.0, 20], [5, 5]]), point_labels=torch.tensor([1, 0]))


def config(model: str, **changes) -> TrainConfig:
    values = {"images": Path("i"), "masks": Path("m"), "model": model, "output": Path("o"), **changes}
    return TrainConfig(**values)


def example_batch(prompts: list[Prompt], size: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(1)
    sizes = [(48 + 4 * index, 60) for index in range(len(prompts))]
    return Batch(
        indices=list(range(len(prompts))),
        names=[str(index) for index in range(len(prompts))],
        pixel_values=torch.randn(len(prompts), 3, size, size, generator=generator),
        annotations=[Annotation.of((torch.rand(size, generator=generator) > 0.5).byte()) for size in sizes],
        queries=[Query(prompt=prompt) for prompt in prompts],
        original_sizes=sizes,
    )


def logits_of(segmenter: SamSegmenter, batch: Batch) -> list[Tensor]:
    """Of each query ``(M, H, W)``."""
    logits, sizes = segmenter(batch).mask_logits, batch.for_queries(batch.original_sizes)
    return [segmenter.preprocessing.to_original_size(one, size) for one, size in zip(logits, sizes, strict=True)]


def targets_of(batch: Batch) -> list[Tensor]:
    """Of each query ``(1, H, W)`` float32."""
    annotations = [one for one in batch.for_queries(batch.annotations) if one is not None]
    return [one.target(query.label)[None].float() for one, query in zip(annotations, batch.queries, strict=True)]


def loss_of(segmenter: SamSegmenter, batch: Batch) -> Tensor:
    return mean_loss(logits_of(segmenter, batch), targets_of(batch), {"bce": 1.0})[0]


def test_without_a_method_it_is_transformers_sam(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    batch = example_batch([BOX, BOX])
    with torch.no_grad():
        ours = segmenter(batch)
        scaled = [
            segmenter.preprocessing.prompt_to_input(query.prompt, size).box
            for query, size in zip(batch.queries, batch.original_sizes, strict=True)
        ]
        boxes = torch.stack([box[None] for box in scaled if box is not None])
        sam = SamModel.from_pretrained(sam_folder)
        theirs = sam(pixel_values=batch.pixel_values, input_boxes=boxes, multimask_output=False)
    for index in (0, 1):
        torch.testing.assert_close(ours.mask_logits[index], theirs.pred_masks[index, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.iou_scores[index], theirs.iou_scores[index, 0], rtol=1e-4, atol=1e-5)


def test_a_batch_of_different_prompts_equals_one_by_one(sam_folder: str):
    segmenter = SamSegmenter.from_config(config(sam_folder))
    batch = example_batch([BOX, POINTS, Prompt(), BOX])
    with torch.no_grad():
        assert batch.pixel_values is not None
        encoded = segmenter.encode(batch.pixel_values)
        together = segmenter(replace(batch, encoded=encoded))
        for index in range(4):
            alone = segmenter(only(batch, index, encoded.select([index])))
            torch.testing.assert_close(together.mask_logits[index], alone.mask_logits[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.iou_scores[index], alone.iou_scores[0], rtol=1e-4, atol=1e-5)


def only(batch: Batch, query: int, encoded: EncodedImage | None = None) -> Batch:
    """One query of a batch, with its image alone."""
    image = batch.image_index[query]
    return Batch(
        indices=[batch.indices[image]],
        names=[batch.names[image]],
        pixel_values=None if batch.pixel_values is None else batch.pixel_values[image : image + 1],
        annotations=[batch.annotations[image]],
        queries=[batch.queries[query]],
        original_sizes=[batch.original_sizes[image]],
        encoded=encoded,
    )


def test_masks_of_one_size_are_resized_as_each_alone(sam_folder: str):
    preprocessing = SamSegmenter.frozen(sam_folder).preprocessing
    logits = torch.randn(3, 16, 16)
    for size in [(48, 60), (52, 60), (30, 64)]:
        together = preprocessing.to_original_size(logits, size)
        assert together.shape == (3, *size)
        for one, found in zip(logits, together, strict=True):
            torch.testing.assert_close(found, preprocessing.to_original_size(one[None], size)[0])


def test_sums_over_pictures_of_several_sizes_are_those_of_each_alone(sam_folder: str):
    """Those of one size are resized together, and come back in their order."""
    segmenter = SamSegmenter.frozen(sam_folder)
    sizes = [(48, 60), (52, 60), (48, 60), (30, 64), (52, 60)]
    annotations = [Annotation.of((torch.rand(size) > 0.5).byte()) for size in sizes]
    batch = replace(example_batch([BOX] * 5), original_sizes=sizes, annotations=annotations)
    logits, weighted = torch.randn(5, 16, 16), WeightedLosses({"bce": 1.0, "dice": 1.0})
    (found,) = sum_over_pixels(logits, batch, segmenter.preprocessing, [weighted])
    for at, size in enumerate(sizes):
        target = targets_of(batch)[at]
        wanted = weighted(segmenter.preprocessing.to_original_size(logits[at : at + 1], size), target, None, [at])
        torch.testing.assert_close(found[at], wanted[0])


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_only_frozen_blocks_go_in_chunks_of_rows(sam_folder: str, precision: str, monkeypatch: pytest.MonkeyPatch):
    pieces = []
    in_chunks = encoder_block.in_chunks
    monkeypatch.setattr(encoder_block, "in_chunks", lambda *parts: pieces.append(1) or in_chunks(*parts))
    machine = Machine.choose(device="cpu", precision=precision)
    batch = example_batch([BOX])
    for changes, expected in (({}, 4), ({"method": "decoder"}, 4), ({"method": "full"}, 0)):
        segmenter = SamSegmenter.from_config(config(sam_folder, **changes)).suited_to(machine, for_good=True)
        pieces.clear()
        with machine.autocast():
            segmenter(batch)
        assert len(pieces) == expected


def test_a_cpu_decodes_in_float32_whatever_the_autocast(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    batch = example_batch([BOX, POINTS])
    assert batch.pixel_values is not None
    with torch.no_grad():
        encoded = replace(batch, encoded=segmenter.encode(batch.pixel_values))
        wanted = segmenter(encoded)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = segmenter(encoded)
    for one, other in zip(found.mask_logits, wanted.mask_logits, strict=True):
        assert torch.equal(one, other)


def test_loaders_pin_every_tensor_of_a_batch(monkeypatch: pytest.MonkeyPatch):
    """Pinning itself needs a GPU: that each large tensor is asked to is what can go wrong."""
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor.clone())
    batch = example_batch([BOX, POINTS, Prompt()])
    assert batch.pixel_values is not None
    copy = pin_memory(batch)
    assert isinstance(copy, Batch)
    labels = [one.labels for one in batch.annotations if one is not None]
    assert pinned == [batch.pixel_values.shape, *(one.shape for one in labels)]
    assert copy.names == batch.names
    assert copy.queries == batch.queries
    assert copy.annotations[2] is not None
    assert torch.equal(copy.annotations[2].labels, labels[2])


def test_frozen_parts_stay_in_eval_mode(sam_folder: str):
    segmenter = SamSegmenter.from_config(config(sam_folder))
    assert not segmenter.training
    assert segmenter.train().training
    assert segmenter.adapter is not None
    assert segmenter.adapter.training
    assert segmenter.backbone.part("mask_decoder").training
    assert not segmenter.backbone.part("image_encoder").training
    assert not any(module.training for module in segmenter.backbone.part("prompt_encoder").modules())


@pytest.mark.parametrize("size", [16, 32, 48, 96, 128])
def test_any_multiple_of_the_patch_size(sam_folder: str, size: int):
    segmenter = SamSegmenter.from_config(config(sam_folder, image_size=size))
    batch = example_batch([BOX, Prompt()], size)
    for logits, original in zip(logits_of(segmenter, batch), batch.original_sizes, strict=True):
        assert logits.shape == (1, *original)
        assert torch.isfinite(logits).all()


def test_resized_tables_are_interpolated_and_the_identity_stays(sam_folder: str):
    native, larger = load_backbone(sam_folder), load_backbone(sam_folder, image_size=96)
    assert native.identity.sha256 == larger.identity.sha256
    table, resized = (sam_of(one).vision_encoder.pos_embed for one in (native, larger))
    assert table is not None
    assert resized is not None
    assert resized.shape == (1, 6, 6, 32)
    assert abs(table.mean() - resized.mean()) < 0.02
    assert dict(sam_of(larger).named_parameters())["vision_encoder.layers.1.attn.rel_pos_h"].shape == (11, 8)
    assert dict(sam_of(larger).named_parameters())["vision_encoder.layers.0.attn.rel_pos_h"].shape == (5, 8)


def test_wrong_image_size_names_the_nearest(sam_folder: str):
    with pytest.raises(ConfigError, match="multiple of the model's patch size 16, got 100; the nearest are 96 and 112"):
        load_backbone(sam_folder, image_size=100)


def test_gradient_checkpointing_changes_nothing_but_memory(sam_folder: str):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        segmenter = SamSegmenter.from_config(config(sam_folder, gradient_checkpointing=checkpointing))
        batch = example_batch([BOX, Prompt()])
        loss_of(segmenter, batch).backward()
        assert segmenter.adapter is not None
        gradients.append([p.grad for p in segmenter.adapter.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("attention", ["folded", "blocked"])
def test_compiled_blocks_change_nothing(sam_folder: str, attention: AttentionKind):
    gradients = []
    counters["stats"].clear()
    for compiled in (False, True):
        torch.manual_seed(0)
        segmenter = SamSegmenter.from_config(config(sam_folder))
        machine = Machine.choose(device="cpu", precision="32", attention=attention, compiled=compiled)
        segmenter.suited_to(machine)
        batch = example_batch([BOX, Prompt()])
        loss_of(segmenter, batch).backward()
        assert segmenter.adapter is not None
        gradients.append([p.grad for p in segmenter.adapter.parameters()])
        assert (counters["stats"]["unique_graphs"] > 0) == compiled
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="compile: PyTorch compiles with 'no-such-compiler'"):
        Machine.choose(device="cpu", compiled=True)
    assert not Machine.choose(device="cpu").compiled


def test_another_base_is_refused_with_both_hashes(sam_folder: str, tmp_path: Path):
    segmenter = SamSegmenter.from_config(config(sam_folder))
    save_adapter(tmp_path / "adapter", segmenter)
    random_sam(seed=1).save_pretrained(tmp_path / "other")
    other = load_backbone(str(tmp_path / "other")).identity.sha256
    with pytest.raises(CheckpointError) as error:
        load(tmp_path / "adapter", model=str(tmp_path / "other"))
    assert segmenter.backbone.identity.sha256 in str(error.value)
    assert other in str(error.value)


def test_wrong_tensors_are_named(sam_folder: str):
    segmenter = SamSegmenter.from_config(config(sam_folder))
    state = dict(segmenter.trained_state())
    state["adapter.extra"] = state.pop("adapter.shared_up.bias")
    state["adapter.down.0.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as error:
        segmenter.load_trained_state(state)
    for part in (
        "'adapter.shared_up.bias' is missing",
        "'adapter.extra' is unknown",
        "'adapter.down.0.bias' has shape",
    ):
        assert part in str(error.value)


def test_damaged_adapter_folders(sam_folder: str, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"has no sam_adapter\.json"):
        load(tmp_path)
    save_adapter(tmp_path / "a", SamSegmenter.from_config(config(sam_folder)))
    weights = tmp_path / "a" / "sam_adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "a", model=sam_folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing.pth", "no file or folder"),
        ("./nowhere", "no file or folder"),
        ("vitb", "neither a file, a folder"),
        ("vit_b", "put them into one folder"),
    ],
)
def test_missing_models_say_what_to_do(model: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        load_backbone(model)


def test_files_that_are_no_sam(tmp_path: Path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a SAM checkpoint"):
        load_backbone(str(tmp_path / "other.pth"))
    torch.save({"code": print}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="tensors only"):
        load_backbone(str(tmp_path / "code.pth"))


def test_old_pth_files_are_read(tmp_path: Path):
    from sam_adapter.backbones.meta_names import read_tensors

    torch.save({"w": torch.ones(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(str(tmp_path / "old.pth"))["w"], torch.ones(3))


def test_the_digest_sees_every_value(sam_folder: str):
    sam = sam_of(load_backbone(sam_folder))
    before = tensors_sha256(sam)
    with torch.no_grad():
        sam.mask_decoder.iou_token.weight[0, 0] += 1e-3
    assert tensors_sha256(sam) != before


def test_thresholds_of_a_segmenter_by_kind_of_prompt(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    segmenter.threshold, segmenter.best_thresholds = 0.4, {"box": 0.25}
    assert [segmenter.threshold_for("box"), segmenter.threshold_for("none")] == [0.4, 0.4]
    assert [segmenter.threshold_for("box", "best"), segmenter.threshold_for("box", 0.7)] == [0.25, 0.7]
    with pytest.raises(ConfigError, match=r"no best threshold for the prompt 'none' \(known: box 0.25\)"):
        segmenter.threshold_for("none", "best")


def test_an_adapter_folder_keeps_everything_about_the_segmenter(sam_folder: str, tmp_path: Path):
    """In a folder whose parents are not there yet."""
    options = {"method": "decoder", "prompt": "points", "resize": "squash", "image_size": 96}
    segmenter = SamSegmenter.from_config(config(sam_folder, **options))
    segmenter.threshold, segmenter.best_thresholds = 0.3, {"box": 0.2, "points": 0.7}
    save_adapter(tmp_path / "deep/adapter", segmenter)
    again = load(tmp_path / "deep/adapter")
    for name in ("threshold", "best_thresholds", "prompt", "method", "preprocessing"):
        assert getattr(again, name) == getattr(segmenter, name), name
    assert not again.training
    assert SamSegmenter.frozen(sam_folder).threshold == 0.5


def test_a_base_that_is_not_there_is_named_with_the_adapter_or_alone(sam_folder: str, tmp_path: Path):
    save_adapter(tmp_path / "adapter", SamSegmenter.from_config(config(sam_folder)))
    with pytest.raises(CheckpointError, match=r"^model: there is no file or folder '/nowhere'"):
        load(tmp_path / "adapter", model="/nowhere")
    shutil.copytree(sam_folder, tmp_path / "moved")
    segmenter = SamSegmenter.from_config(config(str(tmp_path / "moved")))
    save_adapter(tmp_path / "other", segmenter)
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"^the base of .*other was '.*moved': .* give its place as --model"):
        load(tmp_path / "other")
    with pytest.raises(CheckpointError, match="give an adapter folder, a base model, or both"):
        load()


def test_a_base_is_frozen_and_computes_each_block_once(sam_folder: str):
    backbone = load_backbone(sam_folder)
    assert not backbone.gradient_checkpointing
    assert not backbone.compiled
    assert not sam_of(backbone).training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
