"""Files that are written: complete or not at all, readable for others, and one sentence when it cannot be."""

import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sam_adapter.errors import ConfigError, DataError
from sam_adapter.system.processes import host_name
from sam_adapter.system.writing import (
    remove_leftovers,
    require_writable,
    temporary_folder,
    temporary_name,
    write_tensors,
    written_beside,
)
from sam_adapter.training.last_checkpoint import RunCheckpointIO


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 200 KB, where the tests may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.name == "nt" or shutil.which("mount") is None:
        pytest.skip("needs mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


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

    expected = DataError if error is OSError else error
    with pytest.raises(expected):
        interrupted()
    with pytest.raises(expected), written_beside(path):
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    with written_beside(path) as one, written_beside(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # whose block ended last


def test_names_of_any_length_that_the_system_takes(tmp_path: Path):
    path = tmp_path / ("n" * 255)
    with written_beside(path) as partial:
        partial.write_text("x")
    assert path.read_text() == "x"
    with pytest.raises(DataError, match="too long"), written_beside(tmp_path / ("n" * 256)) as partial:
        partial.write_text("x")


@pytest.mark.skipif(os.name == "nt", reason="Unix alone has them")
def test_a_pipe_is_written_into_and_a_link_stays(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with written_beside(tmp_path / "pipe") as partial:
        partial.write_text("told")
    assert os.read(reading, 9) == b"told"
    os.close(reading)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    for text in ("new", "newer"):  # first the link leads to nothing
        with written_beside(tmp_path / "link", durable=True) as partial:
            assert partial.parent.name == "elsewhere"
            partial.write_text(text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "file").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link", "pipe"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "a", {"x": torch.ones(2)}, durable=True)
        RunCheckpointIO().save_checkpoint({"x": torch.ones(2)}, tmp_path / "b")
    finally:
        os.umask(before)
    for name in ("a", "b"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(small_disk: Path):
    def text(path: Path) -> None:
        with written_beside(path) as partial:
            partial.write_bytes(bytes(10**6))

    state = {"x": torch.zeros(10**6)}
    for write in (
        text,
        lambda path: write_tensors(path, state, durable=False),
        lambda path: RunCheckpointIO().save_checkpoint(state, path),
    ):
        path = small_disk / "file"
        path.write_text("old")
        with pytest.raises(DataError, match="the disk is full"):
            write(path)
        assert path.read_text() == "old"
        assert list(small_disk.iterdir()) == [path]
    with suppress(OSError):
        (small_disk / "filler").write_bytes(bytes(10**6))
    with pytest.raises(ConfigError, match=r"output: cannot write into '.*': the disk is full"):
        require_writable(small_disk / "run")


def test_a_last_checkpoint_does_not_need_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    RunCheckpointIO().save_checkpoint({"x": torch.ones(2)}, tmp_path / "last.ckpt")
    assert torch.equal(torch.load(tmp_path / "last.ckpt")["x"], torch.ones(2))


def test_a_folder_that_cannot_be_written_into_is_found_at_once(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output: '.*' cannot be a folder, as '.*file' is a file"):
        require_writable(tmp_path / "file" / "a" / "b")
    with pytest.raises(ConfigError, match=r"sheet: cannot write into .* too long"):
        require_writable(tmp_path / ("n" * 300) / "a", "sheet")
    with pytest.raises(ConfigError, match="output: "):
        require_writable(Path("/proc/nothing/here"))
    require_writable(tmp_path / "a" / "b" / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_dead_processes_go_and_all_else_stays(tmp_path: Path):
    inner = tmp_path / "adapter"
    inner.mkdir()
    script = (
        "import os, sys; from pathlib import Path\n"
        "from sam_adapter.system.writing import written_beside, temporary_name\n"
        "folder = Path(sys.argv[1])\n"
        "(folder / temporary_name('folder')).mkdir()\n"
        "with written_beside(folder / 'adapter' / 'x') as partial: os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    (tmp_path / "mine.partial").write_text("")
    (tmp_path / f".sam-adapter-other{host_name()}-999999-1-0.partial").write_text("")
    with temporary_folder(tmp_path) as own:
        (inner / temporary_name("partial")).write_text("")
        before = set(tmp_path.rglob("*"))
        assert len(before) == 7
        remove_leftovers(tmp_path)
        gone = before - set(tmp_path.rglob("*"))
        assert sorted(path.suffix for path in gone) == [".folder", ".partial"]
        assert own.is_dir()
    assert not own.exists()


def test_a_process_that_got_the_number_of_a_dead_one_keeps_nothing_alive(tmp_path: Path):
    old = tmp_path / f".sam-adapter-{host_name()}-{os.getpid()}-17-0.partial"  # this number, another moment of starting
    old.write_text("")
    remove_leftovers(tmp_path)
    assert old.exists() == (not Path("/proc/self/stat").exists())
