"""What the demonstration shows of objects: a table, and pictures of what each model found."""

import numpy as np
from PIL import Image

from .. import Predictor, load
from ..annotations.reading.files import read_image
from ..evaluation.object_cases import counts_in_words, errors_drawn, object_legend
from ..report.figures import Picture
from ..report.objects import fitted, outlined
from ..report.page import Case, Cell, gallery, table
from ..segmenter import SamSegmenter
from ..tasks.metrics.matching import find_overlaps
from ..tasks.metrics.object_errors import object_errors
from ..tasks.object_prediction import ObjectPrediction
from .jobs import MODEL, Places
from .objects import TITLES, CrowdRow

HEADERS = ("model", "AP50", "F1", "objects miscounted a picture")
CASES = 4
TEXT = (
    "Another adapter, trained in about half a minute on other crowds, finds all objects of a picture at once: cells, "
    "seeds, pores, things that touch and look alike. Beside it the frozen model, whose prompts for this are not "
    "trained, and Otsu's threshold split by shape, which needs no model. F1 is of objects that fit at an IoU of .5. "
    "The held-out crowds are shown from few objects to many in equal steps."
)


def crowds_part(places: Places, rows: list[CrowdRow]) -> str:
    """The table, and what the frozen and the adapted model found in some held-out crowds."""
    cells: list[list[Cell]] = [[TITLES[row.model], row.ap50, row.f1, f"{row.count_error:.1f}"] for row in rows]
    return table(HEADERS, cells, caption="Scores of objects") + object_legend() + gallery(_cases(places))


def _cases(places: Places) -> list[Case]:
    adapted = load(places.run("objects") / "adapter")
    frozen = SamSegmenter.frozen(
        MODEL, preprocessing=adapted.preprocessing, task=adapted.task, class_names=adapted.class_names
    )
    predictors = {who: Predictor(one, device="cpu") for who, one in (("frozen", frozen), ("SAM-Adapter", adapted))}
    files = sorted((places.crowds_test / "masks").iterdir())
    truths = {file.stem: np.asarray(Image.open(file)).astype(np.int32) for file in files}
    ranked = sorted(truths, key=lambda name: len(np.unique(truths[name])))
    steps = np.linspace(0, len(ranked) - 1, min(CASES, len(ranked))).round().astype(int)
    return [_case(places, predictors, ranked[at], truths[ranked[at]]) for at in steps]


def _case(places: Places, predictors: dict[str, Predictor], name: str, truth: np.ndarray) -> Case:
    image = read_image(places.crowds_test / "images" / f"{name}.png")
    small, true_small = fitted(image), fitted(truth)
    pictures = [
        Picture(small, "image", f"Crowd {name}"),
        Picture(outlined(small, true_small), "true objects", f"Crowd {name} with the outlines of its objects"),
    ]
    for who, predictor in predictors.items():
        predictor.set_image(image)
        found = predictor.predict_all()
        assert isinstance(found, ObjectPrediction)
        labels = found.objects.labels
        errors = object_errors(find_overlaps(truth, labels), [1])
        words = f"{who}: {len(found)} found, {counts_in_words(errors)}"
        drawn = errors_drawn(small, true_small, fitted(labels), errors)
        pictures.append(Picture(drawn, words, f"Objects on {name}: {words}", exact=True))
    return Case(f"{name.replace('_', ' ')}: {len(np.unique(truth)) - 1} objects", pictures)
