"""What mask values mean over a set, through `inspect` and `read_mask`."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter.annotations.reading.files import read_mask
from sam_adapter.annotations.reading.mask_values import MOST_VALUES, counted
from sam_adapter.annotations.reading.raster import Raster
from sam_adapter.annotations.reading.rules import ReadingRules
from sam_adapter.annotations.reading.table import decide
from sam_adapter.annotations.reading.values import MaskTable, Value, ValueTable
from sam_adapter.config.commands import CheckConfig
from sam_adapter.data.inspection.findings import Inspection
from sam_adapter.data.inspection.inspect import inspect

SIZE = (60, 80)


def disc(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc, and the ring around it."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(rows - 25 - index, columns - 30 - 2 * index)
    return distance < 12, (distance >= 12) & (distance < 15)


def write_set(folder: Path, draw: Callable[[np.ndarray, np.ndarray, int], Image.Image], **saving) -> CheckConfig:
    """Eight pairs with the masks that `draw` makes of disc, ring and index."""
    suffix = saving.pop("suffix", "png")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(8):
        noise = np.random.default_rng(index).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{index}.png")
        draw(*disc(index), index).save(folder / "masks" / f"{index}.{suffix}", **saving)
    return CheckConfig(images=folder / "images", masks=folder / "masks")


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def kinds(found: Inspection) -> dict[str, int]:
    return {kind: sum(fault.kind == kind for fault in found.faults) for kind in {fault.kind for fault in found.faults}}


def reads_discs(found: Inspection) -> bool:
    """Whether every mask is read as its disc, but for a pixel here and there at soft edges."""
    table = found.rules.masks
    return len(found.records) == 8 and all(
        np.mean(read_mask(record.mask, table)[0] != disc(int(record.name))[0]) < 0.005 for record in found.records
    )


@pytest.mark.parametrize(("figure", "third", "cure"), [(1, 255, 255), (255, 128, 128), (255, 100, 100)])
def test_a_third_value_is_reported_with_a_cure_that_works(tmp_path: Path, figure: int, third: int, cure: int):
    options = write_set(tmp_path, lambda d, ring, _: grey(np.where(ring, third, d * figure)))
    found = inspect(options)
    assert kinds(found) == {"void_value": 8}
    assert f"'--ignore-value {cure}'" in found.report()
    cured = inspect(options.but(ignore_value=(cure,)))
    assert not cured.faults
    assert reads_discs(cured)
    assert "void" in [remark.kind for remark in cured.remarks]
    foreground, valid = read_mask(cured.records[0].mask, cured.rules.masks)
    assert valid is not None
    assert np.array_equal(~valid, disc(0)[1])
    assert not (foreground & ~valid).any()


def test_classes_are_not_read_file_by_file(tmp_path: Path):
    options = write_set(tmp_path, lambda d, _, index: grey(d * [1, 3, 7][index % 3]))
    found = inspect(options)
    assert kinds(found) == {"class_indices": 8}
    assert "'--mask-rule nonzero'" in found.report()
    assert reads_discs(inspect(options.but(mask_rule="nonzero")))


def test_classes_with_void_are_offered_both_options(tmp_path: Path):
    options = write_set(tmp_path, lambda d, ring, index: grey(np.where(ring, 255, d * (1 + index % 4))))
    assert "'--mask-rule nonzero --ignore-value 255'" in inspect(options).report()
    assert reads_discs(inspect(options.but(mask_rule="nonzero", ignore_value=(255,))))


def test_a_cure_that_fails_on_the_files_is_not_offered(tmp_path: Path):
    options = write_set(tmp_path, lambda d, ring, _: grey(np.where(ring, 3, np.where(d, 1, 2))))
    report = inspect(options).report()
    assert "class indices (8)" in report
    assert "nonzero" not in report  # nothing is 0, so that every mask would become full
    assert kinds(inspect(options.but(mask_rule="nonzero"))) == {"rule_fills_masks": 8}


def test_ids_of_objects_are_recognised_and_half_of_them_is_a_fault(tmp_path: Path):
    def numbered(_disc: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        stripes = np.where(np.arange(SIZE[1]) % 8 < 5, np.arange(SIZE[1]) // 8 + 1, 0)
        stripes = np.where(stripes <= 3 + index % 6, stripes, 0)
        return Image.fromarray(np.repeat(stripes[None], SIZE[0], 0).astype(np.uint16))

    options = write_set(tmp_path, numbered)
    assert kinds(inspect(options)) == {"label_map": 8}
    halved = inspect(options.but(mask_rule="half"))
    assert kinds(halved) == {"rule_empties_masks": 4}  # those with 3 or 4 of up to 8 objects
    assert not inspect(options.but(mask_rule="nonzero")).faults


@pytest.mark.parametrize("colour", [(128, 0, 0), (0, 0, 90), (255, 255, 255), (60, 60, 60)])
def test_soft_edges_of_any_colour_are_judged_by_the_set(tmp_path: Path, colour: tuple[int, int, int]):
    def jpeg(d: np.ndarray, _ring: np.ndarray, _index: int) -> Image.Image:
        return Image.fromarray((d[..., None] * np.array(colour)).astype(np.uint8))

    options = write_set(tmp_path, jpeg, suffix="jpg", quality=85)
    found = inspect(options)
    assert not found.faults
    assert reads_discs(found)
    assert reads_discs(inspect(options.but(mask_rule="half")))


def test_files_that_contradict_all_others_are_named(tmp_path: Path):
    options = write_set(tmp_path, lambda d, _, index: grey(d * (1 if index == 3 else 255)))
    found = inspect(options)
    assert [(fault.kind, fault.path.name) for fault in found.faults] == [("contradicts_rule", "3.png")]
    assert len(found.records) == 7


def test_two_conventions_of_equal_strength_are_not_guessed_at(tmp_path: Path):
    options = write_set(tmp_path, lambda d, _, index: grey(d * (1 if index % 2 else 255)))
    assert kinds(inspect(options)) == {"contradicts_rule": 8}
    assert reads_discs(inspect(options.but(mask_rule="nonzero")))


def test_a_file_of_another_convention_among_soft_ones_is_named(tmp_path: Path):
    def soft(d: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        small = grey(d * 255).resize((40, 30), Image.Resampling.BICUBIC).resize((80, 60), Image.Resampling.BICUBIC)
        return grey(d) if index == 5 else small

    found = inspect(write_set(tmp_path, soft))
    assert [(fault.kind, fault.path.name) for fault in found.faults] == [("contradicts_rule", "5.png")]


def test_a_mask_in_the_alpha_channel_is_found_and_said(tmp_path: Path):
    def alpha(d: np.ndarray, _ring: np.ndarray, _index: int) -> Image.Image:
        return Image.fromarray(np.dstack([np.full((*SIZE, 3), 255), d * 255]).astype(np.uint8))

    found = inspect(write_set(tmp_path, alpha))
    assert reads_discs(found)
    assert "mask_in_alpha" in [remark.kind for remark in found.remarks]


def test_inverted_masks_are_noticed_and_turned(tmp_path: Path):
    options = write_set(tmp_path, lambda d, _, __: grey(~d * 255))
    assert "inverted" in [remark.kind for remark in inspect(options).remarks]
    turned = inspect(options.but(mask_invert=True))
    assert reads_discs(turned)
    assert "inverted" not in [remark.kind for remark in turned.remarks]


def test_a_colour_can_be_void(tmp_path: Path):
    def colours(d: np.ndarray, ring: np.ndarray, _index: int) -> Image.Image:
        pixels = np.where(d[..., None], (128, 0, 0), 0)
        return Image.fromarray(np.where(ring[..., None], (224, 224, 192), pixels).astype(np.uint8))

    options = write_set(tmp_path, colours)
    assert "'--ignore-value 224,224,192'" in inspect(options).report()
    assert reads_discs(inspect(options.but(ignore_value=("#e0e0c0",))))


def test_rules_survive_json_and_wrong_ones_are_refused(tmp_path: Path):
    options = write_set(tmp_path, lambda d, ring, _: grey(np.where(ring, 255, d * 1)))
    rules = inspect(options.but(ignore_value=(255,))).rules
    assert ReadingRules.from_json(rules.to_json()) == rules
    for change in ({"pages": "some"}, {"brightness": {"integer": [5, 5]}}, {"more": 1}):
        with pytest.raises(ValueError, match=next(iter(change))):
            ReadingRules.from_json({**rules.to_json(), **change})


def blocks(values: list[int], areas: list[int]) -> np.ndarray:
    """Values one after another over so many pixels each, then 0."""
    flat = np.zeros(SIZE[0] * SIZE[1], np.int64)
    flat[: sum(areas)] = np.repeat(values, areas)
    return flat.reshape(SIZE)


@pytest.mark.parametrize(
    ("values", "areas", "kind"),
    [
        ([1, 1000, 2000, 3000, 4000], [400, 10, 10, 10, 10], np.int32),
        ([1, 2, 18, 19, 20], [80, 40, 40, 40, 70], np.uint8),
        (list(range(1, 21)), [4] * 17 + [10, 30, 50], np.uint8),
    ],
)
def test_numbers_of_classes_or_objects_are_no_soft_edges(tmp_path: Path, values: list[int], areas: list[int], kind):
    def numbered(_disc: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        shifted = [value + (index if kind == np.int32 else 0) for value in values]
        return Image.fromarray(blocks(shifted, areas).astype(kind))

    found = inspect(write_set(tmp_path, numbered, suffix="tif"))
    assert set(kinds(found)) <= {"class_indices", "label_map"}
    assert not found.records


def test_what_jpeg_of_the_best_quality_leaves_is_no_class(tmp_path: Path):
    found = inspect(write_set(tmp_path, lambda d, _, __: grey(d * 255), suffix="jpg", quality=100))
    assert reads_discs(found)


@pytest.mark.parametrize("missing", [np.nan, -9999.0])
def test_missing_data_in_masks_are_never_foreground(tmp_path: Path, missing: float):
    options = write_set(
        tmp_path, lambda d, ring, _: Image.fromarray(np.where(ring, missing, d).astype(np.float32)), suffix="tif"
    )
    found = inspect(options)
    assert kinds(found) == {"void_value": 8}
    (cure,) = {fault.cure.split("'")[1] for fault in found.faults}
    assert cure == f"--ignore-value {missing:g}"
    assert "nonzero" not in found.report()
    assert reads_discs(inspect(options.but(ignore_value=(f"{missing:g}",))))
    if np.isnan(missing):
        assert kinds(inspect(options.but(mask_rule="nonzero"))) == {"void_value": 8}


def test_nan_for_background_is_not_guessed_at(tmp_path: Path):
    found = inspect(
        write_set(tmp_path, lambda d, _, __: Image.fromarray(np.where(d, 1, np.nan).astype(np.float32)), suffix="tif")
    )
    assert kinds(found) == {"void_value": 8}
    assert "--ignore-value" not in found.report()  # foreground alone would be left


def test_the_rarest_of_three_values_is_offered_first_as_void(tmp_path: Path):
    options = write_set(tmp_path, lambda d, ring, _: grey(np.where(ring, 3, np.where(d, 1, 2))))
    offered = inspect(options).faults[0].cure.split("'")[1]
    assert offered == "--ignore-value 3"
    assert reads_discs(inspect(options.but(ignore_value=(3,), mask_invert=True)))


def three_colours(middle: tuple[int, ...], *, narrow: bool) -> Callable[[np.ndarray, np.ndarray, int], Image.Image]:
    """Black ground, a disc in white or red, and a ring or a block of a third colour."""

    def draw(disc: np.ndarray, ring: np.ndarray, _index: int) -> Image.Image:
        pixels = np.zeros((*SIZE, len(middle)), np.uint8)
        pixels[disc] = 255 if len(middle) == 1 else (255, 0, 0)
        if not narrow:
            ring = np.zeros(SIZE, bool)
            ring[40:, 50:70] = True
        pixels[ring] = middle
        return Image.fromarray(pixels[..., 0] if len(middle) == 1 else pixels)

    return draw


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("middle", [(127,), (0, 255, 0), (0, 127, 255), (127, 0, 255)])
def test_three_colours_that_jpeg_has_blurred_are_named_and_not_cut_half_way(
    tmp_path: Path, middle: tuple[int, ...], narrow: bool, quality: int
):
    if narrow and len(middle) == 1 and quality == 50:
        return  # nobody can tell such a ring from a soft edge
    options = write_set(tmp_path, three_colours(middle, narrow=narrow), suffix="jpg", quality=quality)
    found = inspect(options)
    assert kinds(found) == {"class_indices": 8}
    assert "blurred as by JPEG" in found.faults[0].text
    assert "--mask-rule" not in found.report()
    assert "as PNG" in found.faults[0].cure
    named = [part.split(" ")[0] for part in found.faults[0].text.split("around ")[1].split("), ")]
    colours = [np.array([float(one) for one in part.split(",")]) for part in named]
    for colour in ((0, 0, 0) if len(middle) == 3 else (0,), middle):
        assert min(np.abs(one - colour).max() for one in colours) < 80
    assert 3 <= len(colours) <= 4


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (255, 127, 0)])
def test_two_colours_that_jpeg_has_blurred_are_still_read(tmp_path: Path, colour: tuple[int, int, int], quality: int):
    def strips(_disc: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        pixels = np.zeros((*SIZE, 3), np.uint8)
        for column in (6, 27, 47, 66):
            pixels[3:-3, column + index % 3 : column + 7] = colour
        return Image.fromarray(pixels)

    def discs(disc: np.ndarray, _ring: np.ndarray, _index: int) -> Image.Image:
        return Image.fromarray((disc[..., None] * colour).astype(np.uint8))

    found = inspect(write_set(tmp_path / "strips", strips, suffix="jpg", quality=quality))
    assert "blurred" not in found.report()  # too much of them is edge to be sure of two, but there are no three
    assert not inspect(write_set(tmp_path / "discs", discs, suffix="jpg", quality=quality)).faults


@pytest.mark.parametrize(("classes", "step"), [(20, 1), (151, 1), (5, 60)])
def test_numbers_of_many_classes_are_not_taken_for_blurred_colours(tmp_path: Path, classes: int, step: int):
    def numbered(_disc: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        rng = np.random.default_rng(index)
        used = rng.permutation(classes)[:16] * step
        share = rng.dirichlet(np.full(len(used), 0.4 * step))
        return grey(np.repeat(np.repeat(rng.choice(used, (6, 8), p=share), 10, 0), 10, 1))

    found = inspect(write_set(tmp_path, numbered))
    assert found.faults
    assert "blurred" not in found.report()


def smooth(index: int) -> np.ndarray:
    """The disc with an antialiased outline, 0 to 1."""
    rows, columns = (np.mgrid[: SIZE[0] * 8, : SIZE[1] * 8] - 3.5) / 8
    inside = np.hypot(rows - 25 - index, columns - 30 - 2 * index) < 12
    return inside.reshape(SIZE[0], 8, SIZE[1], 8).mean((1, 3))


@pytest.mark.parametrize(
    ("top", "kind"),
    [
        *((top, np.uint8) for top in (4, 10, 20, 50, 63, 100)),
        (50, np.uint16),
        (50, np.int32),
        *((top, np.float32) for top in (1, 4, 50)),
    ],
)
def test_antialiased_outlines_of_any_range_are_soft_edges(tmp_path: Path, top: int, kind):
    def outline(_disc: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        return Image.fromarray(np.rint(smooth(index) * top).astype(kind))

    found = inspect(write_set(tmp_path / "whole", outline, suffix="tif"))
    assert reads_discs(found)
    if kind == np.float32:  # few different values, and many
        for levels in (4, 250):
            found = inspect(
                write_set(
                    tmp_path / f"{levels}",
                    lambda _d, _r, index, levels=levels: Image.fromarray(
                        (np.rint(smooth(index) * levels) / levels * top).astype(np.float32)
                    ),
                    suffix="tif",
                )
            )
            assert reads_discs(found)


def test_a_flat_place_in_a_file_does_not_make_classes_of_outlines(tmp_path: Path):
    def outline(_disc: np.ndarray, _ring: np.ndarray, index: int) -> Image.Image:
        values = np.rint(smooth(index) * 50)
        if index == 3:
            values[2:5, 60:66] = 20
        return grey(values)

    assert reads_discs(inspect(write_set(tmp_path, outline)))


def test_small_parts_of_rare_classes_are_no_outlines(tmp_path: Path):
    def classes(disc: np.ndarray, _ring: np.ndarray, _index: int) -> Image.Image:
        values = disc * 6
        for number in range(1, 6):
            values[2:5, 10 * number : 10 * number + 3] = number
        return grey(values)

    found = inspect(write_set(tmp_path, classes))
    assert kinds(found) == {"class_indices": 8}


def photograph(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    return rng.normal(128, 30, (*SIZE, 3)).clip(0, 255).astype(np.uint8)


def test_an_object_cut_out_of_its_picture_is_read_by_alpha(tmp_path: Path):
    found = inspect(
        write_set(
            tmp_path, lambda d, _, index: Image.fromarray(np.dstack([photograph(index), d * 255]).astype(np.uint8))
        )
    )
    assert reads_discs(found)
    assert "cuts the object out" in found.report()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_in_place_of_masks_get_no_rule(tmp_path: Path, mode: str):
    found = inspect(write_set(tmp_path, lambda _, __, index: Image.fromarray(photograph(index)).convert(mode)))
    assert kinds(found) == {"mask_not_binary": 8}
    assert "--mask-rule" not in found.report()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_every_pixel_of_a_large_mask_is_counted(kind):
    """Also of one that is read some rows at a time, and higher than wide."""
    pixels = np.zeros((2500, 500), kind)
    pixels[2400:, 10:90] = 7
    found = counted(Path("a"), Raster(values=pixels, storage="8 bit"))
    assert found.values.tolist() == [[0], [7]]
    assert found.counts.tolist() == [2500 * 500 - 8000, 8000]


def test_values_are_rounded_where_there_are_too_many():
    """To 1024 steps with the ends as they were; in alpha too."""
    every = np.arange(MOST_VALUES, dtype=np.uint16)[None]
    few = counted(Path("a"), Raster(values=every, storage="16 bit"))
    assert (len(few.values), few.rounded) == (MOST_VALUES, False)
    more = np.arange(MOST_VALUES + 1, dtype=np.uint16)[None] * 3
    many = counted(Path("a"), Raster(values=more, storage="16 bit", alpha=more))
    assert many.rounded is True
    assert many.alpha is not None
    for values, counts in ((many.values, many.counts), many.alpha):
        assert (len(values), values.min(), values.max()) == (1024, 0, more.max())
        assert counts.sum() == more.size
    cut_out = counted(Path("a"), Raster(values=more, storage="16 bit", alpha=more % 2))
    assert not cut_out.of_alpha().rounded


def test_colours_of_palettes_that_differ_are_told_as_colours(tmp_path: Path):
    """Three that JPEG has blurred, each file then with a palette of its own."""

    def draw(disc: np.ndarray, ring: np.ndarray, index: int) -> Image.Image:
        file = io.BytesIO()
        three_colours((0, 255, 0), narrow=False)(disc, ring, index).save(file, "jpeg", quality=75)
        return Image.open(file).quantize(256)

    found = inspect(write_set(tmp_path, draw))
    assert kinds(found) == {"class_indices": 8}
    assert "blurred as by JPEG" in found.faults[0].text


def test_the_brighter_of_two_colours_is_foreground(tmp_path: Path):
    def draw(disc: np.ndarray, _ring: np.ndarray, _index: int) -> Image.Image:
        return Image.fromarray(np.where(disc[..., None], (0, 100, 0), (100, 0, 0)).astype(np.uint8))

    assert reads_discs(inspect(write_set(tmp_path, draw)))


def test_a_third_value_in_a_few_files_is_void_and_no_other_convention(tmp_path: Path):
    def draw(disc: np.ndarray, ring: np.ndarray, index: int) -> Image.Image:
        return grey(np.where(ring & (index < 2), 128, disc * 255))

    assert kinds(inspect(write_set(tmp_path, draw))) == {"void_value": 2}


def test_a_picture_without_an_object_does_not_take_the_cure_away(tmp_path: Path):
    def draw(disc: np.ndarray, ring: np.ndarray, index: int) -> Image.Image:
        return grey(np.where(ring, 128, disc * 255) * (index > 0))

    assert "'--ignore-value 128'" in inspect(write_set(tmp_path, draw)).report()


def test_files_of_several_values_that_are_not_void_are_told_apart():
    rasters = {
        name: Raster(values=np.array([values], np.uint8), storage="8 bit")
        for name, values in {"both": [0, 255, 9], "ground": [0, 0, 9], "figure": [255], "void": [9]}.items()
    }
    decision = decide([counted(Path(name), raster) for name, raster in rasters.items()], ignore=((9.0,),))
    assert decision.varied == {Path("both")}
    assert decision.shares == {Path("both"): 0.5, Path("ground"): 0, Path("figure"): 1, Path("void"): 0}


def test_masks_of_one_value(tmp_path: Path):
    """Foreground if it is one of those for white, else not guessed at, and void if it is told to be."""
    full = inspect(write_set(tmp_path / "full", lambda d, _, __: grey(0 * d + 255)))
    assert full.rules.masks is not None
    assert read_mask(full.asked[0][0].mask, full.rules.masks)[0].all()
    assert ReadingRules.from_json(full.rules.to_json()) == full.rules
    options = write_set(tmp_path / "odd", lambda d, _, __: grey(0 * d + 7))
    odd = inspect(options)
    assert kinds(odd) == {"mask_not_binary": 8}
    assert {fault.path.name for fault in odd.faults} == {f"{index}.png" for index in range(8)}
    rules = inspect(options.but(ignore_value=(7,))).rules
    foreground, valid = read_mask(tmp_path / "odd/masks/0.png", rules.masks)
    assert valid is not None
    assert not (foreground | valid).any()


BLACK, RED = (0.0, 0.0, 0.0), (200.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (ValueTable(storage="8 bit", rule="nonzero"), {"0": "background", "other": "foreground"}),
        (
            ValueTable(storage="8 bit", rule="values", low=(0.0,), high=(1.0,), void=((255.0,),)),
            {"0": "background", "1": "foreground", "255": "void"},
        ),
        (
            ValueTable(storage="16 bit", rule="half", low=(0.0,), high=(255.0,)),
            {"0-127": "background", "128-255": "foreground"},
        ),
        (
            ValueTable(storage="float", rule="half", low=(0.0,), high=(1.0,)),
            {"0-0.5": "background", "0.5-1": "foreground"},
        ),
        (
            ValueTable(storage="colour", rule="half", low=BLACK, high=RED),
            {"nearer 0,0,0": "background", "nearer 200,0,0": "foreground"},
        ),
    ],
)
def test_a_rule_is_told_by_value(table: ValueTable, expected: dict[str, str]):
    """As 'sam-adapter check --json' gives it."""
    assert MaskTable(tables=(table,)).described() == expected
    exchanged = {"background": "foreground", "foreground": "background", "void": "void"}
    turned = {value: exchanged[meaning] for value, meaning in expected.items()}
    assert MaskTable(tables=(table,), inverted=True).described() == turned


@pytest.mark.parametrize(("low", "high"), [(None, (1.0,)), ((0.0,), None), ((1.0,), (1.0,)), (RED, RED), ((0.0,), RED)])
def test_half_way_needs_two_different_values_of_one_kind(low: Value | None, high: Value | None):
    with pytest.raises(ValueError, match="rule half needs two different values"):
        ValueTable(storage="8 bit", rule="half", low=low, high=high)
