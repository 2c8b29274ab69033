"""What options can be chosen from, and what the choices mean."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigError
from .known_sets import KNOWN_SETS
from .registry import DEFAULT_TASK, LOSSES, METHODS, MORE_METRICS, TASKS
from .scores import HEADINGS, LOWER_IS_BETTER, with_kinds

AskedKind = Literal["box", "points", "none", "mask"]
PromptKind = Literal["box", "points", "none", "mask", "mixed"]
MaskRule = Literal["auto", "nonzero", "half", "numbers"]
MaskLayout = Literal["file", "folder_per_class", "folder_per_image"]
Pages = Literal["first", "all"]
Resize = Literal["pad", "squash"]
Interpolation = Literal["uint8", "float32"]
Restore = Literal["square", "direct"]
AttentionKind = Literal["auto", "plain", "blocked", "folded", "flex"]
Save = Literal["masks", "overlays", "probabilities"]
Threshold = float | Literal["best"]
ASKED_KINDS: tuple[AskedKind, ...] = ("box", "points", "none", "mask")
"""All kinds of prompt, in the order of tables."""
MIXED_KINDS: tuple[AskedKind, ...] = ("box", "points", "none")
"""The kinds that 'mixed' stands for. A mask is asked for by name: whoever has one wants it corrected."""
KINDS_IN_WORDS: Mapping[AskedKind, str] = {"box": "box", "points": "points", "none": "no prompt", "mask": "mask"}
"""What tables and figures call them."""
if TYPE_CHECKING:
    MethodName = str
    TaskName = str
    KnownName = str
else:
    KnownName = Literal[tuple(KNOWN_SETS)]
    MethodName = Literal[tuple(METHODS)]
    TaskName = Literal[tuple(TASKS)]


def asked_kinds(prompt: PromptKind) -> tuple[AskedKind, ...]:
    """The kinds of prompt that a run trains and is scored with."""
    return MIXED_KINDS if prompt == "mixed" else (prompt,)


def known_thresholds(best_thresholds: Mapping[AskedKind, float] | Mapping[str, float]) -> str:
    """How a sentence about a missing best threshold ends: which kinds of prompt have one, and what to do."""
    known = ", ".join(f"{kind} {value:g}" for kind, value in best_thresholds.items()) or "none at all"
    return (
        f"(known: {known}). They are found on validation when an adapter is trained with that prompt; give a number "
        "instead."
    )


def possible_monitors(prompt: PromptKind, task: str = DEFAULT_TASK, added: Iterable[str] = ()) -> list[str]:
    """The validation scores that a run with these prompts has, of those that can choose the best adapter.

    Args:
        prompt: What it asks with.
        task: Which may have scores of its own.
        added: Scores that ``--metrics`` adds.
    """
    return [*with_kinds(asked_kinds(prompt), task, added), "loss"]


def monitors_in_words(monitors: Iterable[str]) -> str:
    """Names of scores, those of which kinds of prompt have their own behind one another.

    ``iou and dice, each alone or with _box, _points or _none; mae, ber and loss``.
    """
    names = dict.fromkeys(monitors)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        base, _, kind = name.rpartition("_")
        if base not in names or kind not in ASKED_KINDS:
            kinds = tuple(f"_{one}" for one in ASKED_KINDS if f"{name}_{one}" in names)
            groups.setdefault(kinds, []).append(name)
    words = []
    for kinds, some in sorted(groups.items(), key=lambda group: -len(group[0])):
        each = f", {'each ' if len(some) > 1 else ''}alone or with {_listed(kinds, 'or')}" if kinds else ""
        words.append(_listed(some, "and") + each)
    return "; ".join(words)


def _listed(names: Sequence[str], last: str) -> str:
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else names[0]


def monitor_mode(monitor: str) -> Literal["min", "max"]:
    """Whether the best adapter has the lowest or the highest value of a validation score."""
    lower = [one for name in LOWER_IS_BETTER for one in (name, *(f"{name}_{kind}" for kind in ASKED_KINDS))]
    return "min" if monitor in lower else "max"


def parse_metrics(text: str) -> tuple[str, ...]:
    """Read names of scores.

    Args:
        text: Names between commas, or plus signs, for example ``"s_measure,hd95"``. Those that every run has may be
            among them.

    Returns:
        Those that not every run has, each once, in the order of columns.

    Raises:
        ConfigError: If a name is not known.
    """
    names = [name.strip() for name in re.split("[,+]", text) if name.strip()]
    for name in names:
        if name not in MORE_METRICS and name not in HEADINGS:
            raise ConfigError(
                f"metrics: '{name}' is not a score. {', '.join(HEADINGS)} are always there; name some of "
                f"{', '.join(MORE_METRICS)}, separated by commas."
            )
    return tuple(name for name in MORE_METRICS if name in names)


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
