"""The table that ``evaluate`` prints."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..config.choices import ASKED_KINDS, KINDS_IN_WORDS, AskedKind
from ..config.scores import DETAILED, DISTANCES, HEADINGS, headings, unit_sentence
from ..errors import amount
from .baselines import BASELINES
from .published import published_text
from .whole_pictures import whole_text

INTERVAL = "95 %"
ADDED_ABREAST = 4
"""Added scores side by side, so that lines fit a terminal."""


def scores_text(result: Mapping[str, Any], name: str) -> str:
    """Scores of all models as lines of text, with 95 % intervals and, if there are several, each kind of prompt.

    Args:
        result: What metrics.json holds.
        name: Of the first model.
    """
    models = {name: result} | ({"frozen": result["frozen"]} if "frozen" in result else {})
    models |= result.get("compared", {})
    scored = dict(models)
    models |= {BASELINES[key]: scores for key, scores in result.get("baselines", {}).items()}
    added = list(result.get("metrics", ()))
    blocks = [list(HEADINGS), *(added[at : at + ADDED_ABREAST] for at in range(0, len(added), ADDED_ABREAST))]
    body = [line for names in blocks for line in _table(models, {name: headings(added)[name] for name in names})]
    units = [sentence] if (sentence := unit_sentence(added, result.get("spacing", ()))) else []
    return "\n".join(
        [
            f"{amount(result['images'], 'image')}, prompt {result['prompt']}"
            + "".join(f", {name} {result[name]}" for name in ("grid", "core_rise", "refine") if name in result),
            *body,
            *units,
            *_empty(models, result),
            *whole_text(models, result["task"], added),
            *published_text(scored, result.get("published", {}), prompt=result["prompt"]),
        ]
    )


def _table(models: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """Some scores of all models, by name and heading: a line for each model and, if there are several, each kind."""
    lines = [("", _headers(names))]
    for model, scores in models.items():
        kinds: list[AskedKind] = [kind for kind in ASKED_KINDS if f"iou_{kind}" in scores]
        lines.append((f"{model}, mean" if len(kinds) > 1 else model, _cells(scores, "", names)))
        if len(kinds) > 1:
            lines += [(f"  {KINDS_IN_WORDS[kind]}", _cells(scores, f"_{kind}", names)) for kind in kinds]
    width = max(10, *(len(title) + 2 for title, _ in lines))
    columns = [
        max(12 if header == INTERVAL else max(8, len(header) + 2), *(len(cells[at]) + 1 for _, cells in lines))
        for at, header in enumerate(lines[0][1])
    ]
    return [
        f"{title:<{width}}" + "".join(f"{cell:>{column}}" for cell, column in zip(cells, columns, strict=True))
        for title, cells in lines
    ]


def _headers(names: Mapping[str, str]) -> list[str]:
    """The heading of each of `_cells`."""
    headers = []
    for name, heading in names.items():
        headers += [f"{heading} %" if name == "ber" else heading, *([INTERVAL] if name in DETAILED else [])]
    return headers


def _cells(scores: Mapping[str, float], suffix: str, names: Iterable[str]) -> list[str]:
    """Each score, with its interval if it is detailed; dashes where there is none, as of a single image."""
    cells = []
    for name in names:
        value = scores.get(name + suffix)
        if value is None:
            cells += ["-"] * (2 if name in DETAILED else 1)
            continue
        distance = name in DISTANCES
        cells.append(f"{value:.2f}" if name == "ber" or distance else f"{value:.4f}")
        if name in DETAILED:
            low, high = (scores.get(f"{name}{suffix}{end}") for end in ("_low", "_high"))
            if low is None or high is None:
                cells.append("-")
            else:
                cells.append(f"{low:.1f}-{high:.1f}" if distance else f"{low:.3f}-{high:.3f}")
    return cells


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
