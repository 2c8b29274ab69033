"""What is known of each object that was found: a row of a table, and an entry of a COCO file."""

import csv
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations.run_lengths import run_lengths_of, run_lengths_of_part
from ..errors import amount
from ..system.writing import writing_to, written_beside
from ..tasks.label_maps import boxes_of
from ..tasks.object_prediction import ObjectPrediction
from ..tasks.parts import BAND_PIXELS

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ObjectRow:
    """One object; lengths are in pixels of the picture.

    Attributes:
        picture: Name of the picture, as its results are named.
        id: Value in the label map.
        class_name: ``object`` where there are no classes.
        score: From 0 to 1; ranks the objects.
        area: Pixels.
        left, top, width, height: Of the box around it.
        centre_x, centre_y: Of its area.
        diameter: Of the circle of the same area.
        brightness: Mean grey of the picture inside it, from 0 to 255.
    """

    picture: str
    id: int
    class_name: str
    score: float
    area: int
    left: int
    top: int
    width: int
    height: int
    centre_x: float
    centre_y: float
    diameter: float
    brightness: float


def described_objects(
    name: str, prediction: ObjectPrediction, image: np.ndarray
) -> tuple[list[ObjectRow], dict[int, dict[str, Any]]]:
    """The objects of a picture that have a pixel: a row each, and by number the run lengths that COCO has.

    Those that prompts ask for have all of their own mask, whether other ones cover it in the label map or not.

    Args:
        name: Of the picture.
        prediction: What was found.
        image: ``(H, W, 3)`` uint8.
    """
    if not prediction.asked_for:
        return object_rows(name, prediction, image), run_lengths_of(prediction.objects.labels)
    rows: list[ObjectRow] = []
    outlines: dict[int, dict[str, Any]] = {}
    scores, names = prediction.objects.scores, prediction.class_names
    for at in range(len(prediction)):
        part = prediction.part(at)
        if part is None:
            continue
        down, right = np.nonzero(part.mask)
        inside = image[part.rows, part.columns][part.mask]
        rows.append(
            _row(
                (name, at + 1, names[at], float(scores[at])),
                (part.rows, part.columns),
                area=len(down),
                centre=(float(right.mean()) + part.columns.start, float(down.mean()) + part.rows.start),
                brightness=float(inside.mean(dtype=np.float64)),
            )
        )
        corner = (part.rows.start, part.columns.start)
        outlines[at + 1] = run_lengths_of_part(part.mask, corner, prediction.original_size)
    return rows, outlines


def object_rows(name: str, prediction: ObjectPrediction, image: np.ndarray) -> list[ObjectRow]:
    """The objects of a picture as its label map shows them.

    Args:
        name: Of the picture.
        prediction: What was found.
        image: ``(H, W, 3)`` uint8.
    """
    labels, scores = prediction.objects.labels, prediction.objects.scores
    areas, grey, right, down = np.zeros((4, len(scores) + 1))
    for top in range(0, labels.shape[0], step := max(BAND_PIXELS // labels.shape[1], 1)):
        band = labels[top : top + step]
        rows, columns = np.nonzero(band)
        inside = band[rows, columns]
        brightness = image[top : top + step][rows, columns].mean(1, dtype=np.float32)
        for sums, values in ((areas, None), (grey, brightness), (right, columns), (down, rows + top)):
            sums += np.bincount(inside, weights=values, minlength=len(sums))
    names = prediction.class_names
    return [
        _row(
            (name, number, names[number - 1], float(scores[number - 1])),
            box,
            area=int(areas[number]),
            centre=(right[number] / areas[number], down[number] / areas[number]),
            brightness=grey[number] / areas[number],
        )
        for number, box in boxes_of(labels, void=None).items()
    ]


def _row(
    what: tuple[str, int, str, float],
    box: tuple[slice, slice],
    *,
    area: int,
    centre: tuple[float, float],
    brightness: float,
) -> ObjectRow:
    """A row of an object: its picture, number, class and score, its rows and columns, its centre XY."""
    picture, number, class_name, score = what
    return ObjectRow(
        picture=picture,
        id=number,
        class_name=class_name,
        score=round(score, 4),
        area=area,
        left=box[1].start,
        top=box[0].start,
        width=box[1].stop - box[1].start,
        height=box[0].stop - box[0].start,
        centre_x=round(centre[0], 2),
        centre_y=round(centre[1], 2),
        diameter=round(2 * float(np.sqrt(area / np.pi)), 2),
        brightness=round(brightness, 2),
    )


TABLES = ("objects.csv", "objects.json")
"""Files of all pictures together."""


class ObjectTables:
    """Collects the objects of a folder's pictures from several threads; writes ``objects.csv`` and ``objects.json``.

    Args:
        folder: Where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._pictures: dict[str, tuple[dict[str, Any], list[ObjectRow], dict[int, dict[str, Any]]]] = {}
        self._classes: tuple[str, ...] = ("object",)
        self._covered = self._empty = 0

    def add(self, name: str, file_name: str, prediction: ObjectPrediction, image: np.ndarray) -> None:
        """Take up the objects of one picture."""
        rows, outlines = described_objects(name, prediction, image)
        shown = np.zeros(len(prediction) + 1, bool)
        if prediction.asked_for:
            for row in prediction.objects.labels:
                shown[row] = True
        height, width = prediction.original_size
        entry = {"file_name": file_name, "height": height, "width": width}
        with self._lock:
            self._pictures[name] = (entry, rows, outlines)
            if prediction.asked_for:
                self._covered += sum(not shown[row.id] for row in rows)
                self._empty += len(prediction) - len(rows)
            if prediction.classes is not None:
                self._classes = prediction.classes.names

    def remove(self) -> None:
        """Remove the files of an earlier run, as they tell of other objects than those that are written now."""
        older = [name for name in TABLES if (self.folder / name).is_file()]
        for name in older:
            with writing_to(self.folder / name):
                (self.folder / name).unlink()
        if older:
            log.info("Removed %s of an earlier run from '%s'", " and ".join(older), self.folder)

    def write(self) -> None:
        """Write both files, pictures in the order of their names; nothing if no picture was taken up."""
        if not self._pictures:
            return
        if self._covered:
            log.warning(
                "The label maps in masks/ cannot show %s that better ones cover as a whole; the rows are in "
                "objects.csv and objects.json.",
                amount(self._covered, "mask"),
            )
        if self._empty:
            log.warning("%s got an empty mask, and no row in objects.csv.", amount(self._empty, "prompt"))
        pictures = [self._pictures[name] for name in sorted(self._pictures)]
        table, coco = (self.folder / name for name in TABLES)
        _write_csv(table, [row for _, rows, _ in pictures for row in rows])
        with written_beside(coco) as partial:
            partial.write_text(json.dumps(self._coco(pictures), ensure_ascii=False) + "\n", encoding="utf-8")

    def _coco(
        self, pictures: Sequence[tuple[dict[str, Any], list[ObjectRow], dict[int, dict[str, Any]]]]
    ) -> dict[str, Any]:
        numbers = {name: number for number, name in enumerate(self._classes, start=1)}
        images, annotations = [], []
        for image_id, (entry, rows, outlines) in enumerate(pictures, start=1):
            images.append({"id": image_id, **entry})
            for row in rows:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": numbers[row.class_name],
                        "score": row.score,
                        "area": row.area,
                        "bbox": [row.left, row.top, row.width, row.height],
                        "iscrowd": 0,
                        "segmentation": outlines[row.id],
                    }
                )
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
        return {"images": images, "annotations": annotations, "categories": categories}


def _write_csv(path: Path, rows: Sequence[ObjectRow]) -> None:
    names = [field.name for field in fields(ObjectRow)]
    with written_beside(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class" if name == "class_name" else name for name in names])
        writer.writerows([getattr(row, name) for name in names] for row in rows)
