"""Small files of annotations in each format, made on the spot; none of their pictures has the size of another."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

SIZES = {"day1/a": (40, 60), "day1/b": (41, 61), "c": (42, 62)}
"""Name of each image to its ``(H, W)``."""
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
"""A polygon of 20x20 pixels."""


def write_images(folder: Path) -> Path:
    """``folder/images`` with the images of `SIZES`."""
    for name, (height, width) in SIZES.items():
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (90, 80, 70)).save(path)
    return folder / "images"


def coco(**changes: Any) -> dict[str, Any]:
    """A COCO file: two objects in the first image, one in the second, none in the third."""
    images = [
        {"id": number, "file_name": f"{name}.png", "height": height, "width": width}
        for number, (name, (height, width)) in enumerate(SIZES.items(), start=7)
    ]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": [[*SQUARE]], "bbox": [10, 5, 20, 20]},
        {"id": 2, "image_id": 7, "category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 4], [40, 30, 50, 30, 45, 38]]},
        {"id": 5, "image_id": 8, "category_id": 1, "segmentation": [[*SQUARE]]},
    ]
    categories = [{"id": 3, "name": "car"}, {"id": 1, "name": "bus"}, {"id": 2, "name": "tram"}]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def shape(label: str, points: list[list[float]], kind: str | None = "polygon", group: Any = None, **more: Any) -> dict:
    """A shape of labelme."""
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **more}


def labelme(name: str, *shapes: Any, **changes: Any) -> dict[str, Any]:
    """A file of labelme for one of the images."""
    height, width = SIZES[name]
    values = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "elsewhere.jpg", "imageData": None}
    return {**values, "imageHeight": height, "imageWidth": width, **changes}
