"""The files of the two existing implementations, written here from adapters of our own, and what becomes of them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import plain_adapter
from conftest import random_sam, sam_of
from sam_adapter import ConvertConfig, load
from sam_adapter.backbones import load_backbone
from sam_adapter.checkpoints.foreign import convert, import_adapter
from sam_adapter.errors import CheckpointError
from sam_adapter.methods.sam_adapter.module import AdapterSettings, SamAdapter
from sam_adapter.segmenter import SamSegmenter
from test_model import BOX, config, example_batch, logits_of

GAUSSIAN = "pe_layer.positional_encoding_gaussian_matrix"
CARRIED = {
    GAUSSIAN: "shared_image_embedding.positional_embedding",
    "no_mask_embed.weight": "prompt_encoder.no_mask_embed.weight",
}


def meta_name(name: str) -> str:
    """A name of the library's SAM → the name in Meta's files."""
    name = name.replace("vision_encoder.", "image_encoder.").replace("projection.", "proj.")
    name = re.sub(r"image_encoder\.layers\.(\d+)\.", r"image_encoder.blocks.\1.", name)
    name = re.sub(r"^(image_encoder\.blocks\.\d+|mask_decoder\.transformer\.layers\.\d+)\.layer_norm", r"\1.norm", name)
    for at, part in enumerate(("conv1", "layer_norm1", "conv2", "layer_norm2")):
        name = name.replace(f"image_encoder.neck.{part}.", f"image_encoder.neck.{at}.")
    name = name.replace("layer_norm_final_attn", "norm_final_attn")
    name = name.replace("shared_image_embedding.positional_embedding", f"prompt_encoder.{GAUSSIAN}")
    name = name.replace("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings.")
    for at, part in ((0, "conv1"), (1, "layer_norm1"), (3, "conv2"), (4, "layer_norm2"), (6, "conv3")):
        name = name.replace(f"prompt_encoder.mask_embed.{part}.", f"prompt_encoder.mask_downscaling.{at}.")
    for at, part in ((0, "upscale_conv1"), (1, "upscale_layer_norm"), (3, "upscale_conv2")):
        name = name.replace(f"mask_decoder.{part}.", f"mask_decoder.output_upscaling.{at}.")
    if match := re.match(r"(mask_decoder\.(?:output_hyper|iou_pred).+?)\.(proj_in|proj_out|layers\.0)\.(.+)", name):
        layer = {"proj_in": 0, "layers.0": 1, "proj_out": 2}[match[2]]
        name = f"{match[1]}.layers.{layer}.{match[3]}"
    return name


def randomised(module: Any) -> Any:
    """Weights that the base does not have."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def adapter_of(segmenter: SamSegmenter, **settings) -> SamAdapter:
    backbone = segmenter.backbone
    return randomised(
        SamAdapter(
            AdapterSettings(**settings),
            hidden_size=backbone.blocks[0].width,
            depth=len(backbone.blocks),
            patch_size=16,
        )
    )


def second_file(segmenter: SamSegmenter, adapter: SamAdapter) -> dict[str, Tensor]:
    """As the second implementation saves: its adapter and the mask decoder."""
    names = {"high_frequency_tune": "HFC_tune", "embedding_tune": "patch_embed_tune", "shared_up": "task_adapter_up"}
    state = {}
    for name, tensor in adapter.state_dict().items():
        name = re.sub(r"^down\.(\d+)\.", r"task_adapter_blocks.\1.down_projection.", name)
        for ours, theirs in names.items():
            name = name.replace(f"{ours}.", f"{theirs}.")
        state[f"image_encoder.{name}"] = tensor
    decoder = sam_of(segmenter).mask_decoder.state_dict(prefix="mask_decoder.")
    return {**state, **{meta_name(name): tensor for name, tensor in decoder.items()}}


def paper_file(segmenter: SamSegmenter, adapter: SamAdapter, carried: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the paper's authors save: the whole state, with the patches' layer as a convolution."""
    names = {
        "high_frequency_tune": "prompt_generator.proj",
        "embedding_tune": "embedding_generator",
        "shared_up": "shared_mlp",
    }
    state = {}
    for name, tensor in adapter.state_dict().items():
        if name == "high_frequency_tune.weight":
            tensor = tensor.reshape(-1, 3, 16, 16)
        name = re.sub(r"^down\.(\d+)\.", r"lightweight_mlp_\1.0.", name)
        for ours, theirs in names.items():
            name = name.replace(f"{ours}.", f"{theirs}.")
        state[f"image_encoder.prompt_generator.{name}"] = tensor
    sam = sam_of(segmenter).state_dict()
    parts = {name: sam[name] for name in sam if name.startswith(("mask_decoder.", "vision_encoder."))}
    return {**state, **{meta_name(name): tensor for name, tensor in parts.items()}, **carried}


def contiguous(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor.detach().clone().contiguous() for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_the_second_implementation(sam_folder: str, tmp_path: Path, prefix: str):
    torch.manual_seed(0)
    source = SamSegmenter.from_config(config(sam_folder))
    randomised(sam_of(source).mask_decoder)
    source.adapter = adapter_of(source, tune_dim=7, hidden_dim=5)
    save_file(contiguous(second_file(source, source.adapter), prefix), tmp_path / "second.safetensors")
    segmenter = import_adapter(sam_folder, tmp_path / "second.safetensors")
    assert isinstance(segmenter.adapter, SamAdapter)
    assert segmenter.adapter.settings == source.adapter.settings
    assert (segmenter.prompt, segmenter.preprocessing.resize) == ("box", "pad")
    batch = example_batch([BOX, BOX])
    assert batch.pixel_values is not None
    with torch.no_grad():
        wanted = plain_adapter.encode(source, batch.pixel_values)
        found = segmenter.encode(batch.pixel_values)["image_embeddings"]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)
        for one, right in zip(logits_of(segmenter, batch), logits_of(source, batch), strict=True):
            assert torch.equal(one, right)


def test_a_file_of_the_papers_authors_brings_its_own_position_encoding(sam_folder: str, tmp_path: Path):
    torch.manual_seed(0)
    source = SamSegmenter.from_config(config(sam_folder, preset="paper"))
    randomised(sam_of(source).mask_decoder)
    source.adapter = adapter_of(
        source,
        tune_dim=3,
        hidden_dim=3,
        embedding_from="before_position",
        neck_prompt=False,
        adapter_init="paper",
        misread_embedding=True,
    )
    sam = dict(sam_of(source).named_parameters())
    carried = {theirs: torch.randn_like(sam[ours]) for theirs, ours in CARRIED.items()}
    save_file(contiguous(paper_file(source, source.adapter, carried)), tmp_path / "paper.safetensors")
    convert(ConvertConfig(base=sam_folder, adapter=tmp_path / "paper.safetensors", output=tmp_path / "adapter"))
    segmenter = load(tmp_path / "adapter")
    assert isinstance(segmenter.adapter, SamAdapter)
    assert segmenter.adapter.settings == source.adapter.settings
    assert (segmenter.prompt, segmenter.preprocessing.resize) == ("none", "squash")
    assert not segmenter.leaves_encoder
    held = dict(sam_of(segmenter).named_parameters())
    for theirs, ours in CARRIED.items():
        assert torch.equal(held[ours], carried[theirs])
        assert not held[ours].requires_grad
        with torch.no_grad():
            sam[ours].copy_(carried[theirs])
    source.preprocessing = segmenter.preprocessing
    batch = example_batch([BOX, BOX])
    with torch.no_grad():
        for one, right in zip(logits_of(segmenter, batch), logits_of(source, batch), strict=True):
            torch.testing.assert_close(one, right)


def test_carried_tensors_are_saved_and_loaded(sam_folder: str):
    """In both directions, beside what is trained."""
    segmenter = SamSegmenter.from_config(config(sam_folder, method="decoder"))
    name = "backbone.sam.prompt_encoder.no_mask_embed.weight"
    assert name not in segmenter.trained_state()
    segmenter.method = replace(segmenter.method, carried=(name,))
    state = {key: tensor.clone() for key, tensor in segmenter.trained_state().items()}
    state[name] += 1
    segmenter.load_trained_state(state)
    assert torch.equal(sam_of(segmenter).prompt_encoder.no_mask_embed.weight, state[name])
    with pytest.raises(CheckpointError, match=r"no_mask_embed\.weight' is missing"):
        segmenter.load_trained_state({key: tensor for key, tensor in state.items() if key != name})


@pytest.mark.parametrize("left_out", ["image_encoder.task_adapter_up.weight", "mask_decoder.iou_token.weight"])
def test_a_file_that_lacks_a_tensor_is_refused_by_name(sam_folder: str, tmp_path: Path, left_out: str):
    source = SamSegmenter.from_config(config(sam_folder))
    state = contiguous(second_file(source, adapter_of(source, tune_dim=7, hidden_dim=5)))
    del state[left_out]
    save_file(state, tmp_path / "second.safetensors")
    with pytest.raises(CheckpointError, match=left_out.replace("image_encoder.", "").replace(".", r"\.")):
        import_adapter(sam_folder, tmp_path / "second.safetensors")


def test_a_file_of_neither_implementation_is_refused(sam_folder: str, tmp_path: Path):
    with pytest.raises(CheckpointError, match="there is no file"):
        import_adapter(sam_folder, tmp_path / "missing.pth")
    save_file({"some.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"expected tensors named .* found some\.weight"):
        import_adapter(sam_folder, tmp_path / "other.safetensors")


def test_metas_names_mean_the_same_model(tmp_path: Path):
    """All tensors of a SAM under Meta's names, and the sizes that follow from their shapes."""
    sam = random_sam(heads=8)
    held = {n: t for n, t in sam.state_dict().items() if not n.startswith("prompt_encoder.shared_embedding.")}
    state = {meta_name(name): tensor.clone() for name, tensor in held.items()}
    assert "image_encoder.blocks.1.attn.qkv.weight" in state
    assert "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias" in state
    save_file(state, tmp_path / "sam.safetensors")
    torch.save(state, tmp_path / "sam.pth")
    sam.save_pretrained(tmp_path / "folder")
    names = ("sam.safetensors", "sam.pth", "folder")
    read = [load_backbone(str(tmp_path / name)) for name in names]
    assert len({backbone.identity.sha256 for backbone in read}) == 1
    for backbone in read:
        for name, tensor in sam_of(backbone).state_dict().items():
            assert torch.equal(tensor, sam.state_dict()[name]), name
    batch = example_batch([BOX])
    assert batch.pixel_values is not None
    with torch.no_grad():
        wanted = SamSegmenter.frozen(str(tmp_path / "folder"))
        for name in names[:2]:
            found = SamSegmenter.frozen(str(tmp_path / name))
            embeddings = [one.encode(batch.pixel_values)["image_embeddings"] for one in (found, wanted)]
            assert torch.equal(*embeddings)
            answers = [one(batch).mask_logits for one in (found, wanted)]
            assert torch.equal(*answers)


def test_a_meta_file_that_is_no_whole_sam_is_refused_with_every_tensor(tmp_path: Path):
    held = random_sam(heads=8).state_dict()
    state = contiguous(
        {meta_name(name): t for name, t in held.items() if not name.startswith("prompt_encoder.shared_embedding.")}
    )
    del state["image_encoder.neck.0.weight"]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(
        CheckpointError, match=r"^.*cut\.safetensors: not a SAM checkpoint: it has no 'image_encoder\.neck"
    ):
        load_backbone(str(tmp_path / "cut.safetensors"))
    state["image_encoder.neck.0.weight"] = held["vision_encoder.neck.conv1.weight"].clone()
    del state["mask_decoder.iou_token.weight"]
    state["image_encoder.neck.1.bias"] = torch.zeros(7)
    state["image_encoder.cls_token"] = torch.zeros(1)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_backbone(str(tmp_path / "odd.safetensors"))
    for part in (
        "odd.safetensors: 3 tensors do not fit a SAM of this size: ",
        "'mask_decoder.iou_token.weight' is missing",
        "'vision_encoder.cls_token' is not part of SAM",
        "'vision_encoder.neck.layer_norm1.bias' has shape (7,), expected (32,)",
    ):
        assert part in str(error.value)


def test_a_base_of_another_family_is_refused(family_folders: dict[str, str], tmp_path: Path):
    save_file({"image_encoder.task_adapter_up.weight": torch.ones(2, 2)}, tmp_path / "second.safetensors")
    with pytest.raises(CheckpointError, match=r"base: both implementations adapt SAM, .* is of family sam2"):
        import_adapter(family_folders["sam2"], tmp_path / "second.safetensors")
