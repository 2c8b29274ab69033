from pathlib import Path

import pytest

from sam_adapter.writing import written_beside


@pytest.mark.parametrize("existing", [True, False])
def test_a_file_takes_its_place_when_it_is_complete(tmp_path: Path, existing: bool):
    path = tmp_path / "scores.v2.json"
    if existing:
        path.write_text("old")
    with written_beside(path) as partial:
        assert partial.parent == tmp_path
        partial.write_text("new")
        assert path.exists() == existing
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_a_failure_the_old_file_is_as_it_was(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "scores.json"
    path.write_text("old")

    def interrupted() -> None:
        with written_beside(path) as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(error):
        interrupted()
    with pytest.raises(error), written_beside(path):
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_files_of_one_stem_do_not_meet(tmp_path: Path):
    table, scores = tmp_path / "metrics.csv", tmp_path / "metrics.json"
    with written_beside(table) as one, written_beside(scores) as other:
        one.write_text("table")
        other.write_text("scores")
    assert (table.read_text(), scores.read_text()) == ("table", "scores")
