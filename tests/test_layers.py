"""Every module imports downwards only, and each heavy library in its own room."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "sam_adapter"

LAYERS = [
    [
        "errors",
        "folders",
        "processes",
        "writing",
        "locking",
        "ranges",
        "options",
        "config",
        "batch",
        "shapes",
        "float64",
    ],
    ["nn", "prompts", "losses", "metrics", "runtime", "drawing"],
    [
        "data.objects",
        "data.copies",
        "data.orientation",
        "data.values",
        "data.clusters",
        "data.tiff",
        "data.decoding",
        "data.brightness",
        "data.rules",
        "data.mask_values",
        "data.soft_edges",
        "data.troubles",
        "data.table",
        "data.cures",
        "data.in_flight",
        "data.shared_memory",
        "data.reading",
        "data.embedding_file",
        "data.sources",
        "data.transforms",
        "data.augmentation",
    ],
    [
        "data.findings",
        "data.grouping",
        "data.splitting",
        "data.remarks",
        "data.sheet",
        "data.reading_remarks",
        "data.pictures",
        "data.inspection",
        "data.kept",
        "data.doctor",
        "data.dataset",
        "data.loading",
        "data.datamodule",
        "backbones",
        "methods",
    ],
    ["model", "embeddings", "description", "checkpoint", "starting", "convert"],
    [
        "averaging",
        "epoch_means",
        "collapse",
        "outcome",
        "progress",
        "quiet",
        "task",
        "training",
        "callbacks",
        "stopping",
        "last_checkpoint",
        "run_folder",
        "memory",
        "user_prompts",
        "curves",
        "info",
        "evaluation",
        "scoring",
        "baselines",
        "prediction",
        "report",
    ],
    ["demo", "app", "cli", "entry", "__main__", "__init__"],
]
"""Lowest first; modules of one layer or folder may import each other."""

ROOMS = {
    "transformers": {"backbones"},
    "huggingface_hub": {"backbones"},
    "lightning": {
        "task",
        "epoch_means",
        "collapse",
        "progress",
        "training",
        "callbacks",
        "run_folder",
        "stopping",
        "last_checkpoint",
        "data",
    },
    "albumentations": {"data"},
    "wandb": {"training"},
    "matplotlib": {"curves"},
    "jsonargparse": {"cli"},
}


def layer_of(module: str) -> int:
    for level, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return level
    if module in ("data", "models"):
        return 2
    raise AssertionError(f"'{module}' has no layer; add it to LAYERS")


def imports(path: Path) -> list[str]:
    """Modules of the package that a file imports, and libraries as '!name'."""
    package = path.relative_to(SOURCE).with_suffix("").parts
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [f"!{alias.name.split('.')[0]}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.append(f"!{(node.module or '').split('.')[0]}")
                continue
            base = list(package[: len(package) - node.level])
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                candidate = f"{module}.{alias.name}".strip(".")
                exists = (SOURCE / f"{candidate.replace('.', '/')}.py").exists() or (
                    SOURCE / candidate.replace(".", "/") / "__init__.py"
                ).exists()
                found.append(candidate if exists else module or "__init__")
    return found


def test_imports_go_downwards_and_libraries_stay_in_their_rooms():
    problems = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for name in imports(path):
            if name.startswith("!"):
                rooms = ROOMS.get(name[1:])
                if rooms is not None and module.split(".")[0] not in rooms:
                    problems.append(f"{module} imports {name[1:]}")
            elif (
                module.split(".")[0] != name.split(".")[0] and name != "__init__" and layer_of(name) > layer_of(module)
            ):
                problems.append(f"{module} imports {name}, which is above it")
    assert not problems, "\n".join(problems)
