"""SAM 2 beside what every family keeps to: sizes, files, recomputed blocks, pictures of a batch."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_sam import SavedBytes, several
from torch import Tensor

from conftest import random_sam2
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.families import ALIASES
from sam_adapter.backbones.sam2 import Sam2Backbone, Sam2Family
from sam_adapter.backbones.sam2_config import KNOWN
from sam_adapter.batch import Prompt
from sam_adapter.errors import CheckpointError, ConfigError
from sam_adapter.prediction.predictor import Predictor
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from test_model import BOX, POINTS, config, example_batch, only


@pytest.fixture(scope="module")
def folder(family_folders: dict[str, str]) -> str:
    return family_folders["sam2"]


def backbone_of(segmenter: SamSegmenter) -> Sam2Backbone:
    assert isinstance(segmenter.backbone, Sam2Backbone)
    return segmenter.backbone


def meta_state(sam: Any) -> dict[str, Tensor]:
    """Tensors of a SAM 2 under Meta's names, written down from their code; `sam` has MLPs of two and three layers."""
    names = {
        "vision_encoder.backbone.": "image_encoder.trunk.",
        "patch_embed.projection.": "patch_embed.proj.",
        "layer_norm_final_attn": "norm_final_attn",
        "shared_embedding.positional_embedding": "pe_layer.positional_encoding_gaussian_matrix",
        "mask_embed.conv1": "mask_downscaling.0",
        "mask_embed.layer_norm1": "mask_downscaling.1",
        "mask_embed.conv2": "mask_downscaling.3",
        "mask_embed.layer_norm2": "mask_downscaling.4",
        "mask_embed.conv3": "mask_downscaling.6",
        "upscale_conv1": "output_upscaling.0",
        "upscale_layer_norm": "output_upscaling.1",
        "upscale_conv2": "output_upscaling.3",
        "layer_norm": "norm",
        "o_proj": "out_proj",
        "proj_in": "layers.0",
    }
    state = {}
    for name, tensor in sam.state_dict().items():
        if name.startswith("shared_image_embedding"):
            continue
        if name == "prompt_encoder.point_embed.weight":
            state |= {f"sam_prompt_encoder.point_embeddings.{i}.weight": row[None] for i, row in enumerate(tensor)}
            continue
        theirs = name.replace("no_memory_embedding", "no_mem_embed")
        deep = any(part in name for part in ("hypernetworks", "prediction_head", "obj_score_head"))
        theirs = theirs.replace("proj_out", "layers.2" if deep else "layers.1")
        theirs = theirs.replace(".layers.0.", ".layers.1.") if deep and ".layers.0." in name else theirs
        for ours, meta in names.items():
            theirs = theirs.replace(ours, meta)
        if theirs.startswith("vision_encoder.neck"):
            level, kind = theirs.split(".")[-2:]
            theirs = f"image_encoder.neck.convs.{level}.conv.{kind}"
        if theirs.startswith(("prompt_encoder", "mask_decoder")):
            theirs = f"sam_{theirs}"
        state[theirs] = tensor.clone()
    return state


SETTINGS = {"global_att_blocks": [4], "window_spec": [8, 4, 4, 2], "image_size": 64}
MEMORY = {"memory_attention.norm.weight": torch.ones(3), "maskmem_tpos_enc": torch.ones(7, 1, 1, 4)}


@pytest.fixture
def meta_file(tmp_path: Path) -> Path:
    """A file of Meta's with memory, beside its settings."""
    torch.save({"model": meta_state(random_sam2()) | MEMORY}, tmp_path / "random.pt")
    (tmp_path / "random.json").write_text(json.dumps(SETTINGS))
    return tmp_path / "random.pt"


def test_a_file_of_metas_is_the_folder_that_it_became(meta_file: Path, folder: str):
    found, wanted = load_backbone(str(meta_file)), load_backbone(folder)
    assert found.identity.sha256 == wanted.identity.sha256
    assert (found.image_size, found.blocks) == (wanted.image_size, wanted.blocks)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = [one.decode(one.prepare(one.encode(pixels)), [BOX], [0]) for one in (found, wanted)]
    torch.testing.assert_close(*(one.mask_logits for one in answers), rtol=1e-4, atol=1e-6)


def test_the_digest_knows_every_tensor(meta_file: Path):
    before = load_backbone(str(meta_file)).identity.sha256
    for name in ("no_mem_embed", "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"):
        state = meta_state(random_sam2())
        state[name] += 1
        torch.save({"model": state}, meta_file)
        assert load_backbone(str(meta_file)).identity.sha256 != before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sam_mask_decoder.conv_s1.bias", None, "'mask_decoder.conv_s1.bias' is missing"),
        ("sam_mask_decoder.extra", torch.ones(1), "'mask_decoder.extra' is not part of SAM 2"),
        ("no_mem_embed", torch.ones(1, 1, 5), r"'no_memory_embedding' has shape \(1, 1, 5\), expected \(1, 1, 32\)"),
        ("image_encoder.trunk.pos_embed", None, "shapes are not those of a SAM 2"),
    ],
)
def test_a_file_of_metas_is_loaded_strictly(meta_file: Path, name: str, value: Tensor | None, message: str):
    state = meta_state(random_sam2())
    state.pop(name, None)
    torch.save({"model": state if value is None else state | {name: value}}, meta_file)
    with pytest.raises(CheckpointError, match=rf"random\.pt: .*{message}"):
        load_backbone(str(meta_file))


def test_metas_four_sizes_are_known_and_other_ones_are_told_apart():
    wanted = {"t": (1, 5), "s": (1, 7), "b+": (2, 12), "l": (2, 23)}
    found = [(one.num_heads, one.global_att_blocks[0]) for one in KNOWN.values()]
    assert found == list(wanted.values())
    assert {alias for alias in ALIASES if alias.startswith("sam2")} == {
        f"{version}_{size}" for version in ("sam2", "sam2.1") for size in wanted
    }
    assert ALIASES["sam2.1_b+"] == "facebook/sam2.1-hiera-base-plus"


def test_a_named_model_that_is_not_here_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"'sam2\.1_t' is not on this machine.*facebook/sam2\.1-hiera-tiny"):
        load_backbone("sam2.1_t")


def test_a_folder_of_a_video_model_gives_the_image_model_in_it(folder: str, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "video")
    path = tmp_path / "video/config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "model_type": "sam2_video", "num_maskmem": 7}))
    state = load_file(tmp_path / "video/model.safetensors")
    more = {"memory_encoder.projection.weight": torch.ones(2, 2), "no_object_pointer": torch.ones(1, 32)}
    save_file({**state, **more}, tmp_path / "video/model.safetensors", metadata={"format": "pt"})
    assert load_backbone(str(tmp_path / "video")).identity.sha256 == load_backbone(folder).identity.sha256


@pytest.mark.parametrize("size", [32, 96, 128])
def test_any_multiple_of_32_is_a_size_of_the_input(folder: str, size: int):
    native, resized = load_backbone(folder), load_backbone(folder, image_size=size)
    assert resized.image_size == resized.preprocessing.image_size == size
    assert resized.mask_input_size == size // 4
    assert resized.identity.sha256 == native.identity.sha256
    state = native.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in resized.state_dict().items())
    corner = Prompt(box=torch.tensor([0.0, 0.0, size / 2, size / 2]), mask_input=torch.ones(1, size // 4, size // 4))
    with torch.no_grad():
        encoded = resized.encode(torch.randn(2, 3, size, size))
        answer = resized.decode(resized.prepare(encoded), [corner], [1])
    assert {name: tuple(one.shape[1:]) for name, one in encoded.tensors.items()} == resized.encoded_shapes
    assert answer.mask_logits.shape == (1, 1, size // 4, size // 4)


@pytest.mark.parametrize(("size", "nearest"), [(80, "64 and 96"), (16, "32 and 64"), (1023, "992 and 1024")])
def test_other_sizes_are_refused_with_the_nearest(folder: str, size: int, nearest: str):
    with pytest.raises(
        ConfigError, match=f"image_size: expected a multiple of 32.*got {size}; the nearest are {nearest}"
    ):
        load_backbone(folder, image_size=size)


def test_prepared_images_have_the_shapes_that_it_says_and_are_prepared_once(folder: str):
    backbone = load_backbone(folder)
    with torch.no_grad():
        prepared = backbone.prepare(backbone.encode(torch.randn(2, 3, 64, 64)))
    assert {name: tuple(one.shape[1:]) for name, one in prepared.tensors.items()} == backbone.prepared_shapes
    assert backbone.prepare(prepared) is prepared


@pytest.mark.parametrize("method", ["sam_adapter", "decoder"])
def test_each_picture_of_a_batch_gets_its_own_features(folder: str, method: str):
    """The published branch gives every picture the last one's finer levels, and fixes two pictures a batch."""
    segmenter = SamSegmenter.from_config(config(folder, method=method))
    batch = several([[BOX, POINTS], [Prompt()], [POINTS, BOX, Prompt()]])
    with torch.no_grad():
        together = segmenter(batch)
        for query in range(len(batch.queries)):
            alone = segmenter(only(batch, query))
            torch.testing.assert_close(together.mask_logits[query], alone.mask_logits[0], rtol=1e-4, atol=1e-5)
        encoded = segmenter.encode(batch.pixel_values)
        alone = segmenter.encode(batch.pixel_values[1:2])
    for name, tensor in encoded.tensors.items():
        torch.testing.assert_close(tensor[1:2], alone[name], rtol=1e-4, atol=1e-5)
        assert (tensor[0] - tensor[2]).abs().max() > 0.1


def test_the_best_of_three_is_given_in_evaluation_alone(folder: str):
    """Also where the mask decoder is not trained, and so is in eval mode in training too."""
    for parts in ((), ("mask_decoder",)):
        segmenter = SamSegmenter.from_config(config(folder, parts=parts))
        backbone_of(segmenter).sam.mask_decoder.dynamic_multimask_stability_thresh = 1.1  # nothing is stable
        batch = example_batch([BOX, POINTS, Prompt()])
        with torch.no_grad():
            evaluated, three = segmenter(batch), segmenter(batch, multimask=True)
            trained, again = segmenter.train()(batch), segmenter.train(False)(batch)
        best = three.iou_scores.argmax(1)
        torch.testing.assert_close(evaluated.mask_logits[:, 0], three.mask_logits[range(3), best])
        assert torch.equal(evaluated.mask_logits, again.mask_logits)
        assert not torch.allclose(trained.mask_logits, evaluated.mask_logits, rtol=1e-3, atol=1e-3)


def test_learned_questions_do_not_fall_back(folder: str):
    backbone = load_backbone(folder)
    assert isinstance(backbone, Sam2Backbone)
    backbone.sam.mask_decoder.dynamic_multimask_stability_thresh = 1.1
    with torch.no_grad():
        prepared = backbone.prepare(backbone.encode(torch.randn(1, 3, 64, 64)))
        tokens, found = torch.randn(1, 2, 32), []
        for backbone.falls_back in (True, False):
            found.append([backbone.decode(prepared, [BOX], [0], sparse_tokens=own) for own in (tokens, None)])
    assert torch.equal(found[0][0].mask_logits, found[1][0].mask_logits)
    assert not torch.equal(found[0][1].mask_logits, found[1][1].mask_logits)


def test_a_predictor_prepares_a_picture_once(folder: str):
    segmenter, done = SamSegmenter.frozen(folder), []
    decoder = backbone_of(segmenter).sam.mask_decoder
    decoder.conv_s0.register_forward_hook(lambda *_: done.append(1))
    predictor = Predictor(segmenter, device="cpu", precision="32")
    predictor.set_image(np.zeros((40, 50, 3), np.uint8))
    for _ in range(3):
        predictor.predict(box=[2, 3, 20, 30])
    assert len(done) == 1


def test_scores_of_objects_come_with_the_answers(folder: str):
    found = SamSegmenter.frozen(folder)(example_batch([BOX, POINTS, Prompt()]))
    assert found.object_scores is not None
    assert found.object_scores.shape == (3,)
    assert len(set(found.object_scores.tolist())) == 3


def test_earlier_answers_come_in_within_the_authors_limits(folder: str):
    segmenter, mask = SamSegmenter.frozen(folder), torch.linspace(-90, 90, 256).reshape(1, 16, 16)
    asked = [replace(BOX, mask_input=one) for one in (mask, mask.clamp(-32, 32), mask.clamp(-31, 31))]
    batch = example_batch([BOX, BOX, BOX])
    assert batch.pixel_values is not None
    with torch.no_grad():
        prepared = segmenter.backbone.prepare(segmenter.encode(batch.pixel_values[:1]))
        found = segmenter.backbone.decode(prepared, asked, [0, 0, 0]).mask_logits
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("method", ["sam_adapter", "full"])
def test_gradient_checkpointing_keeps_less_and_changes_nothing(folder: str, method: str):
    kept, gradients = {}, {}
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for checkpointing in (False, True):
        torch.manual_seed(0)
        segmenter = SamSegmenter.from_config(config(folder, method=method, gradient_checkpointing=checkpointing))
        with SavedBytes() as saved:
            embeddings = segmenter.encode(pixels)["image_embeddings"]
        embeddings.square().mean().backward()
        kept[checkpointing] = saved.total
        gradients[checkpointing] = [one.grad for one in segmenter.parameters() if one.grad is not None]
    assert kept[True] < 0.6 * kept[False]
    for one, other in zip(gradients[False], gradients[True], strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_rounds_and_no_more(folder: str):
    pixels, found = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), {}
    for precision in ("32", "bf16-mixed"):
        machine = Machine.choose(device="cpu", precision=precision)
        torch.manual_seed(0)
        segmenter = SamSegmenter.from_config(config(folder)).suited_to(machine, for_good=True)
        with torch.no_grad(), machine.autocast():
            prepared = segmenter.backbone.prepare(segmenter.encode(pixels))
            found[precision] = segmenter.backbone.decode(prepared, [BOX, POINTS], [0, 1]).mask_logits
    difference = (found["32"] - found["bf16-mixed"]).norm() / found["32"].norm()
    assert 1e-5 < difference < 0.05


def test_a_form_of_attention_is_not_to_be_chosen(folder: str):
    segmenter = SamSegmenter.frozen(folder)
    segmenter.suited_to(Machine.choose(device="cpu"))
    with pytest.raises(ConfigError, match=r"attention: the encoder of family sam2 .* leave '--attention folded' out"):
        segmenter.suited_to(Machine.choose(device="cpu", attention="folded"))


def test_sam2_knows_its_authors_names():
    names = list(meta_state(random_sam2()))
    assert Sam2Family().is_own(iter(names))
    for part in ("image_encoder.trunk.", "sam_mask_decoder.", "sam_prompt_encoder."):
        assert not Sam2Family().is_own(name for name in names if not name.startswith(part))
