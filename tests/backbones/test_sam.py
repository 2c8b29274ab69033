"""SAM's encoder with adapter prompts, its resized tables, its recomputed blocks, and prompts that share an image."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import SamModel

import plain_adapter
from conftest import random_sam, sam_of
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.base import BlockShape
from sam_adapter.batch import Annotation, Batch, EncodedImage, Prompt, Query, Sample
from sam_adapter.config.options import AdapterOptions
from sam_adapter.errors import CheckpointError
from sam_adapter.methods.sam_adapter.method import SamAdapterMethod
from sam_adapter.methods.sam_adapter.module import AdapterSettings
from sam_adapter.segmenter import SamSegmenter
from test_model import BOX, POINTS, config, example_batch, logits_of, only

OTHER_BOX = Prompt(box=torch.tensor([2.0, 3, 25, 30]))


@pytest.fixture(scope="module")
def wide_sam(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SAM of three blocks whose width gives the paper's adapter more than one channel."""
    folder = tmp_path_factory.mktemp("wide")
    random_sam(hidden_size=96, depth=3).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preset": "paper"},
        {"embedding_from": "before_position"},
        {"preset": "paper", "embedding_from": "after_position", "neck_prompt": True},
        {"embedding_read": "once"},
        {"neck_prompt": False},
        {"activation": "relu", "high_frequency_rate": 0.04},
        {"share_up": False, "tune_dim": 7, "hidden_dim": 5},
    ],
    ids=str,
)
def test_adapter_prompts_enter_where_they_belong(wide_sam: str, changes: dict):
    """Through the library's own blocks, with the prompts of the plain implementation."""
    torch.manual_seed(0)
    segmenter = SamSegmenter.from_config(config(wide_sam, **changes))
    assert segmenter.adapter is not None
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for parameter in segmenter.adapter.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # the paper's initial weights do little
        found, wanted = segmenter.encode(pixels)["image_embeddings"], plain_adapter.encode(segmenter, pixels)
        base = SamSegmenter.frozen(wide_sam).encode(pixels)["image_embeddings"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)
    assert (found - base).abs().max() > 0.01  # it would be seen if the prompts were left out


@pytest.mark.parametrize(("hidden_size", "width"), [(768, 24), (1024, 32), (1280, 40), (16, 1)])
def test_presets(sam_folder: str, hidden_size: int, width: int):
    paper = AdapterSettings(
        tune_dim=width,
        hidden_dim=width,
        high_frequency_rate=0.25,
        embedding_from="before_position",
        neck_prompt=False,
        activation="gelu",
        use_high_frequency=True,
        use_embedding=True,
        share_up=True,
        adapter_init="paper",
    )
    wide = AdapterSettings(
        tune_dim=192,
        hidden_dim=32,
        high_frequency_rate=0.25,
        embedding_from="after_position",
        embedding_read="every_block",
        neck_prompt=True,
        adapter_init="default",
    )
    backbone, method = load_backbone(sam_folder), SamAdapterMethod()
    backbone.blocks = (BlockShape(hidden_size),) * 2
    assert method.settings(AdapterOptions(preset="paper"), backbone) == paper
    assert method.settings(AdapterOptions(), backbone) == wide


@pytest.mark.parametrize("name", ["use_high_frequency", "use_embedding", "share_up"])
def test_switches_of_the_adapter_reach_its_settings(sam_folder: str, name: str):
    backbone, method = load_backbone(sam_folder), SamAdapterMethod()
    usual, off = method.settings(AdapterOptions(), backbone), {name: False}
    read = "once" if name == "use_embedding" else "every_block"
    assert method.settings(AdapterOptions().but(**off), backbone) == replace(usual, embedding_read=read, **off)


def test_a_folder_in_half_precision_is_loaded_in_single(tmp_path: Path):
    sam = random_sam().half()
    sam.save_pretrained(tmp_path / "half")
    found = sam_of(load_backbone(str(tmp_path / "half"))).state_dict()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in sam.state_dict().items())
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_a_folder_may_hold_its_weights_as_pytorch_wrote_them(sam_folder: str, tmp_path: Path):
    shutil.copy(Path(sam_folder, "config.json"), tmp_path)
    torch.save(SamModel.from_pretrained(sam_folder).state_dict(), tmp_path / "pytorch_model.bin")
    assert load_backbone(str(tmp_path)).identity.sha256 == load_backbone(sam_folder).identity.sha256


def test_a_folder_without_some_tensors_is_refused_by_name(sam_folder: str, tmp_path: Path):
    shutil.copytree(sam_folder, tmp_path / "sam")
    state = load_file(tmp_path / "sam/model.safetensors")
    del state["mask_decoder.iou_token.weight"]
    save_file(state, tmp_path / "sam/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"sam: tensors that do not fit: .*mask_decoder\.iou_token\.weight"):
        load_backbone(str(tmp_path / "sam"))


@pytest.mark.parametrize("size", [32, 48, 96, 160])
def test_position_tables_are_resized_as_an_independent_interpolation_does(sam_folder: str, size: int):
    """The absolute one bicubically, as OpenCV does, and those of global blocks linearly, as NumPy does."""
    native = sam_of(load_backbone(sam_folder)).vision_encoder.state_dict()
    resized = sam_of(load_backbone(sam_folder, image_size=size)).vision_encoder.state_dict()
    grid = size // 16
    # OpenCV takes at most four channels at a time.
    channels = native["pos_embed"][0].permute(2, 0, 1).numpy()
    table = np.stack([cv2.resize(channel, (grid, grid), interpolation=cv2.INTER_CUBIC) for channel in channels], -1)
    torch.testing.assert_close(resized.pop("pos_embed"), torch.from_numpy(table)[None], rtol=1e-5, atol=1e-6)
    for axis in ("h", "w"):
        name = f"layers.1.attn.rel_pos_{axis}"
        old, new = native[name].numpy(), resized.pop(name).numpy()
        places = (np.arange(2 * grid - 1) + 0.5) * len(old) / (2 * grid - 1) - 0.5
        wanted = np.stack([np.interp(places, np.arange(len(old)), column) for column in old.T], 1)
        np.testing.assert_allclose(new, wanted, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(tensor, native[name]) for name, tensor in resized.items())  # windows keep their size


def test_a_model_of_the_size_asked_for_keeps_its_tables(sam_folder: str):
    native, asked = (sam_of(load_backbone(sam_folder, image_size=size)).state_dict() for size in (None, 64))
    assert all(torch.equal(tensor, asked[name]) for name, tensor in native.items())


class SavedBytes:
    """Memory that autograd keeps for the backward pass."""

    def __enter__(self) -> "SavedBytes":
        self.storages: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._hooks.__exit__(*exception)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.storages.values())


class Softmaxes(TorchDispatchMode):
    """Counts how often attention weights are computed."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = str(function)
        self.count += "softmax" in name and "backward" not in name
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("attention", ["plain", "blocked"])
def test_gradient_checkpointing_computes_blocks_again_and_keeps_less(wide_sam: str, attention: str):
    kept, again = {}, {}
    for checkpointing in (False, True):
        segmenter = SamSegmenter.from_config(config(wide_sam, gradient_checkpointing=checkpointing))
        segmenter.backbone.attention = attention
        with Softmaxes() as forward, SavedBytes() as saved:
            embeddings = segmenter.encode(torch.randn(2, 3, 64, 64))["image_embeddings"]
        with Softmaxes() as backward:
            embeddings.square().mean().backward()
        with torch.no_grad(), Softmaxes() as evaluated:
            segmenter.encode(torch.randn(2, 3, 64, 64))
        assert evaluated.count == forward.count >= 3  # in the forward pass, everything once
        kept[checkpointing], again[checkpointing] = saved.total, backward.count
    assert again[True] == again[False] + forward.count
    assert again[False] == (0 if attention == "plain" else forward.count)  # blocked recomputes them by itself
    assert kept[True] < 0.6 * kept[False]


def several(prompts: list[list[Prompt]]) -> Batch:
    """Images with prompts of their own."""
    generator = torch.Generator().manual_seed(1)
    return Batch.collate(
        [
            Sample(
                index=image,
                name=str(image),
                pixel_values=torch.randn(3, 64, 64, generator=generator),
                annotation=Annotation.of(torch.ones(48 + 4 * image, 60, dtype=torch.uint8)),
                queries=[Query(prompt=prompt) for prompt in asked],
                original_size=(48 + 4 * image, 60),
            )
            for image, asked in enumerate(prompts)
        ]
    )


@pytest.mark.parametrize(
    "prompts",
    [
        [[BOX, OTHER_BOX], [OTHER_BOX, BOX], [BOX, BOX]],
        [[BOX, POINTS, Prompt()], [Prompt(), BOX, POINTS]],
    ],
    ids=["boxes", "mixed"],
)
def test_each_prompt_is_answered_about_its_own_image(sam_folder: str, prompts: list[list[Prompt]]):
    segmenter = SamSegmenter.from_config(config(sam_folder))
    batch = several(prompts)
    assert batch.pixel_values is not None
    with torch.no_grad():
        together = segmenter(batch)
        assert len(together.mask_logits) == sum(map(len, prompts))
        for query in range(len(batch.queries)):
            alone = segmenter(only(batch, query))
            torch.testing.assert_close(together.mask_logits[query], alone.mask_logits[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.iou_scores[query], alone.iou_scores[0], rtol=1e-4, atol=1e-5)


def asked_about(embedding: Tensor, prompts: list[Prompt], sizes: list[tuple[int, int]]) -> Batch:
    """Pictures of some sizes that were encoded before, a query each."""
    return Batch(
        indices=list(range(len(sizes))),
        names=[""] * len(sizes),
        pixel_values=None,
        annotations=[None] * len(sizes),
        queries=[Query(prompt=prompt) for prompt in prompts],
        original_sizes=sizes,
        encoded=EncodedImage({"image_embeddings": embedding}),
    )


@pytest.mark.parametrize("prompt", [BOX, POINTS], ids=["box", "points"])
def test_prompts_reach_sam_in_pixels_of_its_input(sam_folder: str, prompt: Prompt):
    """A picture of half the size with a prompt of half the coordinates asks the same."""
    segmenter = SamSegmenter.frozen(sam_folder)
    embedding = torch.randn(1, 32, 4, 4)
    with torch.no_grad():
        whole, half = (
            segmenter(asked_about(embedding, [prompt.scaled(scale, scale)], [(int(60 * scale), int(64 * scale))]))
            for scale in (1.0, 0.5)
        )
        other = segmenter(asked_about(embedding, [prompt], [(30, 32)]))
    assert torch.equal(whole.mask_logits[0], half.mask_logits[0])
    assert not torch.equal(whole.mask_logits[0], other.mask_logits[0])


def test_a_prompt_without_a_size_is_an_error(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    with pytest.raises(IndexError):
        segmenter(asked_about(torch.randn(2, 32, 4, 4), [BOX, BOX], [(60, 64)]))


def test_a_mask_prompt_changes_the_answer_of_its_own_image_alone(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    masks = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = example_batch([replace(BOX, mask_input=mask) for mask in masks])
    swapped = replace(batch, queries=[batch.queries[0], Query(prompt=replace(BOX, mask_input=masks[0]))])
    with torch.no_grad():
        found, other = logits_of(segmenter, batch), logits_of(segmenter, swapped)
    torch.testing.assert_close(found[0], other[0])
    assert not torch.allclose(found[1], other[1], rtol=1e-3, atol=1e-4)
