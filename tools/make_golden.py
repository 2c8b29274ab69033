"""Write the numbers that tests/test_small_golden.py compares with: `python tools/make_golden.py [CASE ...]`.

Only where the tests against the existing implementations and the families' own predictors pass (tests/test_golden.py
and tests/backbones, not skipped), and only for a change that means to change numbers. In float32, with one thread.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from golden_cases import CASES, FOLDER, outcome


def main() -> None:
    """Write a file for each case."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for case in CASES if len(sys.argv) == 1 else [case for case in CASES if case.name in sys.argv[1:]]:
        file = FOLDER / f"{case.name}.safetensors"
        save_file(outcome(case), file)
        print(
            f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}: {file.stat().st_size} bytes"
        )


if __name__ == "__main__":
    main()
