"""SAM 3: its authors' numbers, its files, the no-memory embedding, and the adapter on its encoder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Sam3TrackerModel

from conftest import GOLDEN, needs_shared, random_sam3
from golden_cases import fill
from golden_predictors import asked, kinds_in, relative, size_of, tensors
from sam_adapter.backbones import download, load_backbone
from sam_adapter.backbones.decoder_with_levels import FINER, IMAGE_EMBEDDINGS, PROJECTED
from sam_adapter.backbones.sam3 import Sam3Backbone
from sam_adapter.batch import Prompt
from sam_adapter.errors import CheckpointError, ConfigError
from sam_adapter.preprocessing import Preprocessing
from sam_adapter.segmenter import SamSegmenter
from sam_adapter.system.machine import Machine
from test_model import config, example_batch

BASE, SETTINGS = GOLDEN / "sam3_tracker_meta_keys.safetensors", GOLDEN / "sam3_tracker.json"
BOX = Prompt(box=torch.tensor([10.0, 12, 40, 44]))
MODES = ("single", "multi", "dynamic")


def sam3(model: str, **options: Any) -> Sam3Backbone:
    loaded = load_backbone(model, **options)
    assert isinstance(loaded, Sam3Backbone)
    return loaded


@pytest.fixture
def backbone(family_folders: dict[str, str]) -> Sam3Backbone:
    """With weights of a size that lets every part matter."""
    loaded = sam3(family_folders["sam3"])
    fill(loaded, "contract")
    return loaded


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SamSegmenter]:
    """The golden base: from its authors' names, from a folder saved from these, and with an adapter that adds zero."""
    authors = SamSegmenter.frozen(str(BASE))
    folder = tmp_path_factory.mktemp("golden")
    assert isinstance(authors.backbone, Sam3Backbone)
    authors.backbone.sam.save_pretrained(folder)
    adapted = SamSegmenter.from_config(config(str(BASE), adapter_init="zero", embedding_read="every_block"))
    return {"authors": authors, "folder": SamSegmenter.frozen(str(folder)), "adapter": adapted}


@needs_shared(BASE)
@pytest.mark.parametrize("kind", ["authors", "folder", "adapter"])
@torch.no_grad()
def test_its_authors_predictor(models: dict[str, SamSegmenter], kind: str):
    run, segmenter = tensors("sam3_tracker_predictor"), models[kind]
    backbone, preprocessing = segmenter.backbone, segmenter.preprocessing
    assert backbone.identity.sha256 == models["authors"].backbone.identity.sha256
    assert isinstance(backbone, Sam3Backbone)
    kinds = list(kinds_in(run))
    assert len(kinds) == 4
    for image in (0, 1) if kind == "authors" else (1,):
        pixels = preprocessing.pixel_values(run[f"image_{image}"].numpy())
        assert relative(pixels[:, ::37, ::41], run[f"pixel_values_sample_{image}"]) < 1e-6
        encoded = segmenter.encode(pixels[None])
        embedding = encoded[IMAGE_EMBEDDINGS][0, :, ::3, ::3]
        assert relative(embedding, run[f"image_embed_sample_{image}"]) < 5e-6
        without = embedding - backbone.sam.no_memory_embedding.reshape(-1, 1, 1)
        assert relative(without, run[f"fpn_2_sample_{image}"]) < 5e-6
        prepared = backbone.prepare(encoded)
        for level, name in enumerate(PROJECTED):
            wanted = run[f"high_res_{level}_sample_{image}"]
            assert relative(prepared[name][0, :, ::7, ::5], wanted) < 5e-6
        size = size_of(run, image)
        prompts = [preprocessing.prompt_to_input(asked(run, one, image), size) for one in kinds]
        for mode in MODES:
            backbone.falls_back = mode == "dynamic"
            answers = backbone.decode(prepared, prompts, [0] * len(prompts), multimask=mode == "multi")
            backbone.falls_back = True
            assert answers.object_scores is not None
            for at, prompt in enumerate(kinds):
                key = f"{prompt}_{mode}_{image}"
                logits = answers.mask_logits[at, :, ::3, ::3].clamp(-32, 32)
                assert relative(logits, run[f"low_sample_{key}"]) < 2e-5, key
                assert relative(answers.iou_scores[at], run[f"iou_{key}"]) < 1e-4, key
                wanted = run[f"object_score_{prompt}_{image}"]
                torch.testing.assert_close(answers.object_scores[at : at + 1], wanted, rtol=1e-4, atol=1e-5)


@needs_shared(BASE)
def test_the_fall_back_matters_there():
    """Else the test above could not tell it from a single mask."""
    run = tensors("sam3_tracker_predictor")
    assert any(
        not torch.equal(run[f"low_sample_{kind}_single_{image}"], run[f"low_sample_{kind}_dynamic_{image}"])
        for kind in kinds_in(run)
        for image in (0, 1)
    )


@torch.no_grad()
def test_in_training_nothing_falls_back(family_folders: dict[str, str]):
    segmenter, answers = SamSegmenter.from_config(config(family_folders["sam3"])), {}
    assert isinstance(segmenter.backbone, Sam3Backbone)
    decoder, batch = segmenter.backbone.sam.mask_decoder, example_batch([BOX, BOX])
    for threshold in (0.0, 2.0):  # every mask is stable, or none
        decoder.dynamic_multimask_stability_thresh = threshold
        for training in (True, False):
            answers[training, threshold] = segmenter.train(training)(batch).mask_logits
    assert torch.equal(answers[True, 0.0], answers[True, 2.0])
    assert torch.equal(answers[True, 0.0], answers[False, 0.0])
    assert not torch.equal(answers[False, 0.0], answers[False, 2.0])


@torch.no_grad()
def test_an_unstable_mask_gives_way_to_the_best_of_three(backbone: Sam3Backbone):
    prepared = backbone.prepare(backbone.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))))
    three = backbone.decode(prepared, [BOX], [0], multimask=True)
    best = three.iou_scores[0].argmax()
    for threshold, wanted in ((2.0, three.mask_logits[:, best]), (0.0, None)):
        backbone.sam.mask_decoder.dynamic_multimask_stability_thresh = threshold
        backbone.falls_back = True
        found = backbone.decode(prepared, [BOX], [0]).mask_logits[:, 0]
        backbone.falls_back = False
        single = backbone.decode(prepared, [BOX], [0]).mask_logits[:, 0]
        assert torch.equal(found, single if wanted is None else wanted)
        assert not torch.equal(single, three.mask_logits[:, best])


@torch.no_grad()
def test_the_library_still_loses_the_no_memory_embedding(backbone: Sam3Backbone):
    """If this fails, `Sam3TrackerModel` is cured: see `Sam3Backbone._without_memory`, and docs/upstream.md."""
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sam = backbone.sam
    theirs = sam.get_image_embeddings(pixels)[-1]
    ours = backbone.encode(pixels)[IMAGE_EMBEDDINGS]
    embedding = sam.no_memory_embedding.reshape(1, -1, 1, 1)
    assert embedding.abs().max() > 0.1
    torch.testing.assert_close(theirs + embedding, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multimask", [False, True])
@torch.no_grad()
def test_answers_are_the_librarys_of_the_same_features(backbone: Sam3Backbone, multimask: bool):
    prepared = backbone.prepare(backbone.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))))
    features = [prepared[name] for name in (*PROJECTED, IMAGE_EMBEDDINGS)]
    points, labels = torch.tensor([[20.0, 20], [5, 5]]), torch.tensor([1, 0])
    assert BOX.box is not None
    mask = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1))
    given: list[tuple[Prompt, dict[str, Tensor]]] = [
        (Prompt(), {}),
        (BOX, {"input_boxes": BOX.box[None, None]}),
        (
            Prompt(points=points, point_labels=labels),
            {"input_points": points[None, None], "input_labels": labels[None, None]},
        ),
        (Prompt(box=BOX.box, mask_input=mask), {"input_boxes": BOX.box[None, None], "input_masks": mask[None]}),
    ]
    for prompt, theirs in given:
        found = backbone.decode(prepared, [prompt], [0], multimask=multimask)
        wanted = backbone.sam(image_embeddings=features, multimask_output=multimask, **theirs)
        torch.testing.assert_close(found.mask_logits, wanted.pred_masks[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.iou_scores, wanted.iou_scores[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.object_scores, wanted.object_score_logits[0, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_finer_levels_are_in_the_answer(backbone: Sam3Backbone):
    encoded = backbone.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    wanted = backbone.decode(backbone.prepare(encoded), [BOX], [0]).mask_logits
    for name in (IMAGE_EMBEDDINGS, *FINER):
        other = type(encoded)({**encoded.tensors, name: encoded[name] + encoded[name].flip(1)})
        assert (backbone.decode(backbone.prepare(other), [BOX], [0]).mask_logits - wanted).abs().max() > 1e-3


def test_its_preprocessing(family_folders: dict[str, str]):
    half = (127.5, 127.5, 127.5)
    wanted = Preprocessing(
        image_size=64, resize="squash", mean=half, std=half, interpolation="float32", restore="direct"
    )
    assert SamSegmenter.frozen(family_folders["sam3"]).preprocessing == wanted
    assert SamSegmenter.from_config(config(family_folders["sam3"])).preprocessing == wanted


@pytest.fixture(scope="module")
def patches_of_14(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("fourteen")
    random_sam3(56, patch_size=14).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("size", [None, 70, 84, 42])
def test_any_size_that_fits_the_patches(patches_of_14: str, size: int | None):
    segmenter = SamSegmenter.from_config(config(patches_of_14, image_size=size))
    backbone, side = segmenter.backbone, size or 56
    assert (backbone.image_size, backbone.mask_input_size) == (side, 4 * side // 14)
    with torch.no_grad():
        encoded = segmenter.encode(torch.randn(1, 3, side, side))
        prepared = backbone.prepare(encoded)
        answer = backbone.decode(prepared, [BOX], [0])
    assert {name: tuple(one.shape[1:]) for name, one in encoded.tensors.items()} == backbone.encoded_shapes
    assert answer.mask_logits.shape == (1, 1, 4 * side // 14, 4 * side // 14)
    assert backbone.identity.sha256 == load_backbone(patches_of_14).identity.sha256


def test_another_size_gives_what_the_library_gives(patches_of_14: str):
    pixels = torch.randn(1, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    theirs = Sam3TrackerModel.from_pretrained(patches_of_14)
    settings: Any = theirs.config
    settings.vision_config.backbone_config.image_size = settings.prompt_encoder_config.image_size = 70
    larger: Any = Sam3TrackerModel(settings)
    larger.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        levels = larger.vision_encoder.eval()(pixels).fpn_hidden_states
        found = sam3(patches_of_14, image_size=70).encode(pixels)
    embedding = levels[2] + larger.no_memory_embedding.reshape(1, -1, 1, 1)
    for ours, wanted in zip((IMAGE_EMBEDDINGS, *FINER), (embedding, levels[0], levels[1]), strict=True):
        torch.testing.assert_close(found[ours], wanted, rtol=1e-4, atol=1e-5)


def test_a_size_that_does_not_fit_is_answered_with_the_nearest(patches_of_14: str):
    with pytest.raises(ConfigError, match="multiple of the model's patch size 14, got 64; the nearest are 56 and 70"):
        load_backbone(patches_of_14, image_size=64)


def meta_files(folder: Path, change: dict[str, Tensor | None], *, prefix: bool = True) -> str:
    """The golden base as Meta's own file has it, with a detector and a memory beside it, and some tensors changed."""
    state: dict[str, Tensor | None] = dict(load_file(BASE))
    if prefix:
        state = {f"{'detector' if 'backbone' in name else 'tracker'}.{name}": one for name, one in state.items()}
        for extra in ("detector.transformer.decoder.norm.weight", "tracker.maskmem_backbone.out_proj.weight"):
            state[extra] = torch.zeros(3)
    held = {name: one for name, one in {**state, **change}.items() if one is not None}
    torch.save({"model": held}, folder / "sam3.pt")
    (folder / "sam3.yaml").write_text(yaml.safe_dump(json.loads(SETTINGS.read_text())))
    return str(folder / "sam3.pt")


@needs_shared(BASE)
def test_the_detector_and_the_memory_are_left_out(models: dict[str, SamSegmenter], tmp_path: Path):
    wanted = models["authors"].backbone.identity.sha256
    assert load_backbone(meta_files(tmp_path, {})).identity.sha256 == wanted


@needs_shared(BASE)
def test_sam_3_1_has_parts_of_its_own_for_images(models: dict[str, SamSegmenter], tmp_path: Path):
    """Its names; where the names end the shapes decide."""
    renamed = {}
    for name, tensor in load_file(BASE).items():
        if ".convs." in name or ".sam2_convs.3" in name:
            continue
        own = name.replace("sam2_convs", "interactive_convs").replace("no_mem_embed", "interactivity_no_mem_embed")
        own = own.replace("sam_prompt_encoder", "interactive_sam_prompt_encoder")
        own = own.replace("sam_mask_decoder", "interactive_sam_mask_decoder")
        renamed[f"detector.{own}" if "backbone" in own else f"tracker.model.{own}"] = tensor
    renamed["tracker.model.sam_mask_decoder.iou_token.weight"] = torch.zeros(16, 32)
    renamed["detector.backbone.vision_backbone.propagation_convs.0.conv_1x1.weight"] = torch.zeros(2)
    torch.save(renamed, tmp_path / "sam3.1.pt")
    (tmp_path / "sam3.1.json").write_text(SETTINGS.read_text())
    found, wanted = sam3(str(tmp_path / "sam3.1.pt")), models["authors"].backbone
    assert isinstance(wanted, Sam3Backbone)
    own = found.sam.state_dict()
    assert all(torch.equal(own[name], one) for name, one in wanted.sam.state_dict().items() if name in own)
    assert len(wanted.sam.state_dict()) - len(own) == 4  # the neck's level that nothing reads


@needs_shared(BASE)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"tracker.sam_mask_decoder.conv_s0.bias": None},
            r"sam3.pt: 1 tensors do not fit a SAM 3 of this size: 'mask_decoder.conv_s0.bias' is missing",
        ),
        (
            {"tracker.sam_mask_decoder.added.weight": torch.zeros(1)},
            r"sam3.pt: .*'mask_decoder.added.weight' is not part of SAM 3",
        ),
        (
            {"tracker.no_mem_embed": None},
            r"sam3.pt: it has no tensors named 'interactivity_no_mem_embed' or 'no_mem_embed'",
        ),
    ],
)
def test_what_differs_is_named(tmp_path: Path, change: dict[str, Tensor | None], told: str):
    with pytest.raises(CheckpointError, match=told):
        load_backbone(meta_files(tmp_path, change))


@needs_shared(BASE)
def test_a_model_of_unknown_heads_is_refused_with_what_to_do(tmp_path: Path):
    save_file(load_file(BASE), tmp_path / "own.safetensors")
    with pytest.raises(
        CheckpointError, match=r"own.safetensors: a trunk of width 64 with 4 blocks is not Meta's SAM 3"
    ):
        load_backbone(str(tmp_path / "own.safetensors"))
    (tmp_path / "own.yaml").write_text("global_att_blocks: [1, 3]\nnum_heads: many\n")
    with pytest.raises(CheckpointError, match=r"own.yaml: expected the settings of a SAM 3"):
        load_backbone(str(tmp_path / "own.safetensors"))


def test_the_folder_of_a_video_model_gives_its_image_model(family_folders: dict[str, str], tmp_path: Path):
    """Meta's folder on the hub is of this kind: the detector's trunk, the tracker's neck and its decoder."""
    own = Path(family_folders["sam3"])
    settings = json.loads((own / "config.json").read_text())
    video = {"model_type": "sam3_video", "tracker_config": {**settings, "model_type": "sam3_tracker_video"}}
    (tmp_path / "config.json").write_text(json.dumps(video))
    renamed = {"detector_model.mask_decoder.weight": torch.zeros(2), "tracker_model.memory_encoder.w": torch.zeros(2)}
    for name, tensor in load_file(own / "model.safetensors").items():
        name = name.removeprefix("tracker_model.")  # the library saves with it, before the others too
        shared = name.startswith(("detector_model.vision_encoder.backbone.", "tracker_neck."))
        renamed[name if shared else f"tracker_model.{name}"] = tensor
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(str(tmp_path)).identity.sha256 == load_backbone(str(own)).identity.sha256


@torch.no_grad()
def test_learned_questions_do_not_fall_back(backbone: Sam3Backbone):
    backbone.sam.mask_decoder.dynamic_multimask_stability_thresh = 1.1
    prepared = backbone.prepare(backbone.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))))
    tokens, found = torch.randn(1, 2, 32), []
    for backbone.falls_back in (True, False):
        found.append([backbone.decode(prepared, [BOX], [0], sparse_tokens=own) for own in (tokens, None)])
    assert torch.equal(found[0][0].mask_logits, found[1][0].mask_logits)
    assert not torch.equal(found[0][1].mask_logits, found[1][1].mask_logits)


def test_a_form_of_attention_is_refused(family_folders: dict[str, str]):
    machine = Machine.choose(accelerator="cpu", precision="32", attention="blocked")
    with pytest.raises(ConfigError, match=r"family sam3 has no position biases .*; leave '--attention blocked' out"):
        SamSegmenter.frozen(family_folders["sam3"]).suited_to(machine)


def test_a_gated_model_is_answered_with_what_to_do(monkeypatch: pytest.MonkeyPatch):
    """Its files are not fetched for those who have not agreed to the licence."""
    asked_for = []

    class Refused(GatedRepoError):
        def __init__(self) -> None:
            Exception.__init__(self, "403")

    def refused(repository: str, *, local_files_only: bool = False, **_: Any) -> str:
        asked_for.append((repository, local_files_only))
        if local_files_only:
            raise FileNotFoundError
        raise Refused

    monkeypatch.setattr(download, "snapshot_download", refused)
    monkeypatch.setattr(download.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    with pytest.raises(CheckpointError, match=r"facebook/sam3 .* agreed to its licence.*hf auth login"):
        load_backbone("sam3")
    assert asked_for == [("facebook/sam3", True), ("facebook/sam3", False)]
