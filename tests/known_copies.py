"""Small copies of the known data sets, laid out as their authors' archives unpack."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

COD10K = [f"COD10K-CAM-1-Aquatic-{number}" for number in range(5)]
NO_COD10K = [f"COD10K-NonCAM-1-Aquatic-{number}" for number in range(2)]
CAMO = [f"camourflage_{number:05}" for number in range(5)]
KVASIR = [f"cju0qkwl35piu0993l0dewei{number}" for number in range(8)]
SHADOWS = [f"{scene}-1" for scene in range(1, 6)]


def write_pair(images: Path, masks: Path, stem: str, *, number: int, image_type: str = "jpg", mask_type: str = "png"):
    """A bright ellipse on noise, its place by the number."""
    rng = np.random.default_rng(number)
    height, width = 40 + 4 * (number % 3), 52
    rows, columns = np.mgrid[:height, :width]
    y, x = rng.uniform(0.35, 0.65, 2) * (height, width)
    mask = ((rows - y) / (0.25 * height)) ** 2 + ((columns - x) / (0.2 * width)) ** 2 < 1
    image = rng.integers(0, 120, (height, width, 3)) + mask[..., None] * 100
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(images / f"{stem}.{image_type}")
    Image.fromarray(mask.astype(np.uint8) * 255).save(masks / f"{stem}.{mask_type}")


def write_all(images: Path, masks: Path, stems: Iterable[str], *, first: int = 0, mask_type: str = "png") -> None:
    for number, stem in enumerate(stems, start=first):
        write_pair(images, masks, stem, number=number, mask_type=mask_type)


def camouflage(root: Path) -> Path:
    """The archives of COD10K, CAMO and CHAMELEON, each as its own authors pack it."""
    for first, part in ((0, "Train"), (100, "Test")):
        folder = root / "COD10K-v3" / part
        write_all(folder / "Image", folder / "GT_Object", [*COD10K, *NO_COD10K], first=first)
    camo = root / "CAMO-V.1.0-CVIU2019"
    write_all(camo / "Images/Train", camo / "GT", CAMO[:3], first=200)
    write_all(camo / "Images/Test", camo / "GT", CAMO[3:], first=300)
    write_all(root / "CHAMELEON/Imgs", root / "CHAMELEON/GT", ["animal-1", "animal-2"], first=400)
    return root


def combined_camouflage(root: Path) -> Path:
    """The archives of SINet-V2: one folder to train on, one for each test set."""
    train = root / "TrainDataset"
    write_all(train / "Imgs", train / "GT", [*COD10K, *CAMO[:3]])
    for first, (name, stems) in enumerate({"CAMO": CAMO[3:], "CHAMELEON": ["animal-1"], "COD10K": COD10K}.items()):
        folder = root / "TestDataset" / name
        write_all(folder / "Imgs", folder / "GT", stems, first=100 * first)
    return root


def shadows(root: Path) -> Path:
    """ISTD's archive: pictures with shadows (A), masks (B), and the same without shadows (C)."""
    for first, part in ((0, "train"), (100, "test")):
        folder = root / "ISTD_Dataset" / part
        for number, stem in enumerate(SHADOWS, start=first):
            kinds = [folder / f"{part}_{kind}" for kind in "ABC"]
            write_pair(kinds[0], kinds[1], stem, number=number, image_type="png")
            write_pair(kinds[2], kinds[1], stem, number=number, image_type="png")
    return root


def polyps(root: Path) -> Path:
    """Kvasir-SEG's archive and the lists of the Medico task."""
    folder = root / "Kvasir-SEG"
    write_all(folder / "images", folder / "masks", KVASIR, mask_type="jpg")
    (folder / "train.txt").write_text("\n".join(KVASIR[:5]) + "\n")
    (folder / "val.txt").write_text("\n".join(KVASIR[5:]) + "\n")
    return root
