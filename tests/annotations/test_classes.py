"""Classes of mask files: by number, by a palette's index, by colour; what no class has is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_adapter.annotations.class_file import ClassFile, read_class_file
from sam_adapter.annotations.listing import Record
from sam_adapter.annotations.objects import AnnotatedObject
from sam_adapter.annotations.reading.class_values import decide_classes
from sam_adapter.annotations.reading.classes import Classes, spread_colours
from sam_adapter.annotations.reading.decoding import decode
from sam_adapter.annotations.reading.labels import read_labels
from sam_adapter.annotations.reading.mask_values import MaskValues, counted
from sam_adapter.annotations.reading.rules import ReadingRules
from sam_adapter.batch import VOID
from sam_adapter.errors import ConfigError, DataError

NUMBERS = np.array([[0, 1, 1, 7], [0, 0, 7, 255]], np.uint8)
LABELS = np.array([[0, 1, 1, 2], [0, 0, 2, VOID]], np.uint8)
COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 7: (0, 128, 0), 255: (224, 224, 192)}


def written(path: Path, kind: str) -> Path:
    """`NUMBERS` in a file of a kind."""
    if kind == "colour":
        Image.fromarray(np.array([[COLOURS[int(one)] for one in row] for row in NUMBERS], np.uint8)).save(path)
    elif kind == "palette":
        image = Image.fromarray(NUMBERS, mode="P")
        palette = np.zeros((256, 3), np.uint8)
        for value, colour in COLOURS.items():
            palette[value] = colour
        image.putpalette(palette.tobytes())
        image.save(path)
    elif kind == "16 bit":
        Image.fromarray(NUMBERS.astype(np.uint16)).save(path)
    elif kind == "grey as colour":
        Image.fromarray(np.repeat(NUMBERS[..., None], 3, axis=2)).save(path)
    else:
        Image.fromarray(NUMBERS).save(path)
    return path


def values_of(*paths: Path) -> list[MaskValues]:
    return [counted(path, decode(path)) for path in paths]


def read(path: Path, classes: Classes | None) -> np.ndarray:
    return read_labels(Record("x", path, path), ReadingRules(classes=classes))


@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "palette", "grey as colour"])
@pytest.mark.parametrize("named", [False, True])
def test_numbers_are_classes_whatever_the_file_holds_them_in(tmp_path: Path, kind: str, named: bool):
    path = written(tmp_path / "m.png", kind)
    given = ClassFile(("cat", "dog"), ((1.0,), (7.0,)), void=((255.0,),)) if named else None
    classes, troubles = decide_classes(values_of(path), given, ignore=() if named else [(255.0,)])
    assert not troubles
    assert classes is not None
    assert classes.names == (("cat", "dog") if named else ("class_1", "class_7"))
    assert classes.has_background
    assert np.array_equal(read(path, classes), LABELS)
    if kind == "palette":
        assert classes.colours == (COLOURS[1], COLOURS[7])


@pytest.mark.parametrize("kind", ["colour", "palette"])
def test_colours_are_classes(tmp_path: Path, kind: str):
    path = written(tmp_path / "m.png", kind)
    given = ClassFile(("cat", "dog"), ((128.0, 0.0, 0.0), (0.0, 128.0, 0.0)), void=((224.0, 224.0, 192.0),))
    classes, troubles = decide_classes(values_of(path), given)
    assert not troubles
    assert classes is not None
    assert np.array_equal(read(path, classes), LABELS)
    assert classes.colours == (COLOURS[1], COLOURS[7])


def test_a_value_that_no_class_has_is_named_with_its_files(tmp_path: Path):
    good, bad = tmp_path / "good.png", written(tmp_path / "bad.png", "8 bit")
    Image.fromarray(np.minimum(NUMBERS, 1)).save(good)
    classes, troubles = decide_classes(values_of(good, bad), ClassFile(("cat",), ((1.0,),)))
    assert [trouble.kind for trouble in troubles] == ["unknown_class"]
    assert troubles[0].files == (bad,)
    assert troubles[0].details[bad] == "7, 255"
    with pytest.raises(DataError, match=r"bad\.png: has the value (7|255), which no class has"):
        read(bad, classes)


def test_colours_where_numbers_are_expected_are_refused(tmp_path: Path):
    path = written(tmp_path / "m.png", "colour")
    given = ClassFile(("cat", "dog"), ((1.0,), (7.0,)))
    assert decide_classes(values_of(path), given)[1][0].kind == "class_colours"
    with pytest.raises(DataError, match="holds colours"):
        read(path, Classes(names=("cat", "dog"), values=((1.0,), (7.0,))))


def test_shades_and_ids_are_no_classes(tmp_path: Path):
    ramp = tmp_path / "ramp.png"
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(ramp)
    classes, troubles = decide_classes(values_of(ramp), None)
    assert classes is None
    assert "199 different values" in troubles[0].text


def test_a_set_without_background_says_so(tmp_path: Path):
    path = tmp_path / "m.png"
    Image.fromarray(np.maximum(np.minimum(NUMBERS, 7), 1)).save(path)
    classes, _ = decide_classes(values_of(path), None)
    assert classes is not None
    assert not classes.has_background


def test_objects_are_painted_in_their_order_and_void_says_nothing(tmp_path: Path):
    Image.new("RGB", (8, 6)).save(tmp_path / "x.png")
    square = np.array([[1, 1], [5, 1], [5, 5], [1, 5]], np.float64)
    objects = (
        AnnotatedObject(class_name="cat", polygons=(square,)),
        AnnotatedObject(class_name="dog", polygons=(square + np.array([2, 0]),)),
        AnnotatedObject(class_name="any", polygons=(square / 4 + 0.75,), void=True),
    )
    record = Record("x", tmp_path / "x.png", tmp_path / "x.json", objects=objects)
    labels = read_labels(record, ReadingRules(classes=Classes(names=("dog", "cat"))))
    assert labels.shape == (6, 8)
    assert labels[4, 3] == labels[2, 6] == 1
    assert labels[4, 1] == 2
    assert labels[1, 1] == VOID
    assert np.count_nonzero(labels == 1) == 16
    assert (read_labels(record, ReadingRules())[labels == 2] == 1).all()
    with pytest.raises(DataError, match="has the class 'cat'; known are dog"):
        read_labels(record, ReadingRules(classes=Classes(names=("dog",))))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.yaml", "cat: 1\ndog: 7\nignore: [255]\n", ClassFile(("cat", "dog"), ((1,), (7,)), void=((255,),))),
        ("c.yaml", "background: 0\ncat: 3\n", ClassFile(("cat",), ((3,),), background=((0,),))),
        ("c.yaml", "cat: [1, 2, 3]\nbackground: [0, 0, 0]\n", ClassFile(("cat",), ((1, 2, 3),), ((0, 0, 0),))),
        ("c.yaml", "- cat\n- dog\n", ClassFile(("cat", "dog"))),
        ("c.txt", "0 background\n1 cat\n7 big dog\n", ClassFile(("cat", "big dog"), ((1,), (7,)), ((0,),))),
        ("c.txt", "__ignore__\n_background_\ncat\ndog\n", ClassFile(("cat", "dog"), ((1,), (2,)), ((0,),))),
        ("c.txt", "cat\ndog\n", ClassFile(("cat", "dog"))),
    ],
)
def test_class_files(tmp_path: Path, name: str, text: str, expected: ClassFile):
    (tmp_path / name).write_text(text)
    assert read_class_file(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected lines of 'name: value'"),
        ("cat", "expected lines of 'name: value'"),
        ("cat: one", "cat: expected a number, or a colour"),
        ("cat: -1", "cat: expected a number, or a colour"),
        ("cat: .nan", "cat: expected a number, or a colour"),
        ("cat: [1, 2]", "cat: expected a number, or a colour"),
        ("cat: 1\ncat: 2", "'cat' is given twice"),
        ("cat: 1\ndog: 1", "the value 1 is given twice"),
        ("cat: 1\ndog: [1, 2, 3]", "some classes have numbers and others colours"),
        ("cat: 1\nignore: 1", "the value 1 is given twice"),
        ("ignore: 1", "expected 1 to 253 classes, got 0"),
        ("- cat\n- cat", "the name 'cat' is given twice"),
        ("cat: [1", "cannot be read"),
    ],
)
def test_wrong_class_files_are_told_by_name_and_entry(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_class_file(path)
    assert complaint in str(error.value)
    assert str(path) in str(error.value)


def test_lines_in_the_other_order_are_no_names(tmp_path: Path):
    (tmp_path / "c.txt").write_text("cat 1\ndog 2\n")
    with pytest.raises(ConfigError, match="expected lines of 'value name', got 'cat 1'"):
        read_class_file(tmp_path / "c.txt")


def test_a_class_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        read_class_file(tmp_path / "no.yaml")


def test_spread_colours_differ():
    colours = spread_colours(60)
    assert len(set(colours)) == 60
    assert all(0 <= one <= 255 for colour in colours for one in colour)


def test_a_value_that_may_be_void_is_asked_about(tmp_path: Path):
    path = written(tmp_path / "m.png", "8 bit")
    classes, troubles = decide_classes(values_of(path), None)
    assert classes is None
    assert troubles[0].kind == "void_value"
    assert "--ignore-value 255" in troubles[0].cure
    assert decide_classes(values_of(path), ClassFile(("a", "b", "c")))[1][0].kind == "void_value"
