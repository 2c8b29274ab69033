"""What a large COCO file costs: seconds and memory to list it, and milliseconds to paint the objects of a picture.

    python benchmarks/annotations.py --images 5000 --objects 10 --points 40 --work WORK

The file is made here: `images` small JPEG files under other names, each with `objects` outlines of `points` points, as
COCO's have on average. Listing checks every entry and looks at the header of every image; a run does it once. Seconds
are those of the processor, and memory that of the process, more than before it.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sam_adapter.annotations.coco import list_coco
from sam_adapter.annotations.objects import label_map

SIZE = (480, 640)


def write_set(work: Path, images: int, objects: int, points: int) -> Path:
    """``work/images`` and ``work/instances.json``; wobbling rings of 10 to 100 pixels."""
    rng = np.random.default_rng(0)
    folder = work / "images"
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "000000.jpg"
    Image.fromarray(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)).resize((640, 480)).save(first, quality=30)
    for index in range(1, images):
        link = folder / f"{index:06}.jpg"
        if not link.exists():
            os.link(first, link)
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    annotations = []
    for index in range(images * objects):
        radius = rng.uniform(10, 100) * (1 + 0.2 * np.sin(3 * angles + rng.uniform(0, 6)))
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + rng.uniform(100, 380, 2)
        annotations.append(
            {
                "id": index + 1,
                "image_id": index // objects,
                "category_id": 1 + index % 80,
                "iscrowd": 0,
                "area": 1.0,
                "bbox": [1.0, 1.0, 2.0, 2.0],
                "segmentation": [np.round(outline, 2).ravel().tolist()],
            }
        )
    content = {
        "images": [
            {"id": index, "file_name": f"{index:06}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for index in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, 81)],
    }
    path = work / "instances.json"
    path.write_text(json.dumps(content))
    return path


def memory(name: str) -> float:
    """A line of the process's status in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    if not (file := asked.work / "instances.json").exists():
        write_set(asked.work, asked.images, asked.objects, asked.points)
        print("The set is made; run the same command again to measure, as making it took memory too.")
        return
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.process_time()
    listing = list_coco(asked.work / "images", file)
    seconds = time.process_time() - began
    peak, after = memory("VmHWM"), memory("VmRSS")
    count = sum(len(record.objects or ()) for record in listing.records)
    print(f"{file.stat().st_size / 1e6:.0f} MB, {len(listing.records)} images, {count} objects")
    print(f"listed in {seconds:.2f} s")
    print(f"memory +{after - before:.0f} MB, at its peak +{peak - before:.0f} MB")
    began = time.process_time()
    chosen = listing.records[: min(300, len(listing.records))]
    for record in chosen:
        label_map(record.objects or (), SIZE, void=255)
    print(f"painted in {(time.process_time() - began) / len(chosen) * 1e3:.2f} ms a picture of {asked.objects} objects")


if __name__ == "__main__":
    main()
