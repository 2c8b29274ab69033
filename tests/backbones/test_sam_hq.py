"""SAM-HQ: its authors' numbers, its mended decoder, and its two feature maps."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.sam_hq.modeling_sam_hq import SamHQMaskDecoder

from conftest import GOLDEN, needs_shared, random_sam_hq
from golden_cases import fill
from golden_predictors import asked, kinds_in, relative, size_of, tensors
from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.sam_hq import EARLY_FEATURES, FUSED_FEATURES, IMAGE_EMBEDDINGS, SamHqBackbone
from sam_adapter.batch import Prompt
from sam_adapter.errors import CheckpointError, ConfigError
from sam_adapter.kernels.attention import ATTENTION
from sam_adapter.prediction.predictor import Predictor
from sam_adapter.segmenter import SamSegmenter
from test_model import config

BASE = GOLDEN / "sam_hq_meta_keys.safetensors"
BOX = Prompt(box=torch.tensor([10.0, 12, 40, 44]))
POINTS = Prompt(points=torch.tensor([[20.0, 20], [5, 5]]), point_labels=torch.tensor([1, 0]))


@pytest.fixture
def backbone(family_folders: dict[str, str]) -> SamHqBackbone:
    """With weights of a size that lets every part matter."""
    loaded = hq(family_folders["sam_hq"])
    fill(loaded, "contract")
    return loaded


def hq(model: str, **options: Any) -> SamHqBackbone:
    loaded = load_backbone(model, **options)
    assert isinstance(loaded, SamHqBackbone)
    return loaded


def predictor_of(segmenter: SamSegmenter) -> Predictor:
    return Predictor(segmenter, device="cpu", precision="32")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SamSegmenter]:
    """The golden base: from its authors' names, from a folder saved from these, and with an adapter that adds zero."""
    authors = SamSegmenter.frozen(str(BASE))
    folder = tmp_path_factory.mktemp("golden")
    assert isinstance(authors.backbone, SamHqBackbone)
    authors.backbone.sam.save_pretrained(folder)
    adapted = SamSegmenter.from_config(config(str(BASE), adapter_init="zero"))
    return {"authors": authors, "folder": SamSegmenter.frozen(str(folder)), "adapter": adapted}


@needs_shared(BASE)
@pytest.mark.parametrize("kind", ["authors", "folder", "adapter"])
@torch.no_grad()
def test_its_authors_predictor(models: dict[str, SamSegmenter], kind: str):
    run, segmenter = tensors("sam_hq_predictor"), models[kind]
    backbone, preprocessing = segmenter.backbone, segmenter.preprocessing
    assert isinstance(backbone, SamHqBackbone)
    assert backbone.identity.sha256 == models["authors"].backbone.identity.sha256
    kinds = list(kinds_in(run))
    assert len(kinds) == 4
    for image in (0, 1) if kind == "authors" else (1,):
        size = size_of(run, image)
        encoded = segmenter.encode(preprocessing.pixel_values(run[f"image_{image}"].numpy())[None])
        assert relative(encoded[IMAGE_EMBEDDINGS][0, :, ::3, ::3], run[f"image_embed_sample_{image}"]) < 1e-4
        assert relative(encoded[EARLY_FEATURES][0, ::5, ::5], run[f"interm_embedding_0_sample_{image}"]) < 1e-4
        prepared = backbone.prepare(encoded)
        prompts = [preprocessing.prompt_to_input(asked(run, one, image), size) for one in kinds]
        for multi, only in product((False, True), repeat=2):
            backbone.hq_token_only = only
            answers = backbone.decode(prepared, prompts, [0] * len(prompts), multimask=multi)
            backbone.hq_token_only = False
            for at, prompt in enumerate(kinds):
                key = f"{prompt}_{'multi' if multi else 'single'}_{'hqonly' if only else 'sum'}_{image}"
                assert relative(answers.mask_logits[at, :, ::3, ::3], run[f"low_sample_{key}"]) < 1e-4, key
                assert relative(answers.iou_scores[at], run[f"iou_{key}"]) < 1e-4, key
        if kind == "authors":
            predictor = predictor_of(segmenter)
            predictor.set_image(run[f"image_{image}"].numpy())
            logits = predictor.predict(box=run[f"box_{image}"].numpy()).mask_logits
            full = preprocessing.to_original_size(logits, size)
            assert relative(full, run[f"full_box_single_sum_{image}"]) < 1e-4


def decoder_inputs(backbone: SamHqBackbone, prompt: Prompt) -> tuple[dict[str, Any], Tensor]:
    """What the library's decoder takes, and our fused features."""
    side = backbone.image_size
    encoded = backbone.encode(torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)))
    inputs: dict[str, Any] = backbone.decoder_inputs(encoded[IMAGE_EMBEDDINGS], [prompt], None)
    inputs["intermediate_embeddings"] = [encoded[EARLY_FEATURES]]
    return inputs, backbone.prepare(encoded)[FUSED_FEATURES]


@pytest.mark.parametrize("prompt", [BOX, POINTS, Prompt()], ids=["box", "points", "none"])
@pytest.mark.parametrize("only", [False, True])
@torch.no_grad()
def test_it_is_the_librarys_decoder_with_the_right_image_tokens(backbone: SamHqBackbone, prompt: Prompt, only: bool):
    """With what its transformer gives put in place of what it upscales."""
    (inputs, fused), decoder = decoder_inputs(backbone, prompt), backbone._decoder
    tokens: list[Tensor] = []
    kept = decoder.transformer.register_forward_hook(lambda module, given, result: tokens.append(result[1]))

    def right(module: torch.nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        return (tokens[-1].transpose(2, 3).reshape(given[0].shape),)

    for best in (None, 1, 2, 3):  # of SAM's masks, the one of best quality
        if best is not None:
            decoder.iou_prediction_head.proj_out.bias[best] += 10 * best
        options: Any = {"multimask_output": best is not None, "hq_token_only": only}
        replaced = decoder.upscale_conv1.register_forward_pre_hook(right)
        theirs, scores = SamHQMaskDecoder.forward(decoder, **inputs, **options)
        replaced.remove()
        shared = {name: one for name, one in inputs.items() if name != "intermediate_embeddings"}
        found, own = decoder(**shared, **options, fused_features=fused)
        torch.testing.assert_close(found, theirs[:, :, :1], rtol=1e-4, atol=1e-5)  # theirs are sorted, the best first
        torch.testing.assert_close(own, scores[:, :, :1])
    kept.remove()


@torch.no_grad()
def test_the_library_is_still_wrong(backbone: SamHqBackbone):
    """If this fails, `SamHQMaskDecoder.forward` is cured: see `sam_hq_decoder.py`, and docs/upstream.md."""
    (inputs, fused), decoder = decoder_inputs(backbone, BOX), backbone._decoder
    theirs, _ = SamHQMaskDecoder.forward(decoder, **inputs, multimask_output=False, hq_token_only=False)
    shared = {name: one for name, one in inputs.items() if name != "intermediate_embeddings"}
    own, _ = decoder(**shared, multimask_output=False, hq_token_only=False, fused_features=fused)
    assert (own - theirs).norm() > 0.1 * own.norm()


@torch.no_grad()
def test_early_features_are_the_first_global_blocks(backbone: SamHqBackbone):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert [layer.window_size for layer in backbone.sam.vision_encoder.layers] == [3, 0, 0]
    theirs = backbone.sam.vision_encoder(pixels)
    found = backbone.encode(pixels)
    outputs = theirs.intermediate_embeddings
    assert len(outputs) == 2
    torch.testing.assert_close(found[EARLY_FEATURES], outputs[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[IMAGE_EMBEDDINGS], theirs.last_hidden_state, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_both_feature_maps_are_in_the_answer_and_both_masks(backbone: SamHqBackbone):
    encoded = backbone.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    wanted = backbone.decode(backbone.prepare(encoded), [BOX], [0]).mask_logits
    for name in encoded.tensors:
        other = replace(encoded, tensors={**encoded.tensors, name: encoded[name] + 1 + encoded[name].flip(1)})
        assert (backbone.decode(backbone.prepare(other), [BOX], [0]).mask_logits - wanted).abs().max() > 1e-3
    backbone.hq_token_only = True
    alone = backbone.decode(backbone.prepare(encoded), [BOX], [0]).mask_logits
    assert (alone - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["blocked", "folded"])
@torch.no_grad()
def test_our_attention_serves_its_blocks(backbone: SamHqBackbone, name: str, monkeypatch: pytest.MonkeyPatch):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    called = []
    form = ATTENTION[name]
    monkeypatch.setitem(ATTENTION, name, lambda *given: called.append(1) or form(*given))  # pyright: ignore[reportArgumentType]
    backbone.attention = "plain"
    wanted = backbone.encode(pixels)
    backbone.attention = name
    found = backbone.encode(pixels)
    assert len(called) == len(backbone.blocks)
    for key in wanted.tensors:
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-4, atol=1e-5)


def test_another_size_fits_the_patches(family_folders: dict[str, str]):
    larger = hq(family_folders["sam_hq"], image_size=96)
    assert larger.image_size == 96
    with torch.no_grad():
        encoded = larger.encode(torch.randn(1, 3, 96, 96))
        answer = larger.decode(larger.prepare(encoded), [BOX], [0])
    assert {name: tuple(one.shape[1:]) for name, one in encoded.tensors.items()} == larger.encoded_shapes
    assert answer.mask_logits.shape == (1, 1, 24, 24)
    with pytest.raises(ConfigError, match="multiple of the model's patch size 16, got 100; the nearest are 96 and 112"):
        hq(family_folders["sam_hq"], image_size=100)


@needs_shared(BASE)
def test_a_checkpoint_is_loaded_strictly(tmp_path: Path):
    state = load_file(BASE)
    for change, told in (
        ({"mask_decoder.hf_mlp.layers.1.weight": None}, r"'mask_decoder.hq_mask_mlp.layers.0.weight' is missing"),
        ({"mask_decoder.extra.weight": torch.zeros(1)}, r"'mask_decoder.extra.weight' is not part of SAM-HQ"),
        ({"mask_decoder.hf_token.weight": torch.zeros(2, 64)}, r"'mask_decoder.hq_token.weight' has shape \(2, 64\)"),
    ):
        held = {name: one for name, one in {**state, **change}.items() if one is not None}
        save_file(held, tmp_path / "sam_hq.safetensors")
        with pytest.raises(CheckpointError, match=told):
            load_backbone(str(tmp_path / "sam_hq.safetensors"))
    torch.save(state, tmp_path / "sam_hq.pth")
    assert load_backbone(str(tmp_path / "sam_hq.pth")).identity.sha256 == load_backbone(str(BASE)).identity.sha256


def test_a_folder_without_the_hq_tensors_is_refused(tmp_path: Path):
    random_sam_hq().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["mask_decoder.hq_token.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"tensors that do not fit: mask_decoder.hq_token.weight"):
        load_backbone(str(tmp_path))
