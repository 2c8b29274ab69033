"""The page that ``evaluate --report true`` writes: one model, or several side by side, on one data set."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config.choices import ASKED_KINDS, KINDS_IN_WORDS, AskedKind, asked_kinds
from ..config.commands import EvaluateConfig
from ..config.registry import METRICS, TASKS
from ..config.scores import DETAILED, LOWER_IS_BETTER, headings, unit_sentence
from ..data.dataset import PairDataset
from ..errors import agreed, amount
from ..report.charts import Axis, Series, line_chart
from ..report.page import Cell, Section, charts_row, gallery, page, table, write_page
from ..tasks.metrics import OverlapMetrics, ThresholdCurve, is_empty
from .baselines import BASELINES
from .cases import case_legend, telling_cases
from .object_cases import found_in_words, object_cases, object_legend
from .published import published_scores, published_section
from .scoring import Scoring
from .whole_pictures import confusion_rows, whole_scores

MOST_ROWS = 5000
"""Longer tables make browsers slow; per_image.csv has them all."""


def write_scores_page(
    path: Path,
    config: EvaluateConfig,
    dataset: PairDataset,
    scorings: list[Scoring],
    baselines: Mapping[str, OverlapMetrics],
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        config: How was scored.
        dataset: The images with their ground truth.
        scorings: The model in question first, then those it is compared with.
        baselines: Scores of what needs no network, by name in `BASELINES`.
    """
    first, kinds = scorings[0], asked_kinds(config.prompt)
    asked = ", ".join(KINDS_IN_WORDS[kind] for kind in kinds) + (
        ", each image once with each" if len(kinds) > 1 else ""
    )
    if config.prompt == "mask":
        asked += f" (--mask-error {config.mask_error:g})"
    place = config.known or config.images or config.place
    lead = f"{amount(len(dataset), 'image')} from {place}, prompt: {asked}. Scored: {_listed(scorings)}."
    lead = f"{lead} {found_in_words(config, {one.name: one.core_rise for one in scorings})}".strip()
    models = {one.name: one.metrics for one in scorings}
    models |= {BASELINES[name]: metrics for name, metrics in baselines.items()}
    sections = [
        Section("Scores", _scores_text(models[first.name]), _scores(models)),
        published_section(
            {one.name: one.metrics.compute() for one in scorings},
            published_scores(config.known, first.task),
            prompt=config.prompt,
        ),
        *_whole_pictures(models, first.task, kinds),
        Section("How the scores are spread", "", charts_row(spread_chart(scorings), *_curves(scorings, kinds))),
        Section(
            "What another threshold would give",
            _threshold_text(_thresholds(scorings, kinds), adapter=first.method != "none"),
            _threshold_table(scorings, kinds),
        ),
        Section(
            "Objects that were missed, merged and split",
            f"The images in which {first.name} missed most objects, and of the others those with most that were merged "
            "or split. Objects fit at an IoU of .5; those of a merged or split answer may be missed too.",
            object_legend() + gallery(objects) if (objects := object_cases(dataset, scorings)) else "",
        ),
        Section(
            "Worst, median and best images",
            f"Chosen by the IoU of {first.name}. Prompts are drawn in yellow, points of the background in red.",
            case_legend(dataset, scorings) + gallery(telling_cases(dataset, scorings)),
        ),
        Section("Every image", _every_text(first.metrics), _every_image(dataset, scorings, kinds)),
    ]
    write_page(path, page(f"Evaluation of {first.name}", lead, [one for one in sections if one.body]))


def _whole_pictures(models: Mapping[str, OverlapMetrics], task: str, kinds: Sequence[AskedKind]) -> list[Section]:
    """Scores of whole pictures and the confusion of the first model, of a task that has some."""
    name, first = next(iter(models.items()))
    means = {model: metrics.compute() for model, metrics in models.items()}
    body = ""
    for scores in whole_scores(means, task, first.added.names):
        rows: list[list[Cell]] = [[title, *values] for title, values in scores.rows]
        body += table(["model", *scores.headings], rows, caption=scores.caption)
    if not body:
        return []
    confusion = first.details().get("confusion", {})
    for kind in kinds:
        if kind in confusion:
            headings, shares = confusion_rows(confusion, kind)
            cells: list[list[Cell]] = [list(row) for row in shares]
            body += table(list(headings), cells, caption=f"What {name} answered for each class, {KINDS_IN_WORDS[kind]}")
    return [Section(TASKS[task].scores_title, TASKS[task].scores_text, body)]


def spread_chart(scorings: Sequence[Scoring]) -> str:
    """IoU of each image with foreground, sorted, a line for each model."""
    lines = []
    for one in scorings:
        values = sorted(_ious(one.metrics))
        step = 100 / max(len(values) - 1, 1)
        thin = max(len(values) // 400, 1)
        lines.append(Series(one.name, [(at * step, value) for at, value in enumerate(values) if at % thin == 0]))
    return line_chart(
        [line for line in lines if line.points],
        title="IoU of every image, from worst to best",
        x=Axis("images, %", 0, 100),
        y=Axis("IoU"),
    )


def _listed(scorings: Sequence[Scoring]) -> str:
    return ", ".join(f"{one.name} ({one.method})" if one.method != "none" else one.name for one in scorings)


def _ious(metrics: OverlapMetrics, kind: AskedKind | None = None) -> list[float]:
    return [row["iou"] for row in metrics.per_image(kind).values() if not is_empty(row)]


def _scores_text(metrics: OverlapMetrics) -> str:
    means = metrics.compute()
    *others, last = [heading for name, heading in headings(metrics.added.names).items() if name in LOWER_IS_BETTER]
    text = (
        "Means over the images with foreground; BER over all their pixels. Higher is better, but for "
        f"{', '.join(others)} and {last}."
    )
    if means["images"] - means["empty"] > 1:
        text += " The intervals hold the mean in 95 % of samples of as many images drawn from these (bootstrap)."
    if unit := unit_sentence(metrics.added.names, metrics.added.spacing):
        text += f" {unit}"
    if means["empty"]:
        text += (
            f" {means['empty']:.0f} of {amount(round(means['images']), 'image')} "
            f"{agreed(round(means['empty']), 'have')} no foreground: they are asked without a "
            "prompt, and the last column is the share of them that was answered with nothing."
        )
    return text


def _scores(models: Mapping[str, OverlapMetrics]) -> str:
    """A row for each model, and below it one for each kind of prompt if there are several."""
    rows: list[list[Cell]] = []
    shown = headings(next(iter(models.values())).added.names)
    with_empty = any("empty_correct" in metrics.compute() for metrics in models.values())
    for name, metrics in models.items():
        means = metrics.compute()
        kinds: list[AskedKind] = [kind for kind in ASKED_KINDS if f"iou_{kind}" in means]
        lines: list[tuple[str, AskedKind | None]] = [(name, None)]
        if len(kinds) > 1:
            lines = [(f"{name}, mean", None), *((f"{name}, {KINDS_IN_WORDS[kind]}", kind) for kind in kinds)]
        for title, kind in lines:
            suffix = "" if kind is None else f"_{kind}"
            ious = _ious(metrics, kind)
            median = statistics.median(ious) if ious else None
            row: list[Cell] = [title]
            for score in shown:
                row += _cells(means, score, suffix, median)
            if with_empty:
                row.append(means.get("empty_correct") if kind in (None, "none") else None)
            rows.append(row)
    headers = [header for score, heading in shown.items() for header in _headers(score, heading)]
    return table(["model", *headers, *(["empty correct"] if with_empty else [])], rows, caption="Scores of each model")


def _headers(score: str, heading: str) -> list[str]:
    """The headings of `_cells`."""
    return [
        f"{heading} %" if score == "ber" else heading,
        *([f"95 % of {heading}"] if score in DETAILED else []),
        *([f"median {heading}"] if score == "iou" else []),
    ]


def _cells(means: Mapping[str, float], score: str, suffix: str, median_iou: Cell) -> list[Cell]:
    """The mean of a score, with its interval if it is detailed, and beside that of IoU the median."""
    name = f"{score}{suffix}"
    mean: Cell = means.get(name)
    return [
        f"{mean:.2f}" if score == "ber" and isinstance(mean, float) else mean,
        *([_interval(means, name)] if score in DETAILED else []),
        *([median_iou] if score == "iou" else []),
    ]


def _interval(means: Mapping[str, float], name: str) -> Cell:
    if f"{name}_low" not in means:
        return None
    return f"{means[f'{name}_low']:.3f}–{means[f'{name}_high']:.3f}"


def _with_curves(
    scorings: Sequence[Scoring], kinds: Sequence[AskedKind]
) -> list[tuple[str, Scoring, AskedKind, ThresholdCurve]]:
    """Title, scoring, kind and curve of each kind that each model was asked with."""
    return [
        (one.name if len(kinds) == 1 else f"{one.name}, {KINDS_IN_WORDS[kind]}", one, kind, curves[kind])
        for kind in kinds
        for one in scorings
        if kind in (curves := one.metrics.curves or {})
    ]


def _curves(scorings: Sequence[Scoring], kinds: Sequence[AskedKind]) -> list[str]:
    """Precision and recall, a chart for each kind of prompt."""
    charts = []
    for kind in kinds:
        lines = [
            Series(
                one.name,
                list(zip(curve.recall.tolist(), curve.precision.tolist(), strict=True)),
                mark=curve.best,
                mark_label=f"best threshold {curve.thresholds[curve.best]:.2f}",
            )
            for _, one, _, curve in _with_curves(scorings, [kind])
        ]
        if lines:
            words = "" if len(kinds) == 1 else f", {KINDS_IN_WORDS[kind]}"
            title = f"Precision and recall over all pixels{words}"
            charts.append(line_chart(lines, title=title, x=Axis("recall"), y=Axis("precision")))
    return charts


def _thresholds(scorings: Sequence[Scoring], kinds: Sequence[AskedKind]) -> dict[str, dict[str, list[float]]]:
    """For each model the thresholds in use and best by two measures: each with its scores, as the table shows them."""
    result = {}
    for title, one, kind, curve in _with_curves(scorings, kinds):
        own = min(int(one.thresholds[kind] * len(curve.thresholds)), len(curve.thresholds) - 1)
        values = (curve.thresholds, curve.precision, curve.recall, curve.dice, curve.iou)
        places = {"in use": own, "best Dice": curve.best, "best mean IoU": curve.best_iou}
        result[title] = {name: [float(value[at]) for value in values] for name, at in places.items()}
    return result


def _threshold_table(scorings: Sequence[Scoring], kinds: Sequence[AskedKind]) -> str:
    rows: list[list[Cell]] = [
        [f"{title}, {name}", f"{threshold:.3f}", *values]
        for title, places in _thresholds(scorings, kinds).items()
        for name, (threshold, *values) in places.items()
    ]
    headers = ["model and threshold", "threshold", "precision", "recall", "Dice of all pixels", "mean IoU"]
    return table(headers, rows, caption="Scores at the threshold in use and at the best ones") if rows else ""


def _threshold_text(thresholds: Mapping[str, Mapping[str, Sequence[float]]], *, adapter: bool) -> str:
    text = (
        "Dice is over all pixels of this set, so large objects count for more; in the mean IoU each image counts once. "
        "Choose a threshold on images that you do not test."
    )
    for title, places in thresholds.items():
        before, after = places["in use"][-1], places["best Dice"][-1]
        if after < before:
            text += f" For {title} the threshold of the best Dice lowers the mean IoU from {before:.3f} to {after:.3f}."
    if adapter:
        text += " 'sam-adapter predict --threshold' takes it."
    return text


def _every_text(metrics: OverlapMetrics) -> str:
    count = len(metrics.per_prompt())
    if count > MOST_ROWS:
        return f"The first {MOST_ROWS:,} of {count:,} answers; per_image.csv has all. A click on a heading sorts."
    return "A click on a heading sorts."


def _every_image(dataset: PairDataset, scorings: Sequence[Scoring], kinds: Sequence[AskedKind]) -> str:
    first, *others = [one.metrics.per_prompt() for one in scorings]
    headers = ["image", *(["prompt"] if len(kinds) > 1 else [])]
    added = scorings[0].metrics.added
    headers += [entry.heading for entry in METRICS.values()]
    headers += [headings(added.names).get(name, name.replace("_", " ")) for name in added.columns]
    headers += ["wrongly marked, px", "missed, px", *(f"IoU of {one.name}" for one in scorings[1:])]
    rows: list[list[Cell]] = []
    task = dataset.task
    headers[1:1] = [task.asked_for] if task.asked_for else []
    for answer, row in list(first.items())[:MOST_ROWS]:
        empty = is_empty(row)
        cells: list[Cell] = [dataset.records[answer.index].name]
        cells += [task.asked_name(answer.label)] if task.asked_for else []
        cells += [KINDS_IN_WORDS[answer.kind]] if len(kinds) > 1 else []
        cells += [
            None if empty and name in (*METRICS, *added.means) else row[name] for name in (*METRICS, *added.columns)
        ]
        cells += [int(row[name]) for name in ("fp", "fn")]
        rows.append([*cells, *(None if empty else other[answer]["iou"] for other in others)])
    return table(headers, rows, caption="Scores of every image", sortable=True, tall=True)
