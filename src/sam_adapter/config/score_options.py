"""Options for the scores that are added to those that every run has."""

from dataclasses import dataclass

from ..errors import ConfigError
from .choices import asked_kinds, parse_metrics
from .options import PromptOptions
from .ranges import range_problem, shortened
from .registry import MORE_METRICS, TASKS
from .scores import addable


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(PromptOptions):
    """Scores of what is answered to the prompts."""

    metrics: str = ""
    """Scores beside iou, dice, mae and ber, separated by commas; docs/binary.md says what each is, and docs/semantic.md
    which a task with classes has."""
    spacing: float | str = 1.0
    """Distance between the middles of neighbouring pixels in mm, for hd95: a number, or 'DOWN,ACROSS' where rows and
    columns lie differently far apart. With 1, distances are in pixels."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        problems: list[str | None] = [*super().problems(), *self._spacing_problems()]
        try:
            added = self.added_metrics
        except ConfigError as error:
            return [*problems, *error.problems]
        asked = asked_kinds(self.prompt)
        return problems + [
            f"metrics: '{name}' needs pictures with and without foreground asked alike, and those without can only be "
            f"asked without a prompt; with prompt {self.prompt} leave it out, or take prompt none or mixed."
            for name in added
            if not set(MORE_METRICS[name].kinds) & set(asked)
        ]

    def task_problems(self, task: str) -> list[str]:
        """What a task cannot be scored by; nothing while ``metrics`` cannot be read.

        Args:
            task: A key of ``TASKS``.
        """
        try:
            added = self.added_metrics
        except ConfigError:
            return []
        known = addable(task)
        having = {name: [other for other in TASKS if name in addable(other)] for name in added if name not in known}
        return [
            f"metrics: '{name}' is a score of one foreground mask a picture, which task {' or '.join(others)} has; "
            f"task {task} can add {', '.join(known)}."
            for name, others in having.items()
        ]

    def _spacing_problems(self) -> list[str | None]:
        if not isinstance(self.spacing, str):
            return []  # the table of ranges has it
        try:
            values = [float(part) for part in self.spacing.split(",")]
        except ValueError:
            values = []
        if len(values) != 2:
            return [f"spacing: expected a number of mm, or two as '0.5,0.7', got {shortened(self.spacing)}."]
        return [range_problem("spacing", value) for value in values]

    @property
    def added_metrics(self) -> tuple[str, ...]:
        """The scores to add, in the order of columns."""
        return parse_metrics(self.metrics)

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """From row to row and from column to column, in mm."""
        if isinstance(self.spacing, str):
            down, across = (float(part) for part in self.spacing.split(","))
            return down, across
        return self.spacing, self.spacing
