"""Every file imports downwards only and in no circle, and each heavy library has its own rooms."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "sam_adapter"

LAYERS = [
    "errors",
    "config",
    "system",
    "batch",
    "preprocessing",
    "tiling",
    "annotations",
    "tasks",
    "data",
    "kernels",
    "backbones",
    "methods",
    "segmenter",
    "checkpoints",
    "report",
    "check",
    "evaluation",
    "training",
    "prediction",
    "info",
    "__init__",
    "demo",
    "cli",
    "__main__",
]
"""Folders and files of the package's root, lowest first: a file imports what is above it here, or its own folder."""

ROOMS = {
    "transformers": {"backbones", "kernels"},
    "huggingface_hub": {"backbones"},
    "lightning": {"training", "data"},
    "albumentations": {"data"},
    "wandb": {"training"},
    "matplotlib": {"training"},
    "py_sod_metrics": {"tasks"},
    "scipy": {"tasks"},
    "jsonargparse": {"cli", "config"},
    "pycocotools": {"annotations", "tasks"},
    "skimage": {"tasks"},
    "datasets": {"annotations"},
    "peft": {"methods"},
}

MOST_IN_ROOT = 7


def modules() -> dict[str, Path]:
    """Files by dotted name; the package's own is ``__init__``."""
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}


def imports(module: str, path: Path, known: dict[str, Path]) -> tuple[set[str], set[str]]:
    """Modules of the package that a file imports, anywhere in it, and libraries."""
    package = module.split(".")[:-1]
    own: set[str] = set()
    libraries: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            libraries |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            libraries.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                candidates = [f"{source}.{alias.name}".strip("."), source, f"{source}.__init__".strip(".")]
                own.add(next(name for name in candidates if name in known))
    return own, libraries


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {module: imports(module, path, known)[0] for module, path in known.items()}


def test_imports_go_downwards(graph):
    problems = [
        f"{module} imports {name}, which is above it"
        for module, found in graph.items()
        for name in found
        if room(name) != room(module) and LAYERS.index(room(name)) > LAYERS.index(room(module))
    ]
    assert not problems, "\n".join(problems)


def test_no_files_import_each_other_in_a_circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_libraries_stay_in_their_rooms():
    known = modules()
    problems = [
        f"{module} imports {library}"
        for module, path in known.items()
        for library in imports(module, path, known)[1]
        if library in ROOMS and room(module) not in ROOMS[library]
    ]
    assert not problems, "\n".join(problems)


def test_few_files_lie_in_the_root():
    assert len(list(SOURCE.glob("*.py"))) <= MOST_IN_ROOT
