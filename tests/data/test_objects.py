import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter import cli
from sam_adapter.config.labels import VOID
from sam_adapter.data.inspection import objects
from sam_adapter.data.inspection.findings import Remark
from sam_adapter.data.inspection.objects import Objects, objects_in, objects_of_instances


def squares(size: tuple[int, int], *corners: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(size, bool)
    for top, left, side in corners:
        mask[top : top + side, left : left + side] = True
    return mask


def test_parts_their_areas_and_the_box_around_them():
    found = objects_in(squares((100, 100), (10, 10, 20), (70, 70, 20), (0, 50, 2)))
    assert (found.parts, found.count) == (3, 2)
    assert found.areas == (4, 400, 400)
    assert found.box_fill == pytest.approx(804 / (90 * 80))
    assert objects_in(np.zeros((5, 5), bool)) == Objects()


def test_parts_that_meet_at_a_corner_are_one():
    assert objects_in(np.eye(4, dtype=bool)).parts == 1


def test_large_masks_are_reduced_without_losing_area(monkeypatch: pytest.MonkeyPatch):
    mask = squares((1000, 1400), (101, 203, 7), (500, 601, 301), (990, 1399, 1))
    exact = objects_in(mask)
    monkeypatch.setattr(objects, "MOST_PIXELS", 20_000)
    assert objects_in(mask) == exact
    assert exact.areas == (1, 49, 301 * 301)


@pytest.mark.parametrize(("side", "image_size", "tiny"), [(11, 1024, 60), (12, 1024, 0), (12, 512, 60)])
def test_what_is_tiny_depends_on_the_input_size(side: int, image_size: int, tiny: int):
    corners = [(100 + 200 * row, 100 + 200 * column, side) for row in range(6) for column in range(10)]
    found = objects_in(squares((2048, 2048), *corners))
    assert found.tiny(longest_side=2048, image_size=image_size) == tiny
    assert found.has_tiny_objects(longest_side=2048, image_size=image_size) == (tiny > 0)


def test_a_speck_beside_an_object_is_no_tiny_object():
    found = objects_in(squares((512, 512), (50, 50, 200), (400, 400, 1)))
    assert found.tiny(longest_side=512, image_size=1024) == 1
    assert not found.has_tiny_objects(longest_side=512, image_size=1024)
    assert found.count == 1


def test_objects_that_are_told_apart_and_the_pairs_that_touch(monkeypatch: pytest.MonkeyPatch):
    labels = np.zeros((20, 30), np.int32)
    labels[0:4, 0:4], labels[0:4, 4:9], labels[4:8, 9:12] = 1, 2, 300  # 2 and 300 over a corner
    labels[10:14, 0:4], labels[10:14, 4:5], labels[10:14, 5:9] = 4, VOID, 5  # void keeps them apart
    labels[16:17, 20:24], labels[17:18, 19:20] = 70_000, 70_001  # to the lower left
    for band in (1 << 22, 30, 60):
        monkeypatch.setattr(objects, "_BAND_PIXELS", band)
        found = objects_of_instances(labels)
        assert found.touching == 3
    assert (found.parts, found.areas) == (7, (1, 4, 12, 16, 16, 16, 20))
    assert objects_in(labels > 0).touching == 0


def test_check_counts_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name, sides in (("a", (8, 8, 1)), ("b", (8,)), ("c", ())):
        labels = np.zeros((64, 64), np.uint16)
        for number, side in enumerate(sides, start=1):
            labels[10 : 10 + side, 10 * number : 10 * number + side] = 300 * number
        labels[10:18, 18:20] = labels[10, 17]  # the first meets the second
        Image.fromarray(labels).save(tmp_path / f"masks/{name}.png")
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(
            tmp_path / f"images/{name}.png"
        )
    source = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    given = ["check", "--task", "instance", "--mask-rule", "numbers", "--image-size", "128", *source]
    cli.main([*given, "--json", str(tmp_path / "found.json")])
    said = (
        "Remark objects: 4 objects in 3 pictures, 0 to 3 a picture (median 1); their area is 72 pixels (median; a disc "
        "9.6 across), 1 the smallest; 25.0% are smaller than a cell of SAM's mask (4x4 pixels of the 128x128 input, "
        "whole pictures); 1 touching pair."
    )
    assert said in capsys.readouterr().out
    (remark,) = [
        one for one in json.loads((tmp_path / "found.json").read_text())["remarks"] if one["kind"] == "objects"
    ]
    assert f"Remark objects: {remark['text']}." == said
    cli.main([*given, "--tile", "32"])
    assert "0.0% are smaller than a cell of SAM's mask (4x4 pixels of the 128x128 input, 32-pixel tiles)" in (
        capsys.readouterr().out
    )
    for kind in ("images", "masks"):
        for name in "bc":
            (tmp_path / kind / f"{name}.png").unlink()
    cli.main(given)
    assert "Remark objects: 3 objects in the picture; their area is 64 pixels (median;" in capsys.readouterr().out


def test_a_remark_about_no_file_says_no_number_of_files():
    assert Remark("tiles", (), "a").in_words() == "Remark tiles: a."
    assert Remark("void", (Path("a"),), "b").in_words().startswith("Remark void (1): b.")


def test_the_median_is_that_of_all_objects_of_a_large_picture():
    large = np.kron(np.arange(1, 5001).reshape(50, 100), np.ones((3, 3), np.int32)).astype(np.int32)
    large[large > 4000] = 0
    small = np.arange(5001, 9001).reshape(40, 100).repeat(3, 1).astype(np.int32)
    small[:, ::3] = 0  # two pixels each
    labels = np.concatenate([large, small[:20]])
    labels[labels == VOID] = 9001
    found = objects_of_instances(labels)
    assert found.parts == len(found.areas) == 6000
    assert found.areas[1999:2001] == (2, 9)
