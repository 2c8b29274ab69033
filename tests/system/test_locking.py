"""Two runs never share a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sam_adapter.errors import ConfigError
from sam_adapter.system.locking import owned

OWNER = """
import os, sys, time
from pathlib import Path
from sam_adapter.system.locking import owned
with owned(Path(sys.argv[1])):
    if os.fork() == 0:  # a reading process that outlives its parent
        print("owned", flush=True)
    time.sleep(60)
"""


def test_a_second_owner_is_refused_with_the_first_ones_process(tmp_path: Path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        with pytest.raises(ConfigError, match=rf"'.*run' is being written by process {process.pid} on "), owned(folder):
            pass
        process.kill()
        process.wait()
        with owned(folder):  # although the forked process is still there
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_folder_in_which_nothing_was_written_goes_again(tmp_path: Path):
    with owned(tmp_path / "run"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    with owned(tmp_path / "run"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_locks_it_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for name in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, name, None)
    with owned(tmp_path):
        pass
    assert "cannot be locked" in caplog.text
