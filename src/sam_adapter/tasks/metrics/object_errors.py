"""Which objects of an image were found, missed, merged, split or false, by their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .matching import Overlaps, match, merged_and_split


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectErrors:
    """Numbers of the objects of one image, ``(n,)`` int64 each; crowds and what lies in void are nowhere.

    Attributes:
        matched: Found objects that are a true one.
        missed: True objects that no found one is, also those that were merged or split.
        false: Found objects that are no true one, also those that have merged several or are a part of one.
        merged: Found objects that hold more than half of each of several true ones.
        split: True objects that hold more than half of each of several found ones.
    """

    matched: np.ndarray
    missed: np.ndarray
    false: np.ndarray
    merged: np.ndarray
    split: np.ndarray


def object_errors(overlaps: Overlaps, labels: Sequence[int]) -> ObjectErrors:
    """The errors in one image, as `count_objects` counts them.

    Args:
        overlaps: Of the image.
        labels: Of the classes; objects of different ones are never matched.
    """
    parts: dict[str, list[np.ndarray]] = {"matched": [], "missed": [], "false": [], "merged": [], "split": []}
    for label in labels:
        one = overlaps.of_class(label).without_crowd()
        pairs = match(one)
        merged, split = merged_and_split(one)
        parts["matched"].append(one.found_numbers[one.found_at[pairs]])
        parts["missed"].append(np.delete(one.true_numbers, one.true_at[pairs]))
        parts["false"].append(np.delete(one.found_numbers, one.found_at[pairs]))
        parts["merged"].append(one.found_numbers[merged])
        parts["split"].append(one.true_numbers[split])
    return ObjectErrors(**{name: np.concatenate(some) for name, some in parts.items()})
