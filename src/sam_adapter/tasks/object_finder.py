"""Objects that are found otherwise than by splitting maps: by a grid of points, or by asking for them again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..batch import Batch
from ..config.choices import AskedKind
from ..config.object_options import ObjectOptions
from .grid import Grid, find_by_grid
from .refinement import refine_objects
from .splitting import FoundObjects
from .windows import RunningModel, SeenPicture


@dataclass(frozen=True, kw_only=True)
class ObjectFinder:
    """Asks a model for the objects of pictures.

    Attributes:
        running: The model, and how it sees pictures.
        thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        grid: Points to ask with; None asks again for what the maps were split into.
        outlines: Whether objects that are asked for again take the outlines of the answers, too.
    """

    running: RunningModel
    thresholds: Mapping[AskedKind, float]
    grid: Grid | None = None
    outlines: bool = True

    def __call__(self, batch: Batch, at: int, split: Callable[[], FoundObjects]) -> FoundObjects:
        """The objects of a picture.

        Args:
            batch: With pictures, or with what the encoder gave for them.
            at: Position of the picture.
            split: What splits its maps.
        """
        seen = SeenPicture.of(batch, at, self.running)
        if self.grid is not None:
            return find_by_grid(seen, self.grid, self.thresholds["points"])
        return refine_objects(seen, split(), self.thresholds["box"], outlines=self.outlines)


def finder_asked(
    options: ObjectOptions, running: RunningModel, thresholds: Mapping[AskedKind, float]
) -> ObjectFinder | None:
    """What finds objects as a command's options ask for it; None where the maps alone are split."""
    if not options.finding:
        return None
    grid = Grid(
        points=options.grid,
        multimask=options.grid_multimask,
        quality=options.quality_threshold,
        stability=options.stability_threshold,
        overlap=options.overlap_threshold,
    )
    return ObjectFinder(
        running=running,
        thresholds=thresholds,
        grid=grid if options.grid else None,
        outlines=options.refine == "outlines",
    )
