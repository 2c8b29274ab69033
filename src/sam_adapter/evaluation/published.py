"""Published scores of a known test set beside a run's own; they are copied from papers, never computed here."""

from collections.abc import Mapping
from typing import Any

from ..config.choices import AskedKind, PromptKind
from ..config.known_sets import KNOWN_SETS
from ..config.registry import DEFAULT_TASK, MORE_METRICS
from ..config.scores import headings
from ..report.page import Cell, Section, table
from .cases import WITH
from .whole_pictures import WholeScores, table_text

_DIGITS = 3
"""Behind the point, as papers give scores."""


def published_scores(known: str | None, task: str) -> dict[str, Any]:
    """What metrics.json holds of them, under ``published``.

    Args:
        known: A key of `KNOWN_SETS`.
        task: Of the run; they are of one foreground mask a picture.

    Returns:
        ``set``, ``pictures`` that it has, ``prompt`` that they were taken with, ``recomputed`` (never), ``note``, and
        ``scores``: method to names of scores; empty for other data and tasks, and for sets that are trained on.
    """
    if known is None or task != DEFAULT_TASK or not KNOWN_SETS[known].published:
        return {}
    entry = KNOWN_SETS[known]
    scores = {method: dict(row) for method, row in entry.published.items()}
    about = {"set": known, "pictures": entry.count, "prompt": "none", "recomputed": False}
    return {**about, **({"note": entry.note} if entry.note else {}), "scores": scores}


def published_table(
    models: Mapping[str, Mapping[str, Any]], published: Mapping[str, Any], *, prompt: PromptKind
) -> WholeScores | None:
    """The run's own scores, and below them the published ones.

    Args:
        models: Name to what `OverlapMetrics.compute` gave.
        published: What `published_scores` gave.
        prompt: Kind that the run asked with; of 'mixed' the answers without a prompt are shown, as papers give none.

    Returns:
        Columns are the published scores that the run has too; None if there are none.
    """
    rows = published.get("scores", {})
    first = next(iter(models.values()))
    names = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name in first]
    if not names:
        return None
    kind: AskedKind = "none" if prompt == "mixed" else prompt
    suffix = "_none" if prompt == "mixed" else ""
    own = [
        (f"{model}, {WITH[kind]}", [scores.get(f"{name}{suffix}") for name in names])
        for model, scores in models.items()
    ]
    theirs = [(f"{method}, published", [row.get(name) for name in names]) for method, row in rows.items()]
    images = round(first["images"])
    caption = f"Beside scores published on the {published['pictures']} pictures of {published['set']}, not recomputed"
    caption += "" if images == published["pictures"] else f" (this run has {images} pictures)"
    titles = headings(name for name in names if name in MORE_METRICS)
    return WholeScores(caption, [titles[name] for name in names], [*own, *theirs], digits=_DIGITS)


def published_notes(
    models: Mapping[str, Mapping[str, Any]], published: Mapping[str, Any], *, prompt: PromptKind
) -> list[str]:
    """Sentences about what makes the published scores differ from the run's; arguments as in `published_table`."""
    rows = published.get("scores", {})
    first = next(iter(models.values()))
    missing = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name not in first]
    notes = [published["note"]] if "note" in published else []
    if rows and prompt not in ("none", "mixed"):
        notes.append(f"The published scores are of answers without a prompt; '--prompt none' asks so, not {prompt}.")
    if missing:
        notes.append(f"Published are more: '--metrics {','.join(missing)}' adds them.")
    return notes


def published_text(
    models: Mapping[str, Mapping[str, Any]], published: Mapping[str, Any], *, prompt: PromptKind
) -> list[str]:
    """`published_table` and `published_notes` as lines of text."""
    found = published_table(models, published, prompt=prompt)
    return [*(table_text(found) if found else []), *published_notes(models, published, prompt=prompt)]


def published_section(
    models: Mapping[str, Mapping[str, Any]], published: Mapping[str, Any], *, prompt: PromptKind
) -> Section:
    """`published_table` and `published_notes` for a page; without a body where there are none."""
    found = published_table(models, published, prompt=prompt)
    notes = " ".join(published_notes(models, published, prompt=prompt))
    if found is None:
        return Section("Published scores", notes, "")
    rows: list[list[Cell]] = [
        [title, *(None if value is None else f"{value:.{found.digits}f}" for value in values)]
        for title, values in found.rows
    ]
    return Section("Published scores", notes, table(["model", *found.headings], rows, caption=found.caption))
