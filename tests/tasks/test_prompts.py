from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sam_adapter.batch import VOID, Annotation, Prompt
from sam_adapter.config.options import PromptOptions
from sam_adapter.errors import DataError
from sam_adapter.tasks.binary import BinaryTask
from sam_adapter.tasks.prompts import PromptMaker, box_from_mask, draw_points, innermost_point, jitter_box


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_box_is_the_bounding_rectangle():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((50, 70), np.uint8)
        cv2.circle(mask, (int(rng.integers(15, 50)), int(rng.integers(15, 35))), 9, 1, -1)
        x, y, width, height = cv2.boundingRect(mask)
        assert box_from_mask(mask).tolist() == [x, y, x + width, y + height]
        assert box_from_mask(mask).dtype == box_from_mask(mask, scale=1.3).dtype == np.float32


def test_box_is_clipped_to_the_last_pixel_and_scaled_about_its_centre():
    assert box_from_mask(np.ones((40, 60))).tolist() == [0, 0, 59, 39]
    assert box_from_mask(rectangle(39, 59, 40, 60)).tolist() == [59, 39, 59, 39]
    assert box_from_mask(rectangle(10, 20, 20, 40), scale=1.5).tolist() == [15, 7.5, 45, 22.5]
    assert box_from_mask(rectangle(0, 0, 20, 40), scale=2).tolist() == [0, 0, 59, 30]


def test_empty_mask_has_no_box_and_gets_no_prompt():
    with pytest.raises(DataError, match="empty mask"):
        box_from_mask(np.zeros((4, 4)))
    for kind in ("box", "points", "mixed"):
        maker, empty = PromptMaker(kind=kind), np.zeros((4, 4), bool)
        for (prompt,) in (maker.drawn(empty, np.random.default_rng(0)), maker.exact(empty, np.random.default_rng(0))):
            assert all(value is None for value in prompt.tensors)


def test_jitter_stays_inside_and_close():
    rng = np.random.default_rng(0)
    box = np.array([10, 10, 30, 20], np.float32)
    for _ in range(200):
        moved = jitter_box(box, 0.2, (40, 60), rng)
        assert np.abs(moved - box)[[0, 2]].max() <= 4.001
        assert np.abs(moved - box)[[1, 3]].max() <= 2.001
        assert moved[2] > moved[0] >= 0
        assert moved[3] > moved[1] >= 0


def test_points_lie_where_their_labels_say():
    mask = rectangle(10, 20, 20, 40)
    maker = PromptMaker(kind="points", positive_points=3, negative_points=2)
    for make in (maker.drawn, maker.exact):
        (prompt,) = make(mask, np.random.default_rng(1))
        assert prompt.points is not None
        assert prompt.point_labels is not None
        assert prompt.points.shape == (5, 2)
        assert prompt.point_labels.tolist() == [1, 1, 1, 0, 0]
        for (x, y), label in zip(prompt.points.long().tolist(), prompt.point_labels.tolist(), strict=True):
            assert mask[y, x] == bool(label)


def test_first_point_of_evaluation_is_the_innermost_one():
    mask = rectangle(10, 10, 31, 31)
    mask |= rectangle(10, 40, 12, 60)
    assert innermost_point(mask).tolist() == [[20, 20]]
    (prompt,) = PromptMaker(kind="points", positive_points=3).exact(mask, np.random.default_rng(0))
    assert prompt.points is not None
    assert prompt.points[0].tolist() == [20, 20]
    assert prompt.points.dtype == torch.float32


def test_mixed_draws_all_three():
    rng = np.random.default_rng(0)
    maker = PromptMaker(kind="mixed")
    prompts = [maker.drawn(rectangle(10, 20, 20, 40), rng)[0] for _ in range(300)]
    boxes = sum(prompt.box is not None for prompt in prompts)
    points = sum(prompt.points is not None for prompt in prompts)
    assert 70 < boxes < 130
    assert 70 < points < 130


def test_three_mixed_prompts_for_an_image_are_one_of_each_kind():
    maker = PromptMaker(kind="mixed")
    for seed in range(20):
        prompts = maker.drawn(rectangle(10, 20, 20, 40), np.random.default_rng(seed), count=3)
        assert sum(prompt.box is not None for prompt in prompts) == 1
        assert sum(prompt.points is not None for prompt in prompts) == 1
        assert len(prompts) == 3


def test_mixed_evaluation_asks_once_with_each_kind_as_each_alone_would():
    mask = rectangle(10, 20, 20, 40)
    maker = PromptMaker(kind="mixed", negative_points=2, positive_points=2)
    prompts = maker.exact(mask, np.random.default_rng(3))
    assert [prompt.kind for prompt in prompts] == ["box", "points", "none"]
    for prompt in prompts:
        (alone,) = replace(maker, kind=prompt.kind).exact(mask, np.random.default_rng(3))
        for one, other in zip(prompt.tensors, alone.tensors, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


SQUARE = rectangle(10, 20, 20, 40)


def made(
    options: PromptOptions,
    mask: np.ndarray = SQUARE,
    counted: np.ndarray | None = None,
    *,
    training: bool,
    rng: int | np.random.Generator = 0,
) -> list[Prompt]:
    """What the task that some options mean asks about a mask."""
    task = BinaryTask.from_options(options)
    ask = task.training_queries if training else task.evaluation_queries
    labels = mask.astype(np.uint8)
    if counted is not None:
        labels[~counted] = VOID
    queries = ask(Annotation.of(torch.from_numpy(labels)), np.random.default_rng(rng))
    assert all(query.label == 1 for query in queries)
    return [query.prompt for query in queries]


@pytest.mark.parametrize("training", [False, True])
def test_no_prompt_speaks_of_void(training: bool):
    mask, valid = rectangle(0, 0, 40, 30), np.ones((40, 60), bool)
    valid[:, 10:50] = False  # the mask counts in columns 0 to 9, the background in 50 to 59
    rng = np.random.default_rng(0)
    asked = PromptOptions(prompt="points", positive_points=20, negative_points=20)
    (points,) = made(asked, mask, valid, training=training, rng=rng)
    assert points.points is not None
    assert points.points[:20, 0].max() < 10
    assert points.points[20:, 0].min() >= 50
    (box,) = made(PromptOptions(prompt="box"), mask, valid, training=training, rng=rng)
    assert box.box is not None
    assert box.box.tolist() == [0, 0, 10, 39]
    (nothing,) = made(PromptOptions(prompt="box"), mask, ~mask, training=training, rng=rng)
    assert nothing.kind == "none"
    (all_void,) = made(asked, mask, mask, training=training, rng=rng)
    assert all_void.point_labels is not None
    assert all_void.point_labels.shape == (20,)  # no background counts, so no negative point


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_asked_about_a_picture_that_is_all_void(training: bool):
    nothing = np.zeros_like(SQUARE)
    for prompt in ("box", "points", "none", "mixed"):
        assert made(PromptOptions(prompt=prompt), SQUARE, nothing, training=training) == []
    task = BinaryTask.from_options(PromptOptions(prompt="none"))
    void = Annotation.of(torch.full((4, 5), VOID, dtype=torch.uint8))
    assert task.evaluation_queries(void, np.random.default_rng(0)) == []


@pytest.mark.parametrize("training", [True, False])
def test_box_scale_reaches_the_prompt(training: bool):
    (plain,), (scaled,) = (
        made(PromptOptions(prompt="box", box_scale=scale), training=training) for scale in (1.0, 1.5)
    )
    assert plain.box is not None
    assert scaled.box is not None
    assert plain.box.tolist() == [20, 10, 40, 20]
    assert scaled.box.tolist() == [15, 7.5, 45, 22.5]


def test_box_jitter_moves_each_side_by_up_to_its_share_and_only_in_training():
    options = PromptOptions(prompt="box", box_jitter=0.2)
    (exact,) = made(options, training=False)
    assert exact.box is not None
    assert exact.box.tolist() == [20, 10, 40, 20]
    moves = []
    for seed in range(400):
        (moved,) = made(options, training=True, rng=seed)
        assert moved.box is not None
        moves.append(((moved.box - exact.box) / torch.tensor([20, 10, 20, 10])).tolist())
    moves = np.array(moves)  # in shares of the box's own width and height
    assert np.abs(moves).max() <= 0.2 + 1e-6
    assert (moves.min(0) < -0.19).all()
    assert (moves.max(0) > 0.19).all()
    np.testing.assert_allclose(moves.std(0), 0.2 / np.sqrt(3), rtol=0.15)
    assert np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.2  # each side for itself


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [(1, 0), (1, 3), (4, 0), (2, 5)])
def test_as_many_points_as_asked_for(training: bool, positive: int, negative: int):
    options = PromptOptions(prompt="points", positive_points=positive, negative_points=negative)
    (prompt,) = made(options, training=training)
    assert prompt.points is not None
    assert prompt.point_labels is not None
    assert prompt.points.shape == (positive + negative, 2)
    assert prompt.point_labels.tolist() == [1] * positive + [0] * negative
    for (x, y), label in zip(prompt.points.int().tolist(), prompt.point_labels.tolist(), strict=True):
        assert SQUARE[y, x] == bool(label)


def test_points_are_drawn_all_over_the_mask_in_training():
    drawn = [
        prompt.points[0].tolist()
        for seed in range(300)
        for prompt in made(PromptOptions(prompt="points"), training=True, rng=seed)
        if prompt.points is not None
    ]
    assert len({tuple(point) for point in drawn}) > 120  # of 200 pixels
    np.testing.assert_allclose(np.mean(drawn, 0), [29.5, 14.5], atol=1)


def test_points_are_drawn_once_each_while_there_are_enough():
    mask = rectangle(0, 0, 2, 3)
    exactly = draw_points(mask, 6, np.random.default_rng(0))
    assert sorted(map(tuple, exactly.tolist())) == [(x, y) for x in range(3) for y in range(2)]
    more = draw_points(mask, 20, np.random.default_rng(0))
    assert more.shape == (20, 2)
    assert more.dtype == np.float32


def test_prompts_per_image_are_for_training_alone():
    options = PromptOptions(prompt="points", prompts_per_image=4)
    assert len(made(options, training=True)) == 4
    assert len({str(prompt.points) for prompt in made(options, training=True)}) > 1
    assert len(made(options, training=False)) == 1


def test_a_full_mask_has_no_room_for_negative_points():
    options = PromptOptions(prompt="points", negative_points=3)
    (prompt,) = made(options, np.ones((5, 6), bool), training=True)
    assert prompt.point_labels is not None
    assert prompt.point_labels.tolist() == [1]


@pytest.mark.parametrize("kind", ["box", "points", "none"])
def test_a_kind_gives_only_that(kind: str):
    for training in (True, False):
        (prompt,) = made(PromptOptions(prompt=kind), training=training)  # pyright: ignore[reportArgumentType]
        assert (prompt.box is not None) == (kind == "box")
        assert (prompt.points is not None) == (prompt.point_labels is not None) == (kind == "points")
        assert prompt.mask_input is None


def test_the_innermost_point_counts_the_pictures_edge_as_outside():
    assert innermost_point(rectangle(0, 0, 21, 21)).tolist() == [[10, 10]]
