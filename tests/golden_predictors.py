"""What the golden files of the families' own predictors have in common."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file

from conftest import GOLDEN
from sam_adapter.batch import Prompt, Size

PROMPTS = {
    "box": ("box",),
    "point": ("point",),
    "points": ("points",),
    "box_point": ("box", "point"),
    "none": (),
}
"""What each kind of prompt in the files is made of."""


@cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).norm() / theirs.norm()).item()


def asked(run: dict[str, torch.Tensor], kind: str, image: int) -> Prompt:
    """A kind of prompt about an image, in its pixels."""
    fields: dict[str, Any] = {}
    for part in PROMPTS[kind]:
        if part == "box":
            fields["box"] = run[f"box_{image}"]
        else:
            count = 1 if part == "point" else None
            fields["points"] = run[f"points_{image}"][:count]
            fields["point_labels"] = run[f"labels_{image}"][:count]
    return Prompt(**fields)


def size_of(run: dict[str, torch.Tensor], image: int) -> Size:
    height, width, _ = run[f"image_{image}"].shape
    return height, width


def kinds_in(run: dict[str, torch.Tensor]) -> Iterator[str]:
    """The kinds of prompt that a file has answers to."""
    return (kind for kind in PROMPTS if any(name.startswith(f"iou_{kind}_single") for name in run))
