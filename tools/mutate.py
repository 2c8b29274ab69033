"""Try a sample of small changes to the sources, one after the other, and count those that no test notices.

`mutmut` makes the changes (in the folder ``mutants``) and runs for each the tests that reach it; what to change and
which tests there are is in ``pyproject.toml``. Here the sample is drawn, the same for a seed. A run that is stopped is
gone on with by the next one. See docs/testing.md.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTANTS = ROOT / "mutants"
AT_ONCE = 100
"""Mutants of one call of mutmut. Each result is on disk at once; a call begins with all tests of unchanged sources."""
NO_TESTS = (5, 33)
EQUIVALENT = ROOT / "tools" / "equivalent_mutants.txt"
"""Changes that change no behaviour, ``function | the line after the change | reason`` a line."""


def mutmut(*arguments: str) -> str:
    """What a command of mutmut prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "SAM_ADAPTER_SHARED": str(MUTANTS / "no")}
    command = [str(Path(sys.executable).parent / "mutmut"), *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"mutate: mutmut failed:\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return result.stdout


def run(*names: str) -> None:
    """Run the tests of some mutants, one after the other."""
    mutmut("run", "--max-children", "1", *names)


def results() -> dict[str, int | None]:
    """All mutants by name, with the exit status of their tests if they were run."""
    found: dict[str, int | None] = {}
    for file in sorted((MUTANTS / "src").rglob("*.meta")):
        found |= json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def changed_line(name: str) -> str:
    """``function | line`` of a mutant, the line as it is after the change."""
    added = [line[1:].strip() for line in mutmut("show", name).splitlines() if line.startswith("+")]
    function = name.removeprefix("sam_adapter.").rsplit("__mutmut_", 1)[0].replace("x_", "", 1)
    return f"{function.replace('xǁ', '').replace('ǁ', '.')} | {added[-1] if added else ''}"


def equivalent() -> set[str]:
    """Changes that no test can notice."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines() if EQUIVALENT.exists() else []
    return {line.rsplit(" | ", 1)[0] for line in lines if line and not line.startswith("#")}


def outcome(status: int | None) -> str:
    """What an exit status of the tests means; a test that never ends is a test that fails."""
    return "survived" if status == 0 else "no tests" if status in NO_TESTS else "killed"


def report(sample: list[str]) -> None:
    """The share killed of each module, and the survivors."""
    found, known = results(), equivalent()
    by_module: dict[str, Counter[str]] = {}
    survivors = []
    for name in sample:
        if found[name] is None:
            continue
        module = name.removeprefix("sam_adapter.").rsplit(".x", 1)[0]
        result = outcome(found[name])
        if result != "killed":
            line = changed_line(name)
            if line in known:
                result = "equivalent"
            else:
                survivors.append(f"{name}\n  {line}")
        by_module.setdefault(module, Counter())[result] += 1
    print(f"{'module':<28}{'killed':>8}{'survived':>10}{'no tests':>10}{'equivalent':>12}{'share':>8}")
    total: Counter[str] = sum(by_module.values(), Counter())
    for module, counts in [*sorted(by_module.items()), ("all", total)]:
        counted = counts.total() - counts["equivalent"]
        share = counts["killed"] / counted if counted else 1.0
        columns = f"{counts['killed']:>8}{counts['survived']:>10}{counts['no tests']:>10}{counts['equivalent']:>12}"
        print(f"{module:<28}{columns}{share:>8.1%}")
    print("\n".join(["", *survivors]))


def main() -> None:
    """Draw the sample, run what is missing of it, and report."""
    parser = argparse.ArgumentParser(description="Mutation testing of a sample.")
    parser.add_argument("--count", type=int, default=400, help="mutants in the sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--report", action="store_true", help="run nothing, show what is known")
    options = parser.parse_args()
    if not options.report:
        run("sam_adapter.methods.sam_adapter.high_frequency.x_high_frequency__mutmut_1")  # makes them all
    names = sorted(results())
    random.Random(options.seed).shuffle(names)
    sample = names[: options.count]
    missing = [] if options.report else [name for name in sample if results()[name] is None]
    for start in range(0, len(missing), AT_ONCE):
        run(*missing[start : start + AT_ONCE])
        print(f"{min(start + AT_ONCE, len(missing))} of {len(missing)}", file=sys.stderr, flush=True)
    report(sample)


if __name__ == "__main__":
    main()
