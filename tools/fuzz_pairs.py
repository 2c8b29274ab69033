"""Damage pictures and masks in many ways, and see that `check` and the reading of what it calls good never fall over.

    python tools/fuzz_pairs.py --count 2000 --seed 0

Pairs of many formats are drawn, then bytes are flipped, cut, doubled and overwritten, and headers get other sizes.
Prints how many files were refused and how many read, and the peak memory; exits with 1 at the first traceback.
"""

import argparse
import io
import logging
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from sam_adapter.config.options import DataOptions
from sam_adapter.data.inspection.inspect import inspect
from sam_adapter.errors import SamAdapterError
from sam_adapter.system.machine import Machine

FORMATS = ("png", "jpg", "tif", "bmp", "gif", "webp", "ppm", "tga")
BATCH = 50


def drawn(rng: np.random.Generator, suffix: str) -> tuple[bytes, bytes]:
    """A picture of one disc in a format, and its mask as a PNG or in the same format."""
    height, width = (int(side) for side in rng.integers(20, 90, 2))
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2
    pixels = rng.integers(0, 120, (height, width, 3)) + disc[..., None] * 100
    image = Image.fromarray(pixels.astype(np.uint8))
    if suffix == "tif" and rng.random() < 0.5:
        image = Image.fromarray((pixels[..., 0] * 200).astype(np.uint16 if rng.random() < 0.5 else np.float32))
    mask = Image.fromarray((disc * 255).astype(np.uint8))
    mask_suffix = suffix if rng.random() < 0.3 and suffix not in ("jpg", "webp") else "png"
    return _encoded(image, suffix), _encoded(mask, mask_suffix)


def _encoded(image: Image.Image, suffix: str) -> bytes:
    stream = io.BytesIO()
    names = {"jpg": "JPEG", "tif": "TIFF", "ppm": "PPM", "tga": "TGA"}
    image.save(stream, names.get(suffix, suffix.upper()))
    return stream.getvalue()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The same bytes with one to three kinds of damage."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        match int(rng.integers(7)):
            case 0:
                del data[at:]
            case 1:
                data[at] ^= 1 << int(rng.integers(8))
            case 2:
                data[at : at + length] = rng.bytes(length)
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at : at + 4] = b"\xff\xff\xff\xff"
            case 5:  # most headers say sizes within the first bytes
                place = int(rng.integers(min(len(data), 40)))
                data[place : place + 4] = rng.bytes(4)
            case _:
                del data[at : at + length]
    return bytes(data)


def main() -> None:
    """Run and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    rng = np.random.default_rng(arguments.seed)
    counts: Counter[str] = Counter()
    machine = Machine.choose(device="cpu", precision="32")
    for start in range(0, arguments.count, BATCH):
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        for number in range(min(BATCH, arguments.count - start)):
            suffix = str(rng.choice(FORMATS))
            image, mask = drawn(rng, suffix)
            touched = int(rng.integers(3))
            for kind, content, ending, hit in (
                ("images", image, suffix, touched != 1),
                ("masks", mask, "png", touched > 0),
            ):
                path = folder / kind / f"{number:03}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(damaged(content, rng) if hit else content)
        try:
            found = inspect(DataOptions(images=folder / "images", masks=folder / "masks", faulty="skip"))
            found.report()
            counts["good"] += len(found.records)
            counts.update(fault.kind for fault in found.faults)
        except SamAdapterError as error:
            counts[f"refused whole: {str(error)[:60]}"] += 1
        except Exception:
            traceback.print_exc()
            print(f"kept: {folder} (seed {arguments.seed}, pairs {start} to {start + BATCH})")
            sys.exit(1)
        shutil.rmtree(folder)
    for name, count in counts.most_common():
        print(f"{count:6} {name}")
    print(f"peak memory {machine.peak_bytes() / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
