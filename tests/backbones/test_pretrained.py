"""What tools/pretrain_tiny.py teaches is what the package asks: equal answers of both to every kind of prompt."""

import importlib
from pathlib import Path

import pytest
import torch

from sam_adapter.backbones.base import Backbone, BaseIdentity
from sam_adapter.backbones.sam import SamBackbone
from sam_adapter.backbones.sam2 import Sam2Backbone
from sam_adapter.batch import Prompt

TOOLS = Path(__file__).parents[2] / "tools"
BACKBONES: dict[str, type[SamBackbone] | type[Sam2Backbone]] = {"sam": SamBackbone, "sam2": Sam2Backbone}


@pytest.mark.parametrize("family", BACKBONES)
@torch.no_grad()
def test_learner_and_backbone_answer_alike(family: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    learner = importlib.import_module("tiny_run").LEARNERS[family]().ready(torch.device("cpu")).eval()
    backbone = BACKBONES[family](learner.sam, BaseIdentity("random", "0" * 64)).eval()
    if isinstance(backbone, Sam2Backbone):
        backbone.falls_back = False
    torch.manual_seed(0)
    for parameter in [*learner.sam.vision_encoder.parameters(), *learner.sam.mask_decoder.parameters()]:
        parameter.add_(0.05 * torch.randn_like(parameter))
    if isinstance(backbone, Sam2Backbone):
        backbone.sam.no_memory_embedding.normal_()
    images = torch.randint(256, (2, 256, 256, 3), dtype=torch.uint8)
    features = learner.encode(images)
    prepared = backbone.prepare(backbone.encode(learner.pixels(images)))

    boxes = torch.tensor([[10.0, 20.0, 100.0, 120.0], [30.0, 40.0, 60.0, 90.0]])
    points = torch.tensor([[[50.0, 60.0], [9.0, 7.0]], [[20.0, 30.0], [200.0, 100.0]]])
    signs = torch.tensor([[1, 0], [1, 1]])
    earlier = torch.randn(2, 64, 64)
    tokens = learner.point_tokens(points[:, None], signs[:, None])
    questions = learner.questions[:1].expand(2, -1, -1)
    boxed, pointed = (
        [Prompt(box=box) for box in boxes],
        [Prompt(points=p, point_labels=s) for p, s in zip(points, signs, strict=True)],
    )
    corrected = [
        Prompt(points=p, point_labels=s, mask_input=m[None]) for p, s, m in zip(points, signs, earlier, strict=True)
    ]
    for found, prompts, asked in (
        (learner.decode(features, learner.box_tokens(boxes[:, None])), boxed, None),
        (learner.decode(features, tokens), pointed, None),
        (learner.decode(features, tokens, earlier[:, None]), corrected, None),
        (learner.decode(features, learner.no_tokens(2)), [Prompt(), Prompt()], None),
        (learner.decode(features, learner.question_tokens(2)[:, :1]), [Prompt(), Prompt()], questions),
    ):
        _assert_alike(found, backbone, prepared, prompts, asked)


def _assert_alike(
    found: tuple, backbone: Backbone, prepared, prompts: list[Prompt], asked: torch.Tensor | None
) -> None:
    logits, scores = (part[:, 0] for part in found)
    single = backbone.decode_together(prepared, prompts, asked, multimask=False)
    torch.testing.assert_close(logits[:, :1], single.mask_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[:, :1], single.iou_scores, rtol=1e-4, atol=1e-5)
    three = backbone.decode_together(prepared, prompts, asked, multimask=True)
    torch.testing.assert_close(logits[:, 1:], three.mask_logits, rtol=1e-4, atol=1e-5)
