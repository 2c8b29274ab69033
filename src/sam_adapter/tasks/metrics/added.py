"""The scores that ``--metrics`` adds to those that every run has."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...config.registry import MORE_METRICS, imported, look_up
from .counts import Counts
from .full_size_answer import FullSizeAnswer
from .means import Answer, bootstrap_weights, is_empty, with_interval


class AddedScores:
    """Some of `MORE_METRICS`: of each answer, and those that only a whole set has.

    Args:
        names: Which ones, in the order of columns.
        spacing: From row to row and from column to column, in mm.

    Attributes:
        columns: What each answer has, for `of`: the score, or the value that it is made from over the set.
        means: Those whose score is the mean over the images with foreground.
    """

    def __init__(self, names: Sequence[str] = (), *, spacing: tuple[float, float] = (1.0, 1.0)) -> None:
        self.names = tuple(names)
        self.spacing = spacing
        self.columns: tuple[str, ...] = tuple(MORE_METRICS[name].column or name for name in names)
        self.means: tuple[str, ...] = tuple(name for name in names if not MORE_METRICS[name].over_set)

    @property
    def needs_whole(self) -> bool:
        """Whether any of them is made from an answer as a whole, not from counts of its pixels."""
        return any(MORE_METRICS[name].of == "answer" for name in self.names)

    def of(self, counts: Tensor, answers: Iterable[FullSizeAnswer]) -> Tensor:
        """The values of some answers.

        Args:
            counts: ``(Q, 5)`` from `count_pixels`.
            answers: The same Q answers as a whole. They are asked for one after another, so that no two need be in
                memory, and not at all where counts are enough.

        Returns:
            ``(Q, len(columns))`` float64, on the device of the counts.
        """
        if not self.names:
            return counts.new_zeros(len(counts), 0)
        functions = {name: look_up(MORE_METRICS, name) for name in self.names}
        whole = [name for name in self.names if MORE_METRICS[name].of == "answer"]
        rows = [[functions[name](answer) for name in whole] for answer in answers] if whole else []
        found = {name: torch.tensor([row[at] for row in rows], dtype=torch.float64) for at, name in enumerate(whole)}
        named = Counts(*counts.unbind(-1))
        found |= {name: functions[name](named) for name in self.names if name not in found}
        return torch.stack([found[name].to(counts) for name in self.names], -1)

    def over_set(self, answers: Mapping[Answer, Mapping[str, float]]) -> dict[str, float]:
        """Scores that are no means over images, with their intervals, as `OverlapMetrics.compute` gives them.

        Args:
            answers: Rows of all answers, those about images without foreground too.

        Returns:
            What the answers say nothing of is absent.
        """
        result: dict[str, float] = {}
        for name in self.names:
            entry, tables = MORE_METRICS[name], {}
            for kind in entry.kinds if entry.over_set else ():
                rows = [scores for answer, scores in answers.items() if answer.kind == kind]
                if rows:
                    values, present = zip(*((row[entry.column], not is_empty(row)) for row in rows), strict=True)
                    function = imported(entry.over_set)
                    tables[f"_{kind}"] = function(np.array(values), np.array(present), bootstrap_weights(len(rows)))
            tables = {suffix: table for suffix, table in tables.items() if np.isfinite(table[0])}
            if tables:
                tables |= {"": np.mean(list(tables.values()), axis=0)}
            for suffix, table in tables.items():
                result |= with_interval(f"{name}{suffix}", table)
        return result
