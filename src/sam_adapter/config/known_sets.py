"""The public data sets of the papers: what they are made of, where their authors publish them, and published scores.

Scores are those of "SAM-Adapter" (Chen et al., ICCV-W 2023), "SAM2-Adapter" (2024) and "SAM3-Adapter" (2025) as their
tables have them. Nothing is fetched: a set is found in the user's own copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

IMAGES = ("Imgs", "Image", "Images", "img")
MASKS = ("GT", "Masks", "Mask")
"""Names of folders in the copies that are passed around; letter case does not matter anywhere in a path."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an archive unpacks. All paths have ``/`` between folders; of several the first that is there is taken.

    Attributes:
        folders: That the archive makes, below the user's root; ``"."`` is the root.
        images: Folders of images in it.
        masks: Folders of masks in it.
        begins: How names of pictures begin, where a folder holds those of other sets too.
        masks_of_all: Whether the folder of masks holds those of other images too.
    """

    folders: tuple[str, ...]
    images: tuple[str, ...] = IMAGES
    masks: tuple[str, ...] = MASKS
    begins: str = ""
    masks_of_all: bool = False


@dataclass(frozen=True, kw_only=True)
class SetPart:
    """Pictures that are published together.

    Attributes:
        name: Of the part; begins the names of its pairs where a set has several parts.
        count: Pictures, as published.
        page: Where its authors publish it.
        layouts: The folders that it may lie in; the first that is there is taken.
        list_files: Text files with the name of a picture a line, below the root or the layout's folder: the pictures
            that are meant, where the archive itself is not divided.
        list_page: Where such a file is published.
    """

    name: str
    count: int
    page: str
    layouts: tuple[Layout, ...]
    list_files: tuple[str, ...] = ()
    list_page: str = ""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A public data set.

    Attributes:
        text: What ``--help`` says of it.
        parts: What it is made of.
        published: Method to its scores, by their names in ``METRICS`` and ``MORE_METRICS``.
        note: What else is different between published scores and those made here.
    """

    text: str
    parts: tuple[SetPart, ...]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def count(self) -> int:
        """Pictures, as published."""
        return sum(part.count for part in self.parts)


PAPERS = ("SAM-Adapter (ViT-H)", "SAM2-Adapter (Hiera-L)", "SAM3-Adapter")
_CAMOUFLAGE = ("s_measure", "e_measure", "weighted_f", "stretched_mae")


def _published(names: tuple[str, ...], *rows: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """Scores of each of `PAPERS`."""
    return {method: dict(zip(names, row, strict=True)) for method, row in zip(PAPERS, rows, strict=True)}


_COMBINED = ("TrainDataset", "TrainValDataset", "COD10K_CAMO_CombinedTrainingDataset")
"""Archives of SINet and SINet-V2, in which COD10K's and CAMO's training pictures lie side by side."""
_COD10K = "http://dpfan.net/Camouflage/"
_CAMO = "https://sites.google.com/view/ltnghia/research/camo"
_CHAMELEON = "https://www.polsl.pl/rau6/chameleon-database-animal-camouflage-analysis"
_ISTD = "https://github.com/DeepInsight-PCALab/ST-CGAN"
_KVASIR = "https://datasets.simula.no/kvasir-seg/"
_MEDICO = "https://github.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation"


def _test_folders(name: str) -> tuple[str, ...]:
    return (f"TestDataset/{name}", f"{name}_TestingDataset", f"TestDataset/{name}_TestingDataset")


def _cod10k(part: str, *others: Layout) -> tuple[Layout, ...]:
    """COD10K's own archive, of which the camouflaged pictures count, and further layouts."""
    own = Layout(
        folders=("COD10K-v3", "COD10K"),
        images=(f"{part}/Image",),
        masks=(f"{part}/GT_Object",),
        begins="COD10K-CAM-",
    )
    return (own, *others)


def _camo(part: str, *others: Layout) -> tuple[Layout, ...]:
    """CAMO's own archive, whose folder of masks has those of both parts, and further layouts."""
    own = Layout(
        folders=("CAMO-V.1.0-CVIU2019",), images=(f"Images/{part}",), masks=(f"GT/{part}", "GT"), masks_of_all=True
    )
    return (own, *others)


def _istd(part: str, count: int) -> SetPart:
    layout = Layout(folders=("ISTD_Dataset", "ISTD", "."), images=(f"{part}/{part}_A",), masks=(f"{part}/{part}_B",))
    return SetPart(name=f"ISTD-{part}", count=count, page=_ISTD, layouts=(layout,))


def _kvasir(part: str, count: int, listed: str) -> SetPart:
    return SetPart(
        name=f"Kvasir-{part}",
        count=count,
        page=_KVASIR,
        layouts=(Layout(folders=("Kvasir-SEG",), images=("images",), masks=("masks",)),),
        list_files=(listed, f"kvasir-seg-train-val/{listed}"),
        list_page=_MEDICO,
    )


KNOWN_SETS: Mapping[str, KnownSet] = {
    "camouflage_train": KnownSet(
        text="training pictures of COD10K (3,040 camouflaged) and CAMO (1,000)",
        parts=(
            SetPart(
                name="COD10K-train",
                count=3040,
                page=_COD10K,
                layouts=_cod10k("Train", Layout(folders=_COMBINED, begins="COD10K-CAM-")),
            ),
            SetPart(
                name="CAMO-train",
                count=1000,
                page=_CAMO,
                layouts=_camo("Train", Layout(folders=_COMBINED, begins="camourflage_")),
            ),
        ),
    ),
    "chameleon": KnownSet(
        text="CHAMELEON, 76 test pictures",
        parts=(
            SetPart(
                name="CHAMELEON",
                count=76,
                page=_CHAMELEON,
                layouts=(Layout(folders=(*_test_folders("CHAMELEON"), "CHAMELEON")),),
            ),
        ),
        published=_published(
            _CAMOUFLAGE, (0.896, 0.919, 0.824, 0.033), (0.915, 0.955, 0.889, 0.018), (0.944, 0.972, 0.908, 0.016)
        ),
    ),
    "camo_test": KnownSet(
        text="CAMO's 250 test pictures",
        parts=(
            SetPart(
                name="CAMO-test",
                count=250,
                page=_CAMO,
                layouts=_camo("Test", Layout(folders=(*_test_folders("CAMO"), "CAMO"))),
            ),
        ),
        published=_published(
            _CAMOUFLAGE, (0.847, 0.873, 0.765, 0.070), (0.855, 0.909, 0.810, 0.051), (0.919, 0.954, 0.875, 0.029)
        ),
    ),
    "cod10k_test": KnownSet(
        text="COD10K's 2,026 camouflaged test pictures",
        parts=(
            SetPart(
                name="COD10K-test",
                count=2026,
                page=_COD10K,
                layouts=_cod10k("Test", Layout(folders=_test_folders("COD10K"), begins="COD10K-CAM-")),
            ),
        ),
        published=_published(
            _CAMOUFLAGE, (0.883, 0.918, 0.801, 0.025), (0.899, 0.950, 0.850, 0.018), (0.927, 0.965, 0.882, 0.015)
        ),
    ),
    "istd_train": KnownSet(text="ISTD's 1,330 training pictures of shadows", parts=(_istd("train", 1330),)),
    "istd_test": KnownSet(
        text="ISTD's 540 test pictures of shadows",
        parts=(_istd("test", 540),),
        published=_published(("mean_ber",), (1.43,), (1.43,), (1.14,)),
        note="The papers' BER is a mean over pictures: mean BER, not BER, which is over all pixels of the set.",
    ),
    "kvasir_train": KnownSet(
        text="Kvasir-SEG, the 880 pictures of polyps that the Medico task of 2020 trains on",
        parts=(_kvasir("train", 880, "train.txt"),),
    ),
    "kvasir_test": KnownSet(
        text="Kvasir-SEG, the 120 pictures of polyps that the Medico task of 2020 validates on",
        parts=(_kvasir("test", 120, "val.txt"),),
        published=_published(("dice", "iou"), (0.850, 0.776), (0.873, 0.806), (0.906, 0.842)),
        note=(
            "The papers name the division of the Medico task of 2020 and list no files; its organisers published these "
            "120 for validation, and a further test set without masks."
        ),
    ),
}
"""Public data sets by name."""
