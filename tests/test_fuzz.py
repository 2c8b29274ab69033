"""A sample of what `tools/fuzz.py` tries: absurd option values and broken descriptions end in a sentence."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "fuzz.py"


def test_a_sample_of_absurd_values_and_broken_descriptions():
    command = [sys.executable, str(TOOL), "--options", "40", "--descriptions", "40", "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "40 option values, 40 descriptions: 0 failures" in done.stdout
