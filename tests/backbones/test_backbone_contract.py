"""What every family of base models keeps to: encoding with block prompts, and answers to any mixture of queries."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conftest import PROMPT_TOKENS, RANDOM_MODELS
from golden_cases import fill
from sam_adapter.backbones import Backbone, base, load_backbone
from sam_adapter.backbones.families import FAMILIES
from sam_adapter.batch import EncodedImage, Output, Prompt
from sam_adapter.config.registry import Part
from sam_adapter.system.machine import FUSED, Machine

PARTS: tuple[Part, ...] = ("image_encoder", "prompt_encoder", "mask_decoder")
BOX = Prompt(box=torch.tensor([10.0, 12, 40, 44]))
OTHER_BOX = Prompt(box=torch.tensor([2.0, 3, 25, 30]))
POINT = Prompt(points=torch.tensor([[20.0, 20]]), point_labels=torch.tensor([1]))
POINTS = Prompt(points=torch.tensor([[20.0, 20], [5, 5]]), point_labels=torch.tensor([1, 0]))
BOTH = replace(POINTS, box=OTHER_BOX.box)
NOTHING = Prompt()


@pytest.fixture(params=sorted(FAMILIES))
def backbone(request: pytest.FixtureRequest, family_folders: dict[str, str]) -> Backbone:
    """With weights of a size that lets every part of a prompt matter."""
    loaded = load_backbone(family_folders[request.param])
    fill(loaded, "contract")
    return loaded


def pixels(images: int, backbone: Backbone) -> Tensor:
    side = backbone.image_size
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def prepared_for(backbone: Backbone, images: int = 3) -> EncodedImage:
    return backbone.prepare(backbone.encode(pixels(images, backbone)))


def mixture(backbone: Backbone) -> tuple[list[Prompt], list[int]]:
    """Prompts of every structure about three images, in no order; some twice, some about two images."""
    side = backbone.mask_input_size
    mask, other = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(1))
    masked, other_masked = replace(BOX, mask_input=mask), replace(BOX, mask_input=other)
    prompts = [BOX, NOTHING, POINTS, OTHER_BOX, masked, POINT, BOX, other_masked, NOTHING, BOTH, POINTS, BOX, POINT]
    return prompts, [2, 0, 1, 0, 2, 1, 2, 0, 1, 1, 0, 1, 0]


def tokens_for(prepared: EncodedImage, count: int, each: int = 2) -> Tensor:
    """Random sparse tokens ``(count, each, D)`` of the size of a prompt's."""
    width = next(iter(prepared.tensors.values())).shape[1]
    return torch.randn(count, each, width, generator=torch.Generator().manual_seed(2))


def assert_same(found: Output, wanted: Output) -> None:
    torch.testing.assert_close(found.mask_logits, wanted.mask_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.iou_scores, wanted.iou_scores, rtol=1e-4, atol=1e-5)
    assert (found.object_scores is None) == (wanted.object_scores is None)
    if found.object_scores is not None and wanted.object_scores is not None:
        torch.testing.assert_close(found.object_scores, wanted.object_scores, rtol=1e-4, atol=1e-5)


def rows(output: Output, which: list[int]) -> Output:
    return Output(*(None if one is None else one[which] for one in output))  # pyright: ignore[reportArgumentType]


def one_by_one(
    backbone: Backbone,
    prepared: EncodedImage,
    prompts: list[Prompt],
    image_index: list[int],
    tokens: Tensor | None = None,
    *,
    multimask: bool = False,
) -> Output:
    """Each query alone, with a copy of its image alone."""
    answers = [
        backbone.decode(
            prepared.with_each(lambda tensor, image=image: tensor[image : image + 1]),
            [prompt],
            [0],
            sparse_tokens=None if tokens is None else tokens[at : at + 1],
            multimask=multimask,
        )
        for at, (prompt, image) in enumerate(zip(prompts, image_index, strict=True))
    ]
    parts = [None if column[0] is None else torch.cat(column) for column in zip(*answers, strict=True)]
    return Output(*parts)  # pyright: ignore[reportArgumentType]


def test_every_family_has_a_small_random_model():
    assert RANDOM_MODELS.keys() == PROMPT_TOKENS.keys() == FAMILIES.keys()


def test_it_says_what_it_is_made_of(backbone: Backbone):
    assert FAMILIES[backbone.family].name == backbone.family
    assert backbone.image_size % backbone.patch_size == 0
    assert backbone.blocks
    names = dict(backbone.named_parameters())
    for beginning in (*backbone.untrained, *backbone.constants):
        assert any(name.startswith(beginning) for name in names), beginning
    in_parts = {id(one) for part in PARTS for one in backbone.part(part).parameters()}
    for name, parameter in names.items():
        assert id(parameter) in in_parts or name.startswith(backbone.constants), name


def test_an_encoded_image_has_the_shapes_that_it_says(backbone: Backbone):
    with torch.no_grad():
        encoded = backbone.encode(pixels(2, backbone))
    assert {name: tuple(one.shape) for name, one in encoded.tensors.items()} == {
        name: (2, *shape) for name, shape in backbone.encoded_shapes.items()
    }
    assert len(encoded) == 2
    prepared = backbone.prepare(encoded)
    assert {name: tuple(one.shape[1:]) for name, one in prepared.tensors.items()} == backbone.prepared_shapes
    assert backbone.prepare(prepared) is prepared
    assert (not backbone.preparing) or FAMILIES[backbone.family].prepares


class Recorder:
    """Block prompts that note what they are given, and add something to one place of it, or nothing."""

    def __init__(self, place: int | None = None) -> None:
        self.place = place
        self.calls: list[tuple[str | int, tuple[int, ...]]] = []

    def start(self, patch_embedding: Tensor, positioned: Tensor) -> None:
        assert patch_embedding.shape == positioned.shape
        self.calls.append(("start", tuple(positioned.shape)))

    def before_block(self, block: int, hidden_states: Tensor) -> Tensor:
        self.calls.append((block, tuple(hidden_states.shape)))
        return hidden_states + self._ramp(hidden_states) if block == self.place else hidden_states

    def before_neck(self, hidden_states: Tensor) -> Tensor:
        self.calls.append(("neck", tuple(hidden_states.shape)))
        return hidden_states + self._ramp(hidden_states) if self.place == -1 else hidden_states

    def _ramp(self, hidden_states: Tensor) -> Tensor:
        """Not the same for all channels: a block without a residual path takes the norm of its input."""
        return torch.linspace(0, 1, hidden_states.shape[-1])


def test_block_prompts_see_every_block_once_and_in_order(backbone: Backbone):
    recorder, images = Recorder(), pixels(2, backbone)
    with torch.no_grad():
        found, wanted = backbone.encode(images, recorder), backbone.encode(images)
    assert [call for call, _ in recorder.calls] == ["start", *range(len(backbone.blocks)), "neck"]
    for call, shape in recorder.calls:
        assert (len(shape), shape[0]) == (4, 2)
        if isinstance(call, int):
            assert shape[-1] == backbone.blocks[call].width
    for name in wanted.tensors:
        assert torch.equal(found[name], wanted[name])


def test_what_block_prompts_add_is_in_the_image(backbone: Backbone):
    images = pixels(1, backbone)
    with torch.no_grad():
        wanted = backbone.encode(images)
        for place in (*range(len(backbone.blocks)), -1):
            found = backbone.encode(images, Recorder(place))
            assert any((found[name] - wanted[name]).abs().max() > 1e-3 for name in wanted.tensors), place


@pytest.mark.parametrize("multimask", [False, True])
@torch.no_grad()
def test_a_mixture_of_prompts_is_answered_as_one_by_one(backbone: Backbone, multimask: bool):
    prepared, (prompts, image_index) = prepared_for(backbone), mixture(backbone)
    found = backbone.decode(prepared, prompts, image_index, multimask=multimask)
    masks = backbone.multimask_outputs if multimask else 1
    assert found.mask_logits.shape[:2] == found.iou_scores.shape == (len(prompts), masks)
    assert_same(found, one_by_one(backbone, prepared, prompts, image_index, multimask=multimask))
    # Another prompt or another image is another answer, so that a mixed-up order would be seen.
    asked = list(zip(map(id, prompts), image_index, strict=True))
    for at, one in enumerate(asked):
        for other in range(at):
            near = torch.allclose(found.mask_logits[at], found.mask_logits[other], rtol=1e-3, atol=1e-4)
            assert near == (one == asked[other])


@torch.no_grad()
def test_the_order_of_queries_does_not_matter(backbone: Backbone):
    prepared, (prompts, image_index) = prepared_for(backbone), mixture(backbone)
    tokens = tokens_for(prepared, len(prompts))
    wanted = backbone.decode(prepared, prompts, image_index, sparse_tokens=tokens)
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(3)).tolist()
    found = backbone.decode(
        prepared, [prompts[at] for at in order], [image_index[at] for at in order], sparse_tokens=tokens[order]
    )
    assert_same(found, rows(wanted, order))


@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
@torch.no_grad()
def test_chunks_change_nothing(backbone: Backbone, at_once: int, monkeypatch: pytest.MonkeyPatch):
    prepared, (prompts, image_index) = prepared_for(backbone), mixture(backbone)
    prompts, image_index = prompts + [BOX] * 4, [*image_index, 0, 1, 2, 0]  # more of one kind than go together
    tokens = tokens_for(prepared, len(prompts))
    wanted = backbone.decode(prepared, prompts, image_index, sparse_tokens=tokens)
    together: list[int] = []
    decode_together = backbone.decode_together

    def counted(chunk: EncodedImage, asked: list[Prompt], some: Tensor | None, *, multimask: bool) -> Output:
        assert some is not None
        assert len(chunk) == len(asked) == len(some)
        together.append(len(asked))
        return decode_together(chunk, asked, some, multimask=multimask)

    monkeypatch.setattr(backbone, "decode_together", counted)
    monkeypatch.setattr(base, "QUERIES_AT_ONCE", at_once)
    assert_same(backbone.decode(prepared, prompts, image_index, sparse_tokens=tokens), wanted)
    assert max(together) == at_once
    assert sum(together) == len(prompts)


@torch.no_grad()
def test_sparse_tokens_belong_to_their_query(backbone: Backbone):
    prepared, (prompts, image_index) = prepared_for(backbone), mixture(backbone)
    tokens = tokens_for(prepared, len(prompts))
    found = backbone.decode(prepared, prompts, image_index, sparse_tokens=tokens)
    assert_same(found, one_by_one(backbone, prepared, prompts, image_index, tokens))
    without = backbone.decode(prepared, prompts, image_index)
    assert ((found.mask_logits - without.mask_logits).abs().flatten(1).amax(1) > 1e-2).all()
    changed = tokens.clone()
    changed[4] += 1
    other = backbone.decode(prepared, prompts, image_index, sparse_tokens=changed)
    differs = (found.mask_logits - other.mask_logits).abs().flatten(1).amax(1) > 1e-2
    assert differs.nonzero().flatten().tolist() == [4]


def test_sparse_tokens_can_be_trained(backbone: Backbone):
    prepared = prepared_for(backbone)
    prompts = [BOX, NOTHING, POINT]
    tokens = tokens_for(prepared, len(prompts)).requires_grad_()
    backbone.decode(prepared, prompts, [0, 1, 2], sparse_tokens=tokens).mask_logits.square().mean().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum(-1) > 0).all()


def tokens_of(backbone: Backbone, prompt: Prompt) -> Tensor:
    """Sparse tokens ``(n, D)`` that a family's own prompt encoder makes of a prompt without a mask."""
    return PROMPT_TOKENS[backbone.family](backbone, prompt)


@pytest.mark.parametrize("prompt", [BOX, POINT, POINTS, BOTH], ids=["box", "point", "points", "both"])
@torch.no_grad()
def test_the_tokens_of_a_prompt_mean_the_prompt(backbone: Backbone, prompt: Prompt):
    """Given beside no prompt, or a part of them beside the rest; in which order does not matter."""
    prepared = prepared_for(backbone)

    def answer(asked: Prompt, *beside: Prompt) -> Output:
        tokens = torch.cat([tokens_of(backbone, one) for one in beside])
        return backbone.decode(prepared, [asked], [1], sparse_tokens=tokens[None] if len(tokens) else None)

    together = answer(NOTHING, prompt)
    assert_same(answer(prompt, NOTHING), together)
    alone = backbone.decode(prepared, [NOTHING], [1])
    assert not torch.allclose(alone.mask_logits, together.mask_logits, rtol=1e-3, atol=1e-3)
    if prompt is BOTH:
        points, box = replace(prompt, box=None), replace(prompt, points=None, point_labels=None)
        assert_same(answer(points, box, NOTHING), answer(NOTHING, points, box))


@torch.no_grad()
def test_rows_of_encoded_images_are_the_images(backbone: Backbone):
    encoded = backbone.encode(pixels(3, backbone))
    assert encoded.select([0, 1, 2]) is encoded
    for which in ([2, 0, 2, 2], [1], [2, 1, 0], [0, 1]):
        some = encoded.select(which)
        assert len(some) == len(which)
        assert some.tensors.keys() == encoded.tensors.keys()
        for name, tensor in encoded.tensors.items():
            for at, row in enumerate(which):
                assert torch.equal(some[name][at], tensor[row])
    prepared, selected = backbone.prepare(encoded), backbone.prepare(encoded.select([2, 0]))
    found = backbone.decode(selected, [BOX, POINT], [0, 1])
    assert_same(found, backbone.decode(prepared, [BOX, POINT], [2, 0]))


@torch.no_grad()
def test_encoded_images_come_apart_and_together(backbone: Backbone):
    encoded = backbone.encode(pixels(3, backbone))
    single = encoded.unstack()
    assert [tuple(one[name].shape) for one in single for name in one.tensors] == list(
        backbone.encoded_shapes.values()
    ) * 3
    again = EncodedImage.stack([single[2], single[0]])
    for name in encoded.tensors:
        assert torch.equal(again[name], encoded[name][[2, 0]])
    assert len(again) == 2


def test_positions_are_encoded_in_full_precision(family_folders: dict[str, str], backbone: Backbone):
    """Under autocast, as on a GPU; the decoder itself rounds."""
    larger = load_backbone(family_folders[backbone.family], image_size=512)
    seen: list[Tensor] = []
    names = ("sparse_prompt_embeddings", "dense_prompt_embeddings", "image_positional_embeddings")
    larger.part("mask_decoder").register_forward_pre_hook(
        lambda _, __, given: seen.extend(given[name] for name in names), with_kwargs=True
    )
    side = larger.mask_input_size
    asked = Prompt(box=torch.tensor([101.0, 203, 405, 407]), mask_input=torch.randn(1, side, side))
    with torch.no_grad():
        prepared = larger.prepare(larger.encode(torch.randn(1, 3, 512, 512)))
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                larger.decode_together(prepared, [asked], None, multimask=False)
    assert all(torch.equal(one, other) for one, other in zip(seen[:3], seen[3:], strict=True))


def test_the_attention_that_is_said_is_that_which_is_called(backbone: Backbone, monkeypatch: pytest.MonkeyPatch):
    called, fused = [], functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional,
        "scaled_dot_product_attention",
        lambda *given, **options: called.append(1) or fused(*given, **options),
    )
    machine = Machine.choose(device="cpu", precision="32")
    backbone.suit(machine)
    backbone.encode(pixels(1, backbone))
    expected = FUSED if called else "blocked"
    assert backbone.on(machine) == f"device cpu, precision 32, attention {expected}"
