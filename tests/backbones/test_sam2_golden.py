"""SAM 2 gives what its authors' image predictor gives, from their file and from a folder of `transformers`."""

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import GOLDEN, needs_shared
from sam_adapter.backbones import Backbone, load_backbone
from sam_adapter.backbones.decoder_with_levels import PROJECTED
from sam_adapter.backbones.sam2 import Sam2Backbone
from sam_adapter.batch import EncodedImage, Prompt
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import CheckpointError
from sam_adapter.methods.sam_adapter.hiera import HieraAdapter
from sam_adapter.prediction.predictor import Predictor
from sam_adapter.segmenter import SamSegmenter

pytestmark = needs_shared(GOLDEN / "sam2_predictor.safetensors")

LIMIT = 1e-4
MODES = ("single", "multi", "dynamic")


@cache
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "sam2_predictor.safetensors")


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file with Meta's names beside its settings, and a folder that was saved from it."""
    folder = tmp_path_factory.mktemp("sam2")
    torch.save({"model": load_file(GOLDEN / "sam2_meta_keys.safetensors")}, folder / "random.pt")
    shutil.copy(GOLDEN / "sam2.json", folder / "random.json")
    cast("Sam2Backbone", load_backbone(str(folder / "random.pt"))).sam.save_pretrained(folder / "hf")
    return {"meta": str(folder / "random.pt"), "hf": str(folder / "hf")}


@pytest.fixture(scope="module", params=[("meta", 0), ("hf", 1)], ids=["meta-0", "hf-1"])
def case(request: pytest.FixtureRequest, files: dict[str, str]) -> tuple[SamSegmenter, int]:
    """A model, to which an adapter that adds nothing was given, and a picture."""
    model, picture = request.param
    options = {"adapter_init": "zero", "images": Path("i"), "masks": Path("m"), "output": Path("o")}
    return SamSegmenter.from_config(TrainConfig(model=files[model], **options)), picture


@pytest.fixture
def backbone(case: tuple[SamSegmenter, int]) -> Backbone:
    return case[0].backbone


@pytest.fixture
def picture(case: tuple[SamSegmenter, int]) -> int:
    return case[1]


@pytest.fixture(scope="module")
@torch.no_grad()
def encoded(case: tuple[SamSegmenter, int]) -> EncodedImage:
    segmenter, picture = case
    pixels = segmenter.preprocessing.pixel_values(golden()[f"image_{picture}"].numpy())
    assert relative(pixels[:, ::37, ::41], golden()[f"pixel_values_sample_{picture}"]) < 1e-6
    assert isinstance(segmenter.adapter, HieraAdapter)
    return segmenter.backbone.prepare(segmenter.encode(pixels[None]))


def prompts(picture: int) -> dict[str, Prompt]:
    """In pixels of the picture."""
    box, points, labels = (golden()[f"{name}_{picture}"] for name in ("box", "points", "labels"))
    point = Prompt(points=points[:1], point_labels=labels[:1])
    return {
        "box": Prompt(box=box),
        "point": point,
        "points": Prompt(points=points, point_labels=labels),
        "box_point": replace(point, box=box),
        "none": Prompt(),
    }


def size_of(picture: int) -> tuple[int, int]:
    height, width, _ = golden()[f"image_{picture}"].shape
    return height, width


def test_the_encoder_gives_what_the_authors_does(encoded: EncodedImage, picture: int):
    embedding = encoded["image_embeddings"][0, :, ::3, ::3]
    assert relative(embedding, golden()[f"image_embed_sample_{picture}"]) < 1e-5
    for level, name in enumerate(PROJECTED):
        assert relative(encoded[name][0, :, ::7, ::5], golden()[f"high_res_{level}_sample_{picture}"]) < 1e-5


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_every_prompt_has_the_authors_answer(backbone: Backbone, encoded: EncodedImage, picture: int, mode: str):
    backbone.falls_back = mode == "dynamic"
    preprocessing, size = backbone.preprocessing, size_of(picture)
    for name, prompt in prompts(picture).items():
        if f"iou_{name}_{mode}_{picture}" not in golden():
            continue
        asked = preprocessing.prompt_to_input(prompt, size)
        found = backbone.decode(encoded, [asked], [0], multimask=mode == "multi")
        low = found.mask_logits[0].clamp(-32, 32)
        assert relative(low[:, ::3, ::3], golden()[f"low_sample_{name}_{mode}_{picture}"]) < LIMIT, name
        torch.testing.assert_close(
            found.iou_scores[0], golden()[f"iou_{name}_{mode}_{picture}"], rtol=LIMIT, atol=1e-5, msg=name
        )
        if name == "none":
            scores = golden()[f"object_score_none_{picture}"]
            torch.testing.assert_close(found.object_scores, scores, rtol=LIMIT, atol=1e-5)
        if (name, mode) == ("box", "single"):
            full = preprocessing.to_original_size(found.mask_logits[0], size)
            assert relative(full, golden()[f"full_box_single_{picture}"]) < LIMIT
            again = backbone.decode(encoded, [replace(asked, mask_input=found.mask_logits[0])], [0])
            wanted = golden()[f"low_sample_mask_box_single_{picture}"]
            assert relative(again.mask_logits[0].clamp(-32, 32)[:, ::3, ::3], wanted) < LIMIT


@pytest.mark.parametrize("which", [0, 1])
def test_the_fall_back_matters_in_one_picture(which: int):
    """Else the test above could not tell it from a single mask."""
    single, dynamic = (golden()[f"low_sample_box_{mode}_{which}"] for mode in ("single", "dynamic"))
    assert torch.equal(single, dynamic) == (which == 0)


def test_a_file_and_a_folder_are_the_same_base(files: dict[str, str]):
    assert load_backbone(files["meta"]).identity.sha256 == load_backbone(files["hf"]).identity.sha256


def test_the_predictor_falls_back_as_the_authors(files: dict[str, str]):
    """With their preprocessing and way back to original size, and without any setting."""
    predictor = Predictor(SamSegmenter.frozen(files["meta"]), device="cpu", precision="32")
    predictor.set_image(golden()["image_1"].numpy())
    answer = predictor.predict(box=golden()["box_1"].numpy())
    assert isinstance(answer.mask_logits, Tensor)
    assert relative(answer.mask_logits.clamp(-32, 32)[:, ::3, ::3], golden()["low_sample_box_dynamic_1"]) < LIMIT


def test_sizes_of_no_known_model_need_a_description(files: dict[str, str], tmp_path: Path):
    alone = shutil.copy(files["meta"], tmp_path / "alone.pt")
    with pytest.raises(CheckpointError, match=r"alone\.pt: .*width 16 with 1-2-3-1 blocks .*Put a file 'alone\.yaml'"):
        load_backbone(str(alone))
    (tmp_path / "alone.yaml").write_text("global_att_blocks: 4\nnum_heads: [1]\n")
    with pytest.raises(CheckpointError, match=r"alone\.yaml: expected the settings of a SAM 2.*global_att_blocks"):
        load_backbone(str(alone))
    trunk = "num_heads: 2, global_att_blocks: [4, 5]"
    (tmp_path / "alone.yaml").write_text(f"model:\n  image_encoder:\n    trunk: {{{trunk}}}\n")
    assert load_backbone(str(alone)).identity.sha256 == load_backbone(files["meta"]).identity.sha256
