"""A predictor answers N prompts as it answers each of them, in chunks, and holds no full-size masks."""

from typing import Any

import numpy as np
import pytest
import torch

from sam_adapter import Predictor, load
from sam_adapter.batch import Batch, Prompt, Query
from sam_adapter.errors import DataError
from sam_adapter.preprocessing import Preprocessing

PICTURE = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[5, 5, 30, 40], [20, 10, 70, 50], [0, 0, 80, 60]])
POINTS = np.array([[[10, 10], [60, 50]], [[30, 30], [0, 0]], [[40, 20], [50, 30]]])
LABELS = np.array([[1, 0], [1, -1], [1, 1]])


@pytest.fixture(scope="module", params=[None, 64])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    made = Predictor(load(model="tiny", image_size=128), device="cpu", precision="32", tile=request.param)
    made.set_image(PICTURE)
    return made


def close(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_n_boxes_n_points_and_both_are_answered_like_one_by_one(predictor: Predictor):
    boxes = predictor.predict(box=BOXES)
    points = predictor.predict(points=POINTS, labels=LABELS)
    both = predictor.predict(box=BOXES, points=POINTS, labels=LABELS)
    plain = predictor.predict(points=POINTS[:, :1])
    for at, (box, point, kind) in enumerate(zip(BOXES[:2], POINTS[:2], LABELS[:2], strict=True)):
        point, kind = point[kind >= 0], kind[kind >= 0]
        close(boxes.probability(at), predictor.predict(box=box).probability())
        close(points.probability(at), predictor.predict(points=point, labels=kind).probability())
        close(both.probability(at), predictor.predict(box=box, points=point, labels=kind).probability())
        close(plain.probability(at), predictor.predict(points=point[:1]).probability())
        close(both.iou_scores[at], predictor.predict(box=box, points=point, labels=kind).iou_scores[0])
        mask = np.zeros(PICTURE.shape[:2], bool)
        if (part := both.part(at)) is not None:
            mask[part.rows, part.columns] = part.mask
        assert np.array_equal(mask, both.mask(at).numpy())
    assert not torch.allclose(boxes.probability(0), both.probability(0), atol=1e-3)
    assert not torch.allclose(both.probability(0), both.probability(1), atol=1e-3)


def test_many_prompts_go_in_chunks_and_come_to_full_size_one_by_one(monkeypatch: pytest.MonkeyPatch):
    predictor = Predictor(load(model="tiny", image_size=128), device="cpu", precision="32")
    predictor.set_image(PICTURE)
    asked, made = [], []
    answer, up = type(predictor.segmenter).forward, Preprocessing.to_original_size

    def counted(self: Any, batch: Batch, **more: Any) -> Any:
        asked.append(len(batch.queries))
        return answer(self, batch, **more)

    def seen(self: Preprocessing, logits: Any, *rest: Any) -> Any:
        made.append(len(logits))
        return up(self, logits, *rest)

    monkeypatch.setattr(type(predictor.segmenter), "forward", counted)
    monkeypatch.setattr(Preprocessing, "to_original_size", seen)
    many = predictor.predict(box=np.tile(BOXES, (25, 1)), multimask=True)
    assert (sum(asked), max(asked), made) == (75, 64, [])
    assert many.mask_logits.shape == (225, 32, 32)  # pyright: ignore[reportAttributeAccessIssue]
    many.part(224)
    assert made == [1]
    close(many.probability(3 * 74 + 1), predictor.predict(box=BOXES[2], multimask=True).probability(1))


def test_pictures_of_a_batch_have_prompts_of_their_own_kind_and_number():
    segmenter = load(model="tiny", image_size=128).train(False)
    pictures = [PICTURE, PICTURE[:40, ::-1].copy()]
    asked = [
        [
            Prompt(box=torch.tensor(BOXES[0]).float()),
            Prompt(points=torch.tensor([[9.0, 9]]), point_labels=torch.ones(1)),
        ],
        [Prompt()],
    ]

    def answers(which: list[int]) -> torch.Tensor:
        batch = Batch(
            indices=which,
            names=[""] * len(which),
            pixel_values=torch.stack([segmenter.preprocessing.pixel_values(pictures[at]) for at in which]),
            annotations=[None] * len(which),
            queries=[Query(prompt=one) for at in which for one in asked[at]],
            original_sizes=[pictures[at].shape[:2] for at in which],
            image_index=[at for at, one in enumerate(which) for _ in asked[one]],
        )
        return segmenter(batch).mask_logits

    with torch.inference_mode():
        close(answers([0, 1]), torch.cat([answers([0]), answers([1])]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": BOXES, "points": POINTS[:2]}, "3 boxes for points of 2"),
        ({"box": BOXES, "points": POINTS[0]}, r"shape \(N, P, 2\)"),
        ({"points": POINTS, "labels": LABELS[:2]}, r"labels: expected \(3, 2\)"),
        ({"points": POINTS, "labels": np.full((3, 2), 2)}, "each 1, 0 or -1"),
        ({"points": POINTS, "labels": np.full((3, 2), -1)}, "-1 for each of its points"),
        ({"points": [[[1, 2]], [[1, 2], [3, 4]]]}, "fill up with points of the label -1"),
        ({"points": np.zeros((3, 2, 4))}, r"expected \(P, 2\) for one prompt or \(N, P, 2\)"),
        ({"points": POINTS + 100}, "not inside the picture"),
    ],
)
def test_wrong_shapes_are_explained(predictor: Predictor, arguments: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        predictor.predict(**arguments)
