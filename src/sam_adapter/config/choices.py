"""What options can be chosen from, and what the choices mean."""

import re
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigError
from .registry import DEFAULT_TASK, LOSSES, METHODS, TASKS
from .scores import LOWER_IS_BETTER, with_kinds

AskedKind = Literal["box", "points", "none"]
PromptKind = Literal["box", "points", "none", "mixed"]
MaskRule = Literal["auto", "nonzero", "half", "numbers"]
MaskLayout = Literal["file", "folder_per_class", "folder_per_image"]
Pages = Literal["first", "all"]
Resize = Literal["pad", "squash"]
AttentionKind = Literal["auto", "plain", "blocked", "folded", "flex"]
Save = Literal["masks", "overlays", "probabilities"]
Threshold = float | Literal["best"]
ASKED_KINDS: tuple[AskedKind, ...] = ("box", "points", "none")
if TYPE_CHECKING:
    MethodName = str
    TaskName = str
    Monitor = str
else:
    MethodName = Literal[tuple(METHODS)]
    TaskName = Literal[tuple(TASKS)]
    Monitor = Literal[(*dict.fromkeys(one for name in TASKS for one in with_kinds(ASKED_KINDS, name)), "loss")]


def asked_kinds(prompt: PromptKind) -> tuple[AskedKind, ...]:
    """The kinds of prompt that a run trains and is scored with; 'mixed' means all."""
    return ASKED_KINDS if prompt == "mixed" else (prompt,)


def possible_monitors(prompt: PromptKind, task: str = DEFAULT_TASK) -> list[str]:
    """The validation scores that a run with these prompts has, of those that can choose the best adapter."""
    return [*with_kinds(asked_kinds(prompt), task), "loss"]


def monitor_mode(monitor: str) -> Literal["min", "max"]:
    """Whether the best adapter has the lowest or the highest value of a validation score."""
    lower = [one for name in LOWER_IS_BETTER for one in (name, *(f"{name}_{kind}" for kind in ASKED_KINDS))]
    return "min" if monitor in lower else "max"


def parse_loss(text: str) -> dict[str, float]:
    """Read a weighted sum of losses.

    Args:
        text: For example ``"bce+iou"`` or ``"0.5*bce + 2*dice"``.

    Returns:
        Loss name to weight, in the order written.

    Raises:
        ConfigError: If a term is not ``[weight*]name`` with a known name.
    """
    terms: dict[str, float] = {}
    for term in text.split("+"):
        match = re.fullmatch(r"\s*(?:([0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?)\s*\*\s*)?([a-z_][a-z0-9_]*)\s*", term)
        if match is None or match[2] not in LOSSES:
            raise ConfigError(
                f"loss '{text}': '{term.strip()}' is not a loss. Write a sum of {', '.join(LOSSES)}, each with an "
                "optional weight, for example 'bce+iou' or '0.5*bce+dice'."
            )
        terms[match[2]] = terms.get(match[2], 0.0) + float(match[1] or 1.0)
    return terms
