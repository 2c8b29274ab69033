"""Ctrl-C ends the program quietly also before the command line is there."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SLOW = """
import sys, time
print("importing", flush=True)
try:
    time.sleep(60)
except BaseException as error:  # as libraries do
    print("caught", type(error), file=sys.stderr)
"""
SCRIPTS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["scripts"]
MODULE, _, FUNCTION = SCRIPTS["sam-adapter"].partition(":")
STARTS = {
    "module": ["-m", "sam_adapter", "--help"],
    "script": ["-c", f"import sys; from {MODULE} import {FUNCTION}; sys.exit({FUNCTION}())", "--help"],
}


@pytest.mark.parametrize("rank", [None, "1"])
@pytest.mark.parametrize("start", STARTS)
def test_ctrl_c_while_the_command_line_is_imported(tmp_path: Path, start: str, rank: str | None):
    """A library that takes a minute to import stands in the place of one that the command line needs."""
    (tmp_path / "jsonargparse.py").write_text(SLOW)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path} | ({"LOCAL_RANK": rank} if rank else {})
    process = subprocess.Popen(
        [sys.executable, *STARTS[start]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 130, messages
    assert messages == ("" if rank else "sam-adapter: stopped.\n")


@pytest.mark.parametrize("start", STARTS)
def test_the_command_line_is_reached(start: str):
    shown = subprocess.run([sys.executable, *STARTS[start]], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("usage: sam-adapter COMMAND")
