"""What is asked is the adapter's task, for the adapter, the frozen base and the plainest alternatives alike."""

import json
import shutil
from pathlib import Path

import pytest

from evaluation_runs import eight_pairs, rows_of, scored, three_adapters
from sam_adapter.batch import Prompt, Query
from sam_adapter.config.registry import TASKS, TaskEntry
from sam_adapter.errors import ConfigError
from sam_adapter.tasks import binary


class Background(binary.BinaryTask):
    """Asks for what is not the object."""

    def evaluation_queries(self, annotation, rng):
        return [Query(prompt=Prompt(), label=0)]


@pytest.fixture
def asking(tmp_path: Path, sam_folder: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adapter whose task asks for the background."""
    monkeypatch.setattr(binary, "Background", Background, raising=False)
    monkeypatch.setitem(TASKS, "background", TaskEntry("tasks.binary:Background"))  # pyright: ignore[reportArgumentType]
    adapter = shutil.copytree(next(iter(three_adapters(tmp_path / "adapters", sam_folder).values())), tmp_path / "b")
    description = json.loads((adapter / "sam_adapter.json").read_text())
    (adapter / "sam_adapter.json").write_text(json.dumps({**description, "task": "background"}))
    return adapter


def test_all_rows_are_of_the_adapters_task(asking: Path, tmp_path: Path):
    pairs = eight_pairs(tmp_path)
    scored(pairs, asking, tmp_path / "out", with_frozen=True, report=True)
    found = {model: rows_of(tmp_path / "out", model=model) for model in (asking.name, "frozen", "otsu")}
    asked = [[int(row["tp"]) + int(row["fn"]) for row in rows] for rows in found.values()]
    assert asked[0] == asked[1] == asked[2]
    pixels = [sum(int(row[name]) for name in ("tp", "fp", "fn", "tn")) for row in found["frozen"]]
    assert all(some > all_pixels / 2 for some, all_pixels in zip(asked[0], pixels, strict=True))


def test_adapters_of_different_tasks_are_not_compared(asking: Path, tmp_path: Path, sam_folder: str):
    other = next(iter(three_adapters(tmp_path / "others", sam_folder).values()))
    with pytest.raises(ConfigError, match=r"has the task 'binary' and '.*' has 'background'; evaluate them apart"):
        scored(eight_pairs(tmp_path), asking, tmp_path / "out", compare=(other,))
