"""Every file and folder that the documents for contributors name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = (ROOT, ROOT / "src" / "sam_adapter", ROOT / "tests")
"""Where a path may begin."""
MADE = ("RUN/", ".venv/")
"""How paths begin that runs and installations make."""


def named_paths(text: str) -> set[str]:
    """Sources and documents by their endings, and folders in backticks; names in capitals stand for others."""
    files = re.findall(r"[\w./-]+\.(?:py|md)\b", text)
    folders = re.findall(r"`([\w./-]+/)`", text)
    return {one for one in [*files, *folders] if "NAME" not in one and not one.startswith(MADE)}


def is_there(path: str) -> bool:
    """Whether there is such a file, or a folder, which tables name without those around it."""
    if any((place / path).exists() for place in PLACES):
        return True
    return path.endswith("/") and any(one.is_dir() for one in (ROOT / "src").rglob(path.rstrip("/")))


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_what_is_named_exists(document: str):
    paths = named_paths((ROOT / document).read_text(encoding="utf-8"))
    assert len(paths) > 10
    missing = [one for one in sorted(paths) if not is_there(one)]
    assert not missing, f"{document} names {', '.join(missing)}"


def test_placeholders_and_files_of_runs_are_told_from_files_of_the_repository():
    text = (
        "`methods/NAME.py`, RUN/notes.md, per_image.csv, `methods/base.py` and `pytest tests/test_cli.py`, `reading/`"
    )
    assert named_paths(text) == {"methods/base.py", "tests/test_cli.py", "reading/"}
