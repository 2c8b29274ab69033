"""The table that ``evaluate`` prints."""

from collections.abc import Mapping
from typing import Any

from ..config.choices import ASKED_KINDS
from ..config.scores import DETAILED, HEADINGS
from ..errors import amount
from .baselines import BASELINES
from .whole_pictures import whole_text

IN_WORDS = {"box": "box", "points": "points", "none": "no prompt"}
INTERVAL = "95 %"


def scores_text(result: Mapping[str, Any], name: str) -> str:
    """Scores of all models as lines of text, with 95 % intervals and, if there are several, each kind of prompt.

    Args:
        result: What metrics.json holds.
        name: Of the first model.
    """
    models = {name: result} | ({"frozen": result["frozen"]} if "frozen" in result else {})
    models |= result.get("compared", {})
    models |= {BASELINES[key]: scores for key, scores in result.get("baselines", {}).items()}
    lines = []
    for model, scores in models.items():
        kinds = [kind for kind in ASKED_KINDS if f"iou_{kind}" in scores]
        lines.append((f"{model}, mean" if len(kinds) > 1 else model, _cells(scores, "")))
        if len(kinds) > 1:
            lines += [(f"  {IN_WORDS[kind]}", _cells(scores, f"_{kind}")) for kind in kinds]
    width = max(10, *(len(title) + 2 for title, _ in lines))
    headers = _headers()
    columns = [12 if header == INTERVAL else max(8, len(header) + 2) for header in headers]
    shown = [("", headers), *lines]
    body = [
        f"{title:<{width}}" + "".join(f"{cell:>{column}}" for cell, column in zip(cells, columns, strict=True))
        for title, cells in shown
    ]
    return "\n".join(
        [
            f"{amount(result['images'], 'image')}, prompt {result['prompt']}",
            *body,
            *_empty(models, result),
            *whole_text(models, result["task"]),
        ]
    )


def _headers() -> list[str]:
    """The heading of each of `_cells`."""
    headers = []
    for name, heading in HEADINGS.items():
        headers += [f"{heading} %" if name == "ber" else heading, *([INTERVAL] if name in DETAILED else [])]
    return headers


def _cells(scores: Mapping[str, float], suffix: str) -> tuple[str, ...]:
    """Each score, with its interval if it is detailed; dashes where no image has foreground."""
    if f"iou{suffix}" not in scores:
        return ("-",) * len(_headers())
    cells = []
    for name in HEADINGS:
        value = scores[name + suffix]
        cells.append(f"{value:.2f}" if name == "ber" else f"{value:.4f}")
        if name in DETAILED:
            low, high = scores[f"{name}{suffix}_low"], scores[f"{name}{suffix}_high"]
            cells.append(f"{low:.3f}-{high:.3f}")
    return tuple(cells)


def _empty(models: Mapping[str, Mapping[str, float]], result: Mapping[str, Any]) -> list[str]:
    """What was answered where there is nothing to find."""
    if not result["empty"]:
        return []
    answered = ", ".join(
        f"{model} {scores['empty_correct']:.1%}" for model, scores in models.items() if "empty_correct" in scores
    )
    return [
        f"Without foreground, not in the means: {amount(result['empty'], 'image')}; answered with nothing: {answered}."
    ]
