"""Every command that README and docs tell has options that exist and values that they take."""

import re
import shlex
from pathlib import Path

import pytest

from sam_adapter import cli
from sam_adapter.config.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def told_commands(text: str) -> list[list[str]]:
    """The arguments of each command, in a block of its own or in backticks; those with places to fill are left out."""
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = re.findall(r"^\s*sam-adapter +(.*)$", text, flags=re.MULTILINE)
    inline = [" ".join(one.split()) for one in re.findall(r"`sam-adapter ([^`]+)`", text)]
    found = [shlex.split(one) for one in [*blocks, *inline]]
    return [one for one in found if one[0] in COMMANDS and len(one) > 1 and "--help" not in one]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_told_commands_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    own = tmp_path / "config.yaml"
    own.write_text("{images: i, masks: m, model: tiny, output: o}\n")
    for arguments in told_commands(page.read_text(encoding="utf-8")):
        known = [str(own) if one.endswith("/config.yaml") else one for one in arguments]
        try:
            cli.parse(known[0], known[1:])
        except (SystemExit, cli.SamAdapterError) as error:
            pytest.fail(f"{page.name}: sam-adapter {' '.join(arguments)}: {error}")


def test_commands_are_found_in_blocks_over_lines_and_in_backticks():
    text = "Do `sam-adapter check --images a\n--masks b`:\n\n    sam-adapter predict --adapter a \\\n      --input b"
    assert told_commands(text) == [
        ["predict", "--adapter", "a", "--input", "b"],
        ["check", "--images", "a", "--masks", "b"],
    ]
    assert sum(len(told_commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 40
