"""Which source of annotations options name, and what they may not name together."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from sam_adapter.config.arguments import parse
from sam_adapter.config.commands import CheckConfig
from sam_adapter.config.options import SOURCES, DataOptions
from sam_adapter.config.training import TrainConfig, validation_options
from sam_adapter.errors import ConfigError

PAIRS = {"images": Path("i"), "masks": Path("m")}
RUN: dict[str, Any] = {"model": "sam", "output": Path("o")}


@pytest.mark.parametrize(
    ("options", "source", "place"),
    [
        (PAIRS, "masks", "m"),
        ({"images": Path("i"), "annotations": Path("a.json")}, "annotations", "a.json"),
        ({"table": Path("t.csv"), "split": "train"}, "table", "t.csv"),
        ({"dataset": "owner/name"}, "dataset", "owner/name"),
        ({"known": "camo_test", "root": Path("data")}, "known", "data"),
    ],
)
def test_each_source(options: dict[str, Any], source: str, place: str):
    made = DataOptions(**options)
    assert (made.source, made.place) == (source, Path(place))
    assert made.source_words == " ".join(f"--{name} {value}" for name, value in options.items())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "got none of them."),
        ({"images": "i"}, "got images alone."),
        ({**PAIRS, "annotations": "a"}, "got masks and annotations."),
        ({**PAIRS, "table": "t", "dataset": "d"}, "got masks and table and dataset."),
        ({"masks": "m"}, "images: must be given with masks."),
        ({"annotations": "a"}, "images: must be given with annotations."),
        ({"images": "i", "table": "t"}, "images: a table names its own images; leave it out."),
        ({**PAIRS, "split": "train"}, "split: masks have none; it is for a table or a dataset."),
        ({**PAIRS, "known": "camo_test", "root": "r"}, "got masks and known."),
        ({"known": "camo_test"}, "known and root: give both or neither."),
        ({**PAIRS, "root": "r"}, "known and root: give both or neither."),
        ({"known": "camo_test", "root": "r", "images": "i"}, "images: a known set names its own images; leave it out."),
        ({"known": "camo_test", "root": "r", "split": "s"}, "split: known sets have none; it is for a table or a"),
        ({"known": "nothing", "root": "r"}, "known: expected one of camouflage_train, chameleon, "),
    ],
)
def test_wrong_sources_get_one_sentence(options: dict[str, Any], text: str):
    with pytest.raises(ConfigError) as error:
        CheckConfig(**options)
    assert len(error.value.problems) == 1
    assert text in error.value.problems[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (PAIRS, None),
        ({**PAIRS, "val_images": "vi", "val_masks": "vm"}, {"images": "vi", "masks": "vm"}),
        ({**PAIRS, "val_annotations": "v.json"}, {"images": "i", "annotations": "v.json"}),
        ({**PAIRS, "val_annotations": "v", "val_images": "vi"}, {"images": "vi", "annotations": "v"}),
        ({"table": "t", "val_images": "vi", "val_masks": "vm"}, {"images": "vi", "masks": "vm"}),
        ({**PAIRS, "val_table": "v.csv"}, {"table": "v.csv"}),
        ({"table": "t.csv", "split": "a", "val_table": "v.csv"}, {"table": "v.csv"}),
        ({"table": "t.csv", "split": "a", "val_split": "b"}, {"table": "t.csv", "split": "b"}),
        ({"dataset": "d", "split": "a", "val_split": "b"}, {"dataset": "d", "split": "b"}),
        ({"known": "istd_train", "root": "r", "val_known": "istd_test"}, {"known": "istd_test", "root": "r"}),
        ({"known": "istd_train", "root": "r", "val_table": "v.csv"}, {"table": "v.csv"}),
    ],
)
def test_the_options_of_the_validation_set(options: dict[str, Any], expected: dict[str, Any] | None):
    reading = {"mask_pattern": "{stem}_m", "ignore_value": (7,), "image_column": "x", "max_pixels": 99}
    made = validation_options(TrainConfig(**RUN, **options, **reading))
    assert made == (None if expected is None else DataOptions(**expected, **reading))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"val_images": "vi"}, "val_images and val_masks: give both or neither."),
        ({"val_masks": "vm"}, "val_images and val_masks: give both or neither."),
        ({"val_annotations": "v", "val_table": "t"}, "val_annotations and val_table: give one of them."),
        ({"val_split": "v"}, "val_split: is of a table or a dataset that is trained on"),
        ({"val_known": "camo_test"}, "val_known: is below the root of a known set that is trained on"),
        ({"val_annotations": "v", "groups": "g.csv"}, "with --val-annotations nothing is split"),
        ({"val_annotations": "v", "output": "v/run"}, "output: 'v/run' lies in the folder of val_annotations"),
    ],
)
def test_wrong_validation_sets_get_one_sentence(options: dict[str, Any], text: str):
    with pytest.raises(ConfigError) as error:
        TrainConfig(**{**RUN, **PAIRS, **options})
    assert len(error.value.problems) == 1
    assert text in error.value.problems[0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"table": "t", "val_split": "v"}, "expected table or dataset, and split."),
        ({"table": "t", "split": "v", "val_split": "v"}, "split and val_split: both are 'v'."),
        ({"table": "t", "val_annotations": "v"}, "val_images: must be given with val_annotations"),
        ({"annotations": "a", "images": "i", "output": "a/run"}, "output: 'a/run' lies in the folder of annotations"),
    ],
)
def test_wrong_combinations_get_one_sentence(options: dict[str, Any], text: str):
    with pytest.raises(ConfigError) as error:
        TrainConfig(**{**RUN, **options})
    assert len(error.value.problems) == 1
    assert text in error.value.problems[0]


def documented_commands() -> list[str]:
    """Command lines of the page on annotations."""
    text = (Path(__file__).parents[1] / "docs/annotations.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("    sam-adapter ")]


@pytest.mark.parametrize("line", documented_commands())
def test_commands_of_the_page_on_annotations_are_understood(line: str):
    _, command, *arguments = shlex.split(line)
    config = parse(command, arguments)
    assert isinstance(config, DataOptions)
    assert config.source in SOURCES


def test_the_page_on_annotations_has_a_command_for_every_source():
    assert len(documented_commands()) >= 9
