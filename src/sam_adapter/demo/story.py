"""What the demonstration shows: one table in words, and the page with curves and pictures."""

import csv
import json
from typing import Any

import numpy as np
import torch

from .. import Predictor, load
from ..annotations.reading.files import read_image, read_mask
from ..batch import Prompt
from ..report.charts import Axis, Series, line_chart
from ..report.drawing import error_map, overlay, with_prompt
from ..report.figures import Picture, high_frequency_picture, mask_picture
from ..report.page import Case, Cell, Section, charts_row, commands, error_legend, gallery, page, table, write_page
from ..training.curves import read_curve
from ..training.run_folder import read_metrics
from .crowd_story import TEXT as CROWDS_TEXT
from .crowd_story import crowds_part
from .jobs import METHODS, MODEL, TITLES, Places, Row
from .objects import TITLES as CROWD_TITLES
from .objects import CrowdRow

NEXT = (
    ("sam-adapter check --images IMAGES --masks MASKS", "Look for faults in your data"),
    ("sam-adapter train --images IMAGES --masks MASKS --model vit_b --output run", "Train an adapter for Meta's SAM"),
    (
        "sam-adapter evaluate --images IMAGES --masks MASKS --adapter run/adapter --with-frozen --report "
        "--output scores",
        "Score it beside the frozen SAM, on images that it was not trained on",
    ),
)
"""What to do on one's own data: the command, and what for."""

HEADERS = ("model", "IoU, box", "Dice, box", "IoU, no prompt", "Dice, no prompt", "trained parameters", "file, MB")
CASES = 6
PLAIN_CASES = 7


def text_table(rows: list[Row], plain: dict[str, float]) -> str:
    """The table as lines of text."""
    lines = [f"{'':<24}{'with a box':>16}{'no prompt':>18}"]
    lines.append(f"{'camouflaged scenes':<24}{'IoU':>8}{'Dice':>8}{'IoU':>10}{'Dice':>8}{'trained':>12}{'file':>10}")
    for title, *scores, trained, size in _cells(rows):
        shown = [f"{value:.3f}" for value in scores]
        file = f"{size:.1f} MB" if size else "-"
        lines.append(f"{title:<24}{shown[0]:>8}{shown[1]:>8}{shown[2]:>10}{shown[3]:>8}{trained:>12,}{file:>10}")
    lines.append(f"\n{'frozen on plain scenes':<24}{plain['iou']:>8.3f}{plain['dice']:>8.3f}")
    return "\n".join(lines)


def crowds_text(rows: list[CrowdRow]) -> str:
    """The table of objects as lines of text."""
    lines = [f"{'objects of crowds':<34}{'AP50':>8}{'F1':>8}{'miscounted':>12}"]
    lines += [f"{CROWD_TITLES[row.model]:<34}{row.ap50:>8.3f}{row.f1:>8.3f}{row.count_error:>12.1f}" for row in rows]
    return "\n".join(lines)


def write_story(places: Places, rows: list[Row], plain: dict[str, float], crowds: list[CrowdRow]) -> None:
    """Write report.html.

    Args:
        places: Where scenes, scores and adapters are.
        rows: The table.
        plain: The frozen model's scores on plain scenes with a box.
        crowds: The table of objects.
    """
    of = {(row.model, row.prompt): row.iou for row in rows}
    lead = (
        "A small SAM learned to cut objects out of plain scenes and crowds: given a box in a plain scene it reaches an "
        f"IoU of {plain['iou']:.2f}. "
        "On camouflaged scenes, where an object differs from its surroundings in fine texture alone, it falls to "
        f"{of['frozen', 'box']:.2f} with a box and {of['frozen', 'none']:.2f} without a prompt. An adapter that feeds "
        "the image's high frequencies into the frozen encoder lifts it to "
        f"{of['sam_adapter', 'box']:.2f} and {of['sam_adapter', 'none']:.2f}; training the mask decoder alone for as "
        f"long, to {of['decoder', 'box']:.2f} and {of['decoder', 'none']:.2f}."
    )
    cells: list[list[Cell]] = [[*row[:5], row[5], f"{row[6]:.1f}" if row[6] else None] for row in _cells(rows)]
    cells.append(["SAM, frozen, on plain scenes", plain["iou"], plain["dice"], None, None, 0, None])
    sections = [
        Section("Scores on held-out scenes", _table_text(), table(HEADERS, cells, caption="Scores of each model")),
        Section(
            "Training",
            "On scenes that are not scored; each was asked about with a box, with a point and without a prompt.",
            _training(places),
        ),
        Section(
            "Plain scenes: the frozen model is at home",
            "What it marks, given the yellow box. From its worst to its best scenes in equal steps.",
            gallery([Case("", _plain_pictures(places))]),
        ),
        Section(
            "Camouflage: frozen and adapted",
            "The scenes are ranked by the IoU of SAM-Adapter with a box and shown in equal steps, the worst and the "
            "best among them. The last picture is what the adapter sees beside the image: its high frequencies.",
            error_legend() + gallery(_camouflage_cases(places)),
        ),
        Section("Objects: found and counted without a prompt", CROWDS_TEXT, crowds_part(places, crowds)),
        Section("Next, on your own data", "", commands([(f"{purpose}:", command) for command, purpose in NEXT])),
    ]
    write_page(places.output / "report.html", page("Why SAM-Adapter: a demonstration", lead, sections))


def _table_text() -> str:
    return (
        "'Fill the box' marks the whole box, or the whole picture when there is none: what no model at all would "
        "score. The file is what is stored beside the base model (for the frozen row, the base itself)."
    )


def _cells(rows: list[Row]) -> list[tuple[str, float, float, float, float, int, float]]:
    """Title, the four scores, trained parameters and megabytes of each model."""
    found = {(row.model, row.prompt): row for row in rows}
    result = []
    for model in dict.fromkeys(row.model for row in rows):
        box, none = found[model, "box"], found[model, "none"]
        numbers = (box.iou, box.dice, none.iou, none.dice)
        result.append((TITLES[model], *numbers, box.trained_parameters, box.file_bytes / 1e6))
    return result


def _training(places: Places) -> str:
    tables = {TITLES[method]: read_metrics(places.run(method) / "metrics.csv") for method in METHODS}
    charts = []
    for score, label in (("loss", "loss"), ("iou", "IoU")):
        lines = [Series(title, read_curve(rows, f"train_{score}")) for title, rows in tables.items()]
        values = [value for line in lines for _, value in line.points]
        last = max(at for line in lines for at, _ in line.points)
        top = max(values) * 1.1 if score == "loss" else 1.0
        x = Axis("epoch", 0 if last == 1 else 1, last, whole=True)
        charts.append(line_chart(lines, title=f"Training {label}", x=x, y=Axis(label, 0, top)))
    return charts_row(*charts)


def _ranked(places: Places, scores: str, count: int) -> list[tuple[str, float]]:
    """Names and IoU of images from the worst to the best in equal steps of rank."""
    with (places.output / "scores" / scores / "per_image.csv").open(newline="") as file:
        ranked = sorted((float(row["iou"]), row["name"]) for row in csv.DictReader(file))
    steps = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [(ranked[at][1], ranked[at][0]) for at in steps]


def _boxes(places: Places, scores: str) -> dict[str, Any]:
    return json.loads((places.output / "scores" / scores / "prompts.json").read_text())


def _box_prompt(box: list[float]) -> Prompt:
    return Prompt(box=torch.tensor(box))


def _plain_pictures(places: Places) -> list[Picture]:
    predictor = Predictor(load(model=MODEL), device="cpu")
    boxes = _boxes(places, "frozen_plain_box")
    pictures = []
    for name, iou in _ranked(places, "frozen_plain_box", PLAIN_CASES):
        image = read_image(places.plain / "images" / f"{name}.png")
        box = boxes[f"{name}.png"]["box"]
        predictor.set_image(image)
        mask = predictor.predict(box=box).masks[0].numpy()
        drawn = with_prompt(overlay(image, mask), _box_prompt(box))
        pictures.append(Picture(drawn, f"IoU {iou:.2f}", f"Plain scene {name} with the frozen model's mask"))
    return pictures


def _camouflage_cases(places: Places) -> list[Case]:
    adapted = load(places.run("sam_adapter") / "adapter")
    predictors = {
        "frozen": Predictor(load(model=MODEL), device="cpu"),
        "adapted": Predictor(adapted, device="cpu"),
    }
    rate = adapted.method.adapter.high_frequency_rate if adapted.method.adapter else 0.25
    boxes = _boxes(places, "sam_adapter_box")
    cases = []
    for name, _ in _ranked(places, "sam_adapter_box", CASES):
        image = read_image(places.test / "images" / f"{name}.png")
        target, _ = read_mask(places.test / "masks" / f"{name}.png")
        box = boxes[f"{name}.png"]["box"]
        pictures = [
            Picture(with_prompt(image, _box_prompt(box)), "image and box", f"Camouflaged scene {name} with its box"),
            Picture(mask_picture(target), "ground truth", f"Ground truth mask of {name}", exact=True),
        ]
        for predictor in predictors.values():
            predictor.set_image(image)
        for words, prompt in (("with box", {"box": box}), ("no prompt", {})):
            for who, predictor in predictors.items():
                mask = predictor.predict(**prompt).masks[0].numpy()
                iou = (mask & target).sum() / max((mask | target).sum(), 1)
                alt = f"Errors of the {who} model on {name}, {words}"
                pictures.append(Picture(error_map(image, mask, target), f"{who}, {words}: {iou:.2f}", alt, exact=True))
        frequencies = high_frequency_picture(adapted.preprocessing.pixel_values(image), rate)
        pictures.append(Picture(frequencies, "high frequencies", f"High frequencies of {name}"))
        cases.append(Case(name.replace("_", " "), pictures))
    return cases
