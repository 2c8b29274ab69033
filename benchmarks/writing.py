"""How tables of benchmarks are written in Markdown."""

from collections.abc import Sequence
from statistics import mean, stdev


def heading(columns: Sequence[str]) -> list[str]:
    """The two lines above the rows of a table."""
    return [row(columns), "|---" * len(columns) + "|"]


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Mean over seeds ± their standard deviation, of those that are known; a dash if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{mean(known):.3f}" + (f" ± {stdev(known):.3f}" if len(known) > 1 else "")
