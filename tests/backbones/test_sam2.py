"""SAM 2 beside what every family keeps to: sizes, answers, recomputed blocks, pictures of a batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_sam import SavedBytes, several

from sam_adapter.backbones import load_backbone
from sam_adapter.backbones.sam2 import Sam2Backbone
from sam_adapter.batch import Prompt
from sam_adapter.errors import ConfigError
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
    assert batch.pixel_values is not None
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
            modes = {module: module.training for module in segmenter.train().modules()}
            again = segmenter.train(False)(batch)
            for module, mode in modes.items():  # as Lightning does it after validation
                module.training = mode
            trained = segmenter(batch)
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


def test_positions_are_encoded_in_full_precision(folder: str):
    """Under autocast, as on a GPU; the decoder itself rounds."""
    backbone = load_backbone(folder, image_size=512)
    seen: list[torch.Tensor] = []
    backbone.part("mask_decoder").register_forward_pre_hook(
        lambda _, __, given: seen.extend(
            given[name] for name in ("sparse_prompt_embeddings", "dense_prompt_embeddings")
        ),
        with_kwargs=True,
    )
    asked = replace(BOX, box=torch.tensor([101.0, 203, 405, 407]), mask_input=torch.randn(1, 128, 128))
    with torch.no_grad():
        prepared = backbone.prepare(backbone.encode(torch.randn(1, 3, 512, 512)))
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                backbone.decode_together(prepared, [asked], None, multimask=False)
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])


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
