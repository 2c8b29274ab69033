"""Label maps as COCO's run lengths, and back."""

from typing import Any

import numpy as np
from pycocotools import mask as coco

from sam_adapter.annotations.run_lengths import run_lengths_of


def test_run_lengths_of_all_objects_are_those_of_each_mask():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, (23, 31)).astype(np.int32)
    labels[:, -1] = 5  # runs that go on in the next column, and to the last pixel
    labels[labels == 3] = 0
    found = run_lengths_of(labels)
    assert list(found) == [1, 2, 4, 5]
    for number, one in found.items():
        expected: Any = coco.encode(np.asfortranarray(labels == number, dtype=np.uint8))
        assert one == {"size": [23, 31], "counts": expected["counts"].decode()}
    assert run_lengths_of(np.zeros((4, 5), np.int32)) == {}
