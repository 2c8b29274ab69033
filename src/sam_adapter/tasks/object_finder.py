"""Objects as options ask for them: by a grid of points, at the peaks of their cores, or asked for again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..batch import Batch
from ..config.choices import AskedKind
from ..config.object_options import ObjectOptions, Refine
from .grid import Grid, find_by_grid
from .refinement import refine_objects
from .splitting import FoundObjects
from .windows import RunningModel, SeenPicture

Split = Callable[[float | None], FoundObjects]
"""Splits the maps of a picture, given `core_rise` of `split_objects`."""


@dataclass(frozen=True, kw_only=True)
class ObjectFinder:
    """Asks a model for the objects of pictures.

    Attributes:
        running: The model, and how it sees pictures.
        thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        grid: Points to ask with; None splits the maps.
        core_rise: See `split_objects`; None takes no peaks.
        refine: What is taken of the answers where objects of the maps are asked for again.
    """

    running: RunningModel
    thresholds: Mapping[AskedKind, float]
    grid: Grid | None = None
    core_rise: float | None = None
    refine: Refine = "none"

    @property
    def asks_again(self) -> bool:
        """Whether the model is asked about a picture once more."""
        return self.grid is not None or self.refine != "none"

    def __call__(self, batch: Batch, at: int, split: Split) -> FoundObjects:
        """The objects of a picture.

        Args:
            batch: With pictures, or with what the encoder gave for them.
            at: Position of the picture.
            split: What splits its maps.
        """
        if not self.asks_again:
            return split(self.core_rise)
        seen = SeenPicture.of(batch, at, self.running)
        if self.grid is not None:
            return find_by_grid(seen, self.grid, self.thresholds["points"])
        return refine_objects(seen, split(self.core_rise), self.thresholds["box"], outlines=self.refine == "outlines")


def finder_asked(
    options: ObjectOptions, running: RunningModel, thresholds: Mapping[AskedKind, float]
) -> ObjectFinder | None:
    """What finds objects as a command's options ask for it; None where maps are split at cores that do not touch.

    Where the options say nothing of peaks of cores, the model's own `core_rise` holds.
    """
    chosen = running.model.core_rise if options.core_rise is None else options.core_rise
    grid = Grid(
        points=options.grid,
        multimask=options.grid_multimask,
        quality=options.quality_threshold,
        stability=options.stability_threshold,
        overlap=options.overlap_threshold,
    )
    finder = ObjectFinder(
        running=running,
        thresholds=thresholds,
        grid=grid if options.grid else None,
        core_rise=None if options.grid else chosen or None,
        refine=options.refine,
    )
    return finder if finder.asks_again or finder.core_rise is not None else None
