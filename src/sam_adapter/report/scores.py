"""The page that ``evaluate --report true`` writes: one model, or several side by side, on one data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import EvaluateConfig
from ..data.reading import read_image, read_mask
from ..data.sources import Record
from ..drawing import error_map, overlay, with_prompt
from ..evaluation import Scoring, telling_images
from .charts import Axis, Series, line_chart
from .figures import Picture, mask_picture
from .page import Case, Section, charts_row, error_legend, gallery, page, table, write_page

if TYPE_CHECKING:
    from ..metrics import ThresholdCurve

MOST_ROWS = 5000
"""Longer tables make browsers slow; per_image.csv has them all."""


def write_scores_page(path: Path, config: EvaluateConfig, records: Sequence[Record], scorings: list[Scoring]) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        config: How was scored.
        records: The images.
        scorings: The model in question first, then those it is compared with.
    """
    asked = {"none": "no prompt", "mixed": "box, points or no prompt"}.get(config.prompt, config.prompt)
    first = scorings[0]
    lead = f"{len(records)} images from {config.images}, prompt: {asked}. Scored: {_listed(scorings)}."
    sections = [
        Section(
            "Scores",
            "Means over all images; BER over all pixels. Higher is better, but for MAE and BER.",
            _scores(scorings),
        ),
        Section("How the scores are spread", "", charts_row(spread_chart(scorings), *_curves(scorings))),
        Section("What another threshold would give", _threshold_text(scorings), _thresholds(scorings)),
        Section(
            "Worst, median and best images",
            f"Chosen by the IoU of {first.name}. The prompt, if there is one, is drawn in yellow.",
            error_legend() + gallery(_cases(config, records, scorings)),
        ),
        Section("Every image", _every_text(len(records)), _every_image(records, scorings)),
    ]
    write_page(path, page(f"Evaluation of {first.name}", lead, sections))


def spread_chart(scorings: Sequence[Scoring]) -> str:
    """IoU of each image, sorted, a line for each model."""
    lines = []
    for one in scorings:
        values = sorted(scores["iou"] for scores in one.metrics.per_image().values())
        step = 100 / max(len(values) - 1, 1)
        thin = max(len(values) // 400, 1)
        lines.append(Series(one.name, [(at * step, value) for at, value in enumerate(values) if at % thin == 0]))
    return line_chart(
        lines,
        title="IoU of every image, from worst to best",
        x=Axis("images, %", 0, 100),
        y=Axis("IoU"),
    )


def _listed(scorings: Sequence[Scoring]) -> str:
    return ", ".join(f"{one.name} ({one.method})" if one.method != "none" else one.name for one in scorings)


def _scores(scorings: Sequence[Scoring]) -> str:
    rows = []
    for one in scorings:
        means = one.metrics.compute()
        ious = sorted(scores["iou"] for scores in one.metrics.per_image().values())
        iou, dice, mae, ber = (means.get(name, float("nan")) for name in ("iou", "dice", "mae", "ber"))
        rows.append([one.name, iou, ious[len(ious) // 2], dice, mae, f"{ber:.2f}"])
    return table(["model", "IoU", "median IoU", "Dice", "MAE", "BER %"], rows, caption="Scores of each model")


def _with_curves(scorings: Sequence[Scoring]) -> list[tuple[Scoring, "ThresholdCurve"]]:
    return [(one, one.curve) for one in scorings if one.curve is not None]


def _curves(scorings: Sequence[Scoring]) -> list[str]:
    lines = [
        Series(
            one.name,
            list(zip(curve.recall.tolist(), curve.precision.tolist(), strict=True)),
            mark=curve.best,
            mark_label=f"best threshold {curve.thresholds[curve.best]:.2f}",
        )
        for one, curve in _with_curves(scorings)
    ]
    title = "Precision and recall over all pixels"
    return [line_chart(lines, title=title, x=Axis("recall"), y=Axis("precision"))]


def _thresholds(scorings: Sequence[Scoring]) -> str:
    rows = []
    for one, curve in _with_curves(scorings):
        own, best = min(int(one.threshold * len(curve.thresholds)), len(curve.thresholds) - 1), curve.best
        for kind, at in (("in use", own), ("best Dice", best)):
            values = (curve.precision, curve.recall, curve.dice, curve.iou)
            rows.append([f"{one.name}, {kind}", f"{curve.thresholds[at]:.3f}", *(float(value[at]) for value in values)])
    headers = ["model and threshold", "threshold", "precision", "recall", "Dice of all pixels", "mean IoU"]
    return table(headers, rows, caption="Scores at the threshold in use and at the best one")


def _threshold_text(scorings: Sequence[Scoring]) -> str:
    text = (
        "The best threshold has the highest Dice over all pixels of this set; choose it on images that you do not test."
    )
    if scorings[0].method != "none":
        text += " 'sam-adapter predict --threshold' takes it."
    return text


def _cases(config: EvaluateConfig, records: Sequence[Record], scorings: Sequence[Scoring]) -> list[Case]:
    first = scorings[0]
    scores = [one.metrics.per_image() for one in scorings]
    cases = []
    for index, kind in telling_images(first.metrics).items():
        image = read_image(records[index].image)
        target, _ = read_mask(records[index].mask, config.mask_rule)
        name = records[index].name
        pictures = [
            Picture(with_prompt(image, first.prompts[index][0]), "image", f"Image {name}"),
            Picture(mask_picture(target), "ground truth", f"Ground truth mask of {name}", exact=True),
            Picture(
                overlay(image, first.masks[index]),
                f"prediction of {first.name}",
                f"Image {name} with the predicted mask tinted and outlined",
            ),
        ]
        for one, per_image in zip(scorings, scores, strict=True):
            row = per_image[index]
            alt = f"Errors of {one.name} on {name}: {row['fp']:.0f} pixels wrongly marked, {row['fn']:.0f} missed"
            caption = f"errors of {one.name}, IoU {row['iou']:.3f}"
            pictures.append(Picture(error_map(image, one.masks[index], target), caption, alt, exact=True))
        cases.append(Case(f"{kind}: {name}, IoU {scores[0][index]['iou']:.3f}", pictures))
    return cases


def _every_text(count: int) -> str:
    if count > MOST_ROWS:
        return f"The first {MOST_ROWS:,} of {count:,} images; per_image.csv has all. A click on a heading sorts."
    return "A click on a heading sorts."


def _every_image(records: Sequence[Record], scorings: Sequence[Scoring]) -> str:
    first, *others = [one.metrics.per_image() for one in scorings]
    headers = ["image", "IoU", "Dice", "MAE", "wrongly marked, px", "missed, px"]
    headers += [f"IoU of {one.name}" for one in scorings[1:]]
    rows = [
        [
            records[index].name,
            *(row[name] for name in ("iou", "dice", "mae")),
            *(int(row[name]) for name in ("fp", "fn")),
            *(other[index]["iou"] for other in others),
        ]
        for index, row in list(first.items())[:MOST_ROWS]
    ]
    return table(headers, rows, caption="Scores of every image", sortable=True, tall=True)
