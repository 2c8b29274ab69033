"""What a prompt about a picture asks in each tile."""

import torch

from sam_adapter.batch import Prompt, Window
from sam_adapter.tiling.asking import prompts_in_tiles

LEFT, RIGHT, BELOW = Window(0, 0, 64, 64), Window(0, 48, 64, 64), Window(48, 0, 64, 64)
TILES = [LEFT, RIGHT, BELOW]


def test_a_box_is_cut_to_each_tile_that_it_touches_and_the_others_answer_background():
    asked, background = prompts_in_tiles(Prompt(box=torch.tensor([40.0, 10.0, 80.0, 30.0])), TILES)
    assert asked.keys() == {0, 1}
    assert asked[0].box is not None
    assert asked[1].box is not None
    assert asked[0].box.tolist() == [40, 10, 63, 30]
    assert asked[1].box.tolist() == [0, 10, 32, 30]
    assert background == [2]


def test_a_tile_that_shows_a_sliver_is_left_out_and_has_no_say():
    asked, background = prompts_in_tiles(Prompt(box=torch.tensor([0.0, 10.0, 49.0, 30.0])), TILES)
    assert list(asked) == [0]  # of 49 columns the other tile shows one
    assert background == [2]
    asked, _ = prompts_in_tiles(Prompt(box=torch.tensor([0.0, 10.0, 52.0, 30.0])), TILES)
    assert list(asked) == [0, 1]


def test_a_box_of_many_tiles_is_asked_in_all_of_them():
    windows = [Window(row, column, 64, 64) for row in range(0, 640, 64) for column in range(0, 640, 64)]
    asked, background = prompts_in_tiles(Prompt(box=torch.tensor([0.0, 0.0, 639.0, 639.0])), windows)
    assert len(asked) == 100
    assert not background


def test_a_box_of_one_pixel_at_the_border_is_asked_somewhere():
    asked, _ = prompts_in_tiles(Prompt(box=torch.tensor([63.0, 63.0, 63.0, 63.0])), TILES[:1])
    assert list(asked) == [0]


def test_points_go_to_the_tiles_that_hold_one_of_the_foreground():
    points = torch.tensor([[10.0, 10.0], [100.0, 20.0], [5.0, 100.0]])
    asked, background = prompts_in_tiles(Prompt(points=points, point_labels=torch.tensor([1, 1, 0])), TILES)
    assert asked.keys() == {0, 1}
    assert asked[1].points is not None
    assert asked[1].points.tolist() == [[52, 20]]
    assert not background
    both, _ = prompts_in_tiles(
        Prompt(points=torch.tensor([[10.0, 10.0], [20.0, 20.0]]), point_labels=torch.tensor([1, 0])), TILES
    )
    assert both[0].points is not None
    assert both[0].point_labels is not None
    assert (len(both[0].points), both[0].point_labels.tolist()) == (2, [1, 0])


def test_background_points_alone_are_asked_where_they_lie():
    asked, _ = prompts_in_tiles(Prompt(points=torch.tensor([[5.0, 100.0]]), point_labels=torch.tensor([0])), TILES)
    assert list(asked) == [2]


def test_without_a_prompt_every_tile_is_asked():
    asked, background = prompts_in_tiles(Prompt(), TILES)
    assert list(asked) == [0, 1, 2]
    assert not background
