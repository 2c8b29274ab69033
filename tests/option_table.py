"""Tables of what each option of a command changes, and that none is left out."""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class HeldBy:
    """An option whose effect other tests show.

    Attributes:
        file: Path below ``tests``.
        tests: Names of functions in it.
    """

    file: str
    tests: tuple[str, ...]

    def __init__(self, file: str, *tests: str) -> None:
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "tests", tests)


@dataclass(frozen=True)
class Changes:
    """An option whose effect is looked at in two runs.

    Attributes:
        values: The option with a value of its own, and what has to go with it.
        check: Called with the plain run and the changed one.
        plain: Options of both runs.
    """

    values: Mapping[str, Any]
    check: Callable[[Any, Any], object]
    plain: Mapping[str, Any]

    def __init__(self, values: Mapping[str, Any], check: Callable[[Any, Any], object], **plain: Any) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "check", check)
        object.__setattr__(self, "plain", plain)


Table = Mapping[str, HeldBy | Changes]

SOURCES: Table = {
    "annotations": HeldBy("annotations/test_coco.py", "test_options_choose_the_file"),
    "mask_layout": HeldBy("annotations/test_mask_layouts.py", "test_a_folder_a_class", "test_a_folder_an_image"),
    "table": HeldBy("annotations/test_table.py", "test_options_choose_columns_and_split"),
    "dataset": HeldBy("annotations/test_huggingface.py", "test_options_choose_columns_split_and_cache"),
    "image_column": HeldBy("annotations/test_table.py", "test_options_choose_columns_and_split"),
    "mask_column": HeldBy("annotations/test_huggingface.py", "test_options_choose_columns_split_and_cache"),
    "split": HeldBy("annotations/test_table.py", "test_options_choose_columns_and_split"),
    "known": HeldBy("annotations/test_known.py", "test_options_choose_the_set_and_its_root"),
    "root": HeldBy("annotations/test_known.py", "test_options_choose_the_set_and_its_root"),
    "dataset_cache": HeldBy("annotations/test_huggingface.py", "test_options_choose_columns_split_and_cache"),
}
"""Options that say where annotations are, of every command that reads them."""

TILED = "tiling/test_runs.py"
TILES: Table = {
    "tile": HeldBy(TILED, "test_an_adapter_without_tiles_may_be_asked_for_them_and_one_with_tiles_for_none"),
    "overlap": HeldBy(TILED, "test_an_adapter_without_tiles_may_be_asked_for_them_and_one_with_tiles_for_none"),
}
"""Options of tiles, of every command that uses a trained model."""

FOUND = "objects/test_finding.py"
GRID = "tasks/test_point_grid.py"
FINDING: Table = {
    "grid": HeldBy(FOUND, "test_scores_and_the_report_are_those_of_the_label_maps"),
    "grid_multimask": HeldBy(GRID, "test_each_object_is_found_once"),
    "quality_threshold": HeldBy(GRID, "test_answers_of_low_quality_and_unstable_ones_are_left_out"),
    "stability_threshold": HeldBy(GRID, "test_answers_of_low_quality_and_unstable_ones_are_left_out"),
    "core_rise": HeldBy(FOUND, "test_scores_and_the_report_are_those_of_the_label_maps"),
    "overlap_threshold": HeldBy(GRID, "test_of_masks_that_overlap_the_better_keeps_its_pixels"),
    "refine": HeldBy(FOUND, "test_scores_and_the_report_are_those_of_the_label_maps"),
}
"""Options of how objects are found, of every command that uses a trained model."""


def require_all_options(kind: type, table: Table) -> None:
    """Every option of a command has an entry, no entry is of a former option, and every test that is named exists."""
    options = {field.name for field in fields(kind)}
    missing, former = sorted(options - table.keys()), sorted(table.keys() - options)
    assert not missing, f"options of {kind.__name__} without a test of what they change: {', '.join(missing)}"
    assert not former, f"entries without an option of {kind.__name__}: {', '.join(former)}"
    for option, entry in table.items():
        if isinstance(entry, HeldBy):
            lost = [test for test in entry.tests if test not in functions(entry.file)]
            assert entry.tests, option
            assert not lost, f"{option}: {entry.file} has no {', '.join(lost)}"
        else:
            assert option in entry.values, option


@cache
def functions(file: str) -> frozenset[str]:
    """Names of the functions in a file of tests."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def looked_at(table: Table) -> list[str]:
    """The options that two runs are made for."""
    return [option for option, entry in table.items() if isinstance(entry, Changes)]
