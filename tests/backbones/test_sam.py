"""SAM's encoder with adapter prompts, its resized tables, its recomputed blocks, and prompts that share an image."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import plain_adapter
from conftest import random_sam
from sam_adapter.backbones import load_backbone
from sam_adapter.batch import Batch, Prompt, Sample
from sam_adapter.config.options import AdapterOptions
from sam_adapter.methods.sam_adapter.module import AdapterSettings
from sam_adapter.segmenter import SamSegmenter, adapter_settings
from test_model import BOX, POINTS, config, example_batch, logits_of

OTHER_BOX = Prompt(boxes=torch.tensor([[2.0, 3, 25, 30]]))


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
        found, wanted = segmenter.encode(pixels), plain_adapter.encode(segmenter, pixels)
        base = SamSegmenter.frozen(wide_sam).encode(pixels)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)
    assert (found - base).abs().max() > 0.01  # it would be seen if the prompts were left out


@pytest.mark.parametrize(("hidden_size", "width"), [(768, 24), (1024, 32), (1280, 40), (16, 1)])
def test_presets(hidden_size: int, width: int):
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
    wide = replace(
        paper, tune_dim=192, hidden_dim=32, embedding_from="after_position", neck_prompt=True, adapter_init="default"
    )
    assert adapter_settings(AdapterOptions(preset="paper"), hidden_size) == paper
    assert adapter_settings(AdapterOptions(), hidden_size) == wide


@pytest.mark.parametrize("size", [32, 48, 96, 160])
def test_position_tables_are_resized_as_an_independent_interpolation_does(sam_folder: str, size: int):
    """The absolute one bicubically, as OpenCV does, and those of global blocks linearly, as NumPy does."""
    native = load_backbone(sam_folder).sam.vision_encoder.state_dict()
    resized = load_backbone(sam_folder, image_size=size).sam.vision_encoder.state_dict()
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
    native, asked = (load_backbone(sam_folder, image_size=size).sam.state_dict() for size in (None, 64))
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
            embeddings = segmenter.encode(torch.randn(2, 3, 64, 64))
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
                target=torch.ones(1, 48 + 4 * image, 60, dtype=torch.bool),
                prompts=asked,
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
        together = iter(segmenter(batch).mask_logits)
        for image, asked in enumerate(prompts):
            for prompt in asked:
                embedding = segmenter.encode(batch.pixel_values[image : image + 1])
                (alone,) = segmenter.decode(embedding, [prompt], [batch.original_sizes[image]]).mask_logits
                torch.testing.assert_close(next(together), alone, rtol=1e-4, atol=1e-5)


def test_masks_asked_for_by_one_prompt_are_of_its_own_image(sam_folder: str):
    """Two boxes in each prompt, two images: four masks."""
    segmenter = SamSegmenter.from_config(config(sam_folder))
    assert BOX.boxes is not None
    assert OTHER_BOX.boxes is not None
    both = Prompt(boxes=torch.cat([BOX.boxes, OTHER_BOX.boxes]))
    batch = example_batch([both, both])
    assert batch.pixel_values is not None
    with torch.no_grad():
        together = segmenter(batch)
        for image in (0, 1):
            embedding = segmenter.encode(batch.pixel_values[image : image + 1])
            for mask, prompt in enumerate((BOX, OTHER_BOX)):
                alone = segmenter.decode(embedding, [prompt], [batch.original_sizes[image]])
                torch.testing.assert_close(
                    together.mask_logits[image][mask], alone.mask_logits[0][0], rtol=1e-4, atol=1e-5
                )
                torch.testing.assert_close(
                    together.iou_scores[image][mask], alone.iou_scores[0][0], rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("prompt", [BOX, POINTS], ids=["box", "points"])
def test_prompts_reach_sam_in_pixels_of_its_input(sam_folder: str, prompt: Prompt):
    """A picture of half the size with a prompt of half the coordinates asks the same."""
    segmenter = SamSegmenter.frozen(sam_folder)
    embedding = torch.randn(1, 32, 4, 4)
    with torch.no_grad():
        whole, half = (
            segmenter.decode(embedding, [prompt.scaled(scale, scale)], [(int(60 * scale), int(64 * scale))])
            for scale in (1.0, 0.5)
        )
        other = segmenter.decode(embedding, [prompt], [(30, 32)])
    assert torch.equal(whole.mask_logits[0], half.mask_logits[0])
    assert not torch.equal(whole.mask_logits[0], other.mask_logits[0])


def test_a_prompt_without_a_size_is_an_error(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    with pytest.raises(ValueError, match="zip"):
        segmenter.decode(torch.randn(2, 32, 4, 4), [BOX, BOX], [(60, 64)])


def test_a_mask_prompt_changes_the_answer_of_its_own_image_alone(sam_folder: str):
    segmenter = SamSegmenter.frozen(sam_folder)
    assert BOX.boxes is not None
    masks = torch.randn(2, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = example_batch([Prompt(boxes=BOX.boxes, mask_inputs=mask) for mask in masks])
    swapped = replace(batch, prompts=[batch.prompts[0], replace(batch.prompts[1], mask_inputs=masks[0])])
    with torch.no_grad():
        found, other = logits_of(segmenter, batch), logits_of(segmenter, swapped)
    torch.testing.assert_close(found[0], other[0])
    assert not torch.allclose(found[1], other[1], rtol=1e-3, atol=1e-4)
