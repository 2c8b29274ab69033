"""Known data sets: found in the layouts of their archives, with all that is missing named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import known_copies
from sam_adapter.annotations.known import KIND, list_known
from sam_adapter.annotations.sources import listing_of
from sam_adapter.check.doctor import examine
from sam_adapter.config.commands import CheckConfig
from sam_adapter.config.known_sets import KNOWN_SETS, PAPERS, SetPart
from sam_adapter.config.options import DataOptions
from sam_adapter.errors import ConfigError, DataError

PARTS = {part.name: part for entry in KNOWN_SETS.values() for part in entry.parts}
CAMOUFLAGE = [f"COD10K-train/{one}" for one in known_copies.COD10K]
CAMOUFLAGE += [f"CAMO-train/{one}" for one in known_copies.CAMO[:3]]
PUBLISHED = {
    "chameleon": ("s_measure", 0.896, 0.915, 0.944),
    "camo_test": ("stretched_mae", 0.070, 0.051, 0.029),
    "cod10k_test": ("weighted_f", 0.801, 0.850, 0.882),
    "istd_test": ("mean_ber", 1.43, 1.43, 1.14),
    "kvasir_test": ("iou", 0.776, 0.806, 0.842),
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every set as its own authors pack it."""
    root = tmp_path_factory.mktemp("copies")
    for write in (known_copies.camouflage, known_copies.shadows, known_copies.polyps):
        write(root)
    return root


def names(name: str, root: Path) -> list[str]:
    return [record.name for record in list_known(name, root).records]


@pytest.mark.parametrize(
    ("name", "expected", "images", "masks"),
    [
        (
            "camouflage_train",
            CAMOUFLAGE,
            "COD10K-v3/Train/Image",
            "COD10K-v3/Train/GT_Object",
        ),
        ("cod10k_test", known_copies.COD10K, "COD10K-v3/Test/Image", "COD10K-v3/Test/GT_Object"),
        ("camo_test", known_copies.CAMO[3:], "CAMO-V.1.0-CVIU2019/Images/Test", "CAMO-V.1.0-CVIU2019/GT"),
        ("chameleon", ["animal-1", "animal-2"], "CHAMELEON/Imgs", "CHAMELEON/GT"),
        ("istd_train", known_copies.SHADOWS, "ISTD_Dataset/train/train_A", "ISTD_Dataset/train/train_B"),
        ("istd_test", known_copies.SHADOWS, "ISTD_Dataset/test/test_A", "ISTD_Dataset/test/test_B"),
        ("kvasir_train", known_copies.KVASIR[:5], "Kvasir-SEG/images", "Kvasir-SEG/masks"),
        ("kvasir_test", known_copies.KVASIR[5:], "Kvasir-SEG/images", "Kvasir-SEG/masks"),
    ],
)
def test_every_set_is_found_as_its_authors_pack_it(
    copies: Path, name: str, expected: list[str], images: str, masks: str
):
    listing = list_known(name, copies)
    assert [record.name for record in listing.records] == expected
    first = listing.records[0]
    assert (first.image.parent, first.mask.parent) == (copies / images, copies / masks)
    assert first.image.stem == first.mask.stem == expected[0].rpartition("/")[2]
    assert [*listing.images_without_mask, *listing.masks_without_image, *listing.duplicates] == []
    assert all(problem.remark and problem.kind == KIND for problem in listing.problems)
    assert len(listing.problems) == len(KNOWN_SETS[name].parts)


def test_the_archives_of_sinet_v2(tmp_path: Path):
    root = known_copies.combined_camouflage(tmp_path)
    assert names("camouflage_train", root) == CAMOUFLAGE
    assert names("camo_test", root) == known_copies.CAMO[3:]
    assert names("cod10k_test", root) == known_copies.COD10K
    assert names("chameleon", root) == ["animal-1"]


@pytest.mark.parametrize(
    "move",
    [
        lambda root: (root / "CHAMELEON/Imgs").rename(root / "CHAMELEON/images"),
        lambda root: (root / "CHAMELEON/GT").rename(root / "CHAMELEON/masks"),
        lambda root: (root / "CHAMELEON").rename(root / "CHAMELEON_TestingDataset"),
        lambda root: (root / "CHAMELEON").rename(root / "Chameleon"),
        lambda root: shutil.move(root / "CHAMELEON", root / "testdataset/CHAMELEON"),
        lambda root: (
            shutil.move(root / "CHAMELEON", root / "CHAMELEON_/CHAMELEON")
            and shutil.move(root / "CHAMELEON_", root / "CHAMELEON")
        ),
    ],
    ids=["images", "masks", "archive of SINet", "case", "one folder deeper", "a folder of its own name"],
)
def test_other_spellings(tmp_path: Path, move: Callable[[Path], object]):
    known_copies.write_all(tmp_path / "CHAMELEON/Imgs", tmp_path / "CHAMELEON/GT", ["a", "b"])
    for folder in ("testdataset", "CHAMELEON_"):
        (tmp_path / folder).mkdir()
    move(tmp_path)
    assert names("chameleon", tmp_path) == ["a", "b"]


def test_equal_stems_of_several_parts_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known_copies.write_all(tmp_path / "A/Imgs", tmp_path / "A/GT", ["x"])
    known_copies.write_all(tmp_path / "B/Imgs", tmp_path / "B/GT", ["x"])
    layouts = PARTS["CHAMELEON"].layouts[0]
    parts = tuple(
        SetPart(name=name, count=1, page="p", layouts=(type(layouts)(folders=(name,)),)) for name in ("A", "B")
    )
    monkeypatch.setitem(KNOWN_SETS, "chameleon", type(KNOWN_SETS["chameleon"])(text="", parts=parts))
    listing = list_known("chameleon", tmp_path)
    assert [(one.name, one.mask.parent.parent.name) for one in listing.records] == [("A/x", "A"), ("B/x", "B")]
    assert not listing.problems  # as many as published


def test_a_missing_part_is_a_fault_and_another_count_a_remark(tmp_path: Path):
    root = known_copies.camouflage(tmp_path / "copy")
    shutil.rmtree(root / "COD10K-v3")
    found = examine(CheckConfig(known="camouflage_train", root=root))
    (fault,) = found.faults
    assert fault.path == root
    assert fault.detail == (
        f"COD10K-train (3040 pictures): expected below '{root}' Train/Image and Train/GT_Object in COD10K-v3 or "
        "COD10K; or Imgs (or Image, Images, img) and GT (or Masks, Mask) in TrainDataset, TrainValDataset or "
        "COD10K_CAMO_CombinedTrainingDataset"
    )
    assert "http://dpfan.net/Camouflage/" in fault.cure
    (remark,) = [one for one in found.remarks if one.kind == KIND]
    camo = root / "CAMO-V.1.0-CVIU2019"
    assert (
        remark.text
        == f"CAMO-train has 3 complete pairs in '{camo / 'Images/Train'}' and '{camo / 'GT'}', of 1000 published"
    )
    assert "sites.google.com/view/ltnghia" in remark.cure
    assert len(found.records) == 3
    with pytest.raises(DataError, match="COD10K-train"):
        found.usable(DataOptions(known="camouflage_train", root=root))
    assert len(found.usable(DataOptions(known="camouflage_train", root=root, faulty="skip"))) == 3


def test_nothing_at_all_is_refused_with_a_sentence_a_part(tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        list_known("camouflage_train", tmp_path)
    assert len(error.value.problems) == 2
    assert [one.split(" ")[1] for one in error.value.problems] == ["COD10K-train", "CAMO-train"]
    with pytest.raises(ConfigError, match="is not a folder"):
        list_known("chameleon", tmp_path / "nowhere")


@pytest.mark.parametrize("name", KNOWN_SETS)
def test_all_layouts_of_a_missing_set_are_named(name: str, tmp_path: Path):
    with pytest.raises(ConfigError) as error:
        list_known(name, tmp_path)
    for told, part in zip(error.value.problems, KNOWN_SETS[name].parts, strict=True):
        for layout in part.layouts:
            paths = [one for one in (*layout.folders, *layout.images, *layout.masks) if one != "."]
            assert [path for path in paths if path not in told] == []
            assert ("the folder itself" in told) == ("." in layout.folders)


def test_the_lists_of_polyps(tmp_path: Path):
    root = known_copies.polyps(tmp_path)
    listed = root / "Kvasir-SEG/val.txt"
    stems = known_copies.KVASIR
    listed.write_text(f"{stems[0]}.jpg\nimages/{stems[1]}.jpg masks/{stems[1]}.jpg\n\n{stems[2]},{stems[2]}\ngone\n")
    listing = list_known("kvasir_test", root)
    assert [one.name for one in listing.records] == stems[:3]
    assert listing.problems[0].text.endswith("of 120 published; without a pair are gone")
    other = root / "kvasir-seg-train-val"
    other.mkdir()
    listed.rename(other / "val.txt")
    assert names("kvasir_test", root) == stems[:3]
    (other / "val.txt").unlink()
    with pytest.raises(ConfigError) as error:
        list_known("kvasir_test", root)
    assert "expected the list of its pictures, val.txt" in str(error.value)
    assert "2020-MediaEval-Medico-polyp-segmentation" in str(error.value)


def test_a_picture_without_its_mask_is_a_fault_and_masks_of_the_other_part_are_not(copies: Path, tmp_path: Path):
    root = tmp_path / "copy"
    shutil.copytree(copies, root)
    (root / "CAMO-V.1.0-CVIU2019/GT" / f"{known_copies.CAMO[3]}.png").unlink()
    listing = list_known("camo_test", root)
    assert [path.stem for path in listing.images_without_mask] == [known_copies.CAMO[3]]
    assert not listing.masks_without_image
    (root / "CHAMELEON/Imgs/animal-1.jpg").unlink()
    assert [path.stem for path in list_known("chameleon", root).masks_without_image] == ["animal-1"]


def test_options_choose_the_set_and_its_root(copies: Path):
    listing = listing_of(DataOptions(known="istd_test", root=copies))
    assert [one.name for one in listing.records] == known_copies.SHADOWS
    assert listing.records[0].image.parent.name == "test_A"
    with pytest.raises(ConfigError):
        listing_of(DataOptions(known="istd_test", root=copies / "CHAMELEON"))


def test_published_numbers():
    """Counts and scores as the papers have them; a sample of each set's scores, and that none is missing."""
    counts = {name: entry.count for name, entry in KNOWN_SETS.items()}
    assert counts == {
        "camouflage_train": 4040,
        "chameleon": 76,
        "camo_test": 250,
        "cod10k_test": 2026,
        "istd_train": 1330,
        "istd_test": 540,
        "kvasir_train": 880,
        "kvasir_test": 120,
    }
    assert {name for name, entry in KNOWN_SETS.items() if entry.published} == set(PUBLISHED)
    for name, (score, *values) in PUBLISHED.items():
        assert [KNOWN_SETS[name].published[method][score] for method in PAPERS] == values
