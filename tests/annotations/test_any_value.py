"""Whatever stands in place of a value of an annotation file: it is named, or read, and nothing else happens."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_files import SIZES, SQUARE, coco, labelme, shape, write_images, write_json
from test_labelme import picture

from sam_adapter.annotations.coco import list_coco
from sam_adapter.annotations.export import write_coco
from sam_adapter.annotations.labelme import list_labelme
from sam_adapter.annotations.listing import Listing
from sam_adapter.errors import ConfigError

NUMBERS = [-1, 0, 1, 0.5, 10**30, -(10**30), 2**31, 2**62, 1e300, -1e300, float("nan"), float("inf")]
LISTS = [[], [[]], [[1, 2]], [1, 2, 3], {}, {"size": [40, 60], "counts": "abc"}, {"size": [40, 60], "counts": [2400]}]
HUGE = [{"size": [10**9, 10**9], "counts": [10**18]}, {"size": [40, 60], "counts": [1, "a"]}]
TEXTS = ["", "x" * 300, "\udcff", "1", "..", "/", "\0", "a\0b"]
JUNK = [None, True, False, *NUMBERS, *LISTS, *HUGE, *TEXTS]

Place = tuple[Any, ...]


def places(value: Any, path: Place = ()) -> list[Place]:
    """Where something can be changed in nested dictionaries and lists."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


def changed(content: Any, rng: random.Random) -> Any:
    """With one to three values replaced, taken out, or doubled."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        if not (known := places(content)):
            return content
        *parents, last = rng.choice(known)
        at = content
        for key in parents:
            at = at[key]
        way = rng.random()
        if way < 0.7:
            at[last] = copy.deepcopy(rng.choice(JUNK))
        elif way < 0.85:
            del at[last]
        elif isinstance(at, list):
            at.append(copy.deepcopy(at[last]))
    return content


def coco_listing(folder: Path, rng: random.Random) -> Listing:
    content = coco()
    content["annotations"][2]["segmentation"] = rng.choice([{"size": [41, 61], "counts": [100, 50, 2351]}, [[*SQUARE]]])
    return list_coco(folder / "images", write_json(folder / "instances.json", changed(content, rng)))


def labelme_listing(folder: Path, rng: random.Random) -> Listing:
    ends: list[list[float]] = [[5, 5], [9, 9]]
    shapes = [
        shape("a", [[1, 1], [9, 1], [9, 9]]),
        shape("b", ends, "circle", group=1),
        shape("b", ends, "line", group=1),
        shape("_background_", ends, "rectangle"),
        shape("a", [[1, 1], [3, 3]], "mask", mask=picture(np.ones((3, 3), np.uint8))),
        shape("__ignore__", [[1, 1], [30, 30], [20, 5]], "linestrip"),
    ]
    write_json(folder / "labels/c.json", changed(labelme("c", *copy.deepcopy(shapes)), rng))
    return list_labelme(folder / "images", folder / "labels")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("listing_of", [coco_listing, labelme_listing])
def test_a_file_with_any_value_is_read_or_named(tmp_path: Path, listing_of: Callable[[Path, random.Random], Listing]):
    write_images(tmp_path)
    rng = random.Random(0)
    read = named = 0
    sentences: list[tuple[str, ...]] = []
    for _ in range(400):
        try:
            listing = listing_of(tmp_path, rng)
        except ConfigError as error:
            sentences.append(error.problems)
            continue
        named += bool(listing.problems)
        read += len(listing.records)
        for problem in listing.problems:
            assert "\n" not in str(problem)
            str(problem).encode()
        # What is read is sound: it can be painted, written, and read again.
        write_coco(tmp_path / "out.json", listing.records, SIZES, listing.class_names)
        if listing.records and listing.class_names:
            again = list_coco(tmp_path / "images", tmp_path / "out.json")
            assert all(problem.remark for problem in again.problems)
            assert [record.name for record in again.records] == [record.name for record in listing.records]
    assert min(read, named) > 50
    assert len(sentences) > 5 or listing_of is labelme_listing  # a file that is no JSON is one of many
    assert all(len(one) == 1 and "\n" not in one[0] for one in sentences)
