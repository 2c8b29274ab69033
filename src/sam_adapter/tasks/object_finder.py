"""Objects that are found otherwise than by splitting maps: by a grid of points, or by asking for them again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..batch import Batch
from ..config.choices import AskedKind
from ..config.object_options import ObjectOptions
from ..config.registry import TASKS
from ..errors import ConfigError
from ..system.machine import Machine
from ..tiling.grid import Tiling
from .base import AnyPrediction
from .grid import Grid, find_by_grid
from .object_prediction import ObjectPrediction
from .refinement import refine_objects
from .splitting import FoundObjects
from .windows import PromptedModel, SeenPicture


@dataclass(frozen=True, kw_only=True)
class ObjectFinder:
    """Asks a model for the objects of pictures.

    Attributes:
        model: A segmenter.
        machine: Where it is, and its precision.
        tiling: How pictures are cut; None takes them whole.
        thresholds: Probability above which a pixel is foreground, for each kind of prompt.
        grid: Points to ask with; None asks again for what the maps were split into.
        outlines: Whether objects that are asked for again take the outlines of the answers, too.
        batch_size: Tiles that are encoded together.
    """

    model: PromptedModel
    machine: Machine
    tiling: Tiling | None
    thresholds: Mapping[AskedKind, float]
    grid: Grid | None = None
    outlines: bool = True
    batch_size: int = 1

    def __call__(self, batch: Batch, at: int, split: Callable[[], FoundObjects]) -> FoundObjects:
        """The objects of a picture.

        Args:
            batch: With pictures, or with what the encoder gave for them.
            at: Position of the picture.
            split: What splits its maps.
        """
        seen = SeenPicture.of(batch, at, self.model, self.machine, self.tiling, self.batch_size)
        if self.grid is not None:
            return find_by_grid(seen, self.grid, self.thresholds["points"])
        return refine_objects(seen, split(), self.thresholds["box"], outlines=self.outlines)


def finder_asked(
    options: ObjectOptions,
    task: str,
    model: PromptedModel,
    machine: Machine,
    *,
    tiling: Tiling | None,
    thresholds: Mapping[AskedKind, float],
    batch_size: int,
) -> ObjectFinder | None:
    """What finds objects as a command's options ask for it; None where the maps alone are split.

    Raises:
        ConfigError: If the task has no objects.
    """
    if not options.grid and options.refine == "none":
        return None
    if not TASKS[task].objects:
        name = "grid" if options.grid else "refine"
        raise ConfigError(
            f"{name}: the task '{task}' has no objects; leave it out, or give an adapter of '--task instance'."
        )
    grid = Grid(
        points=options.grid,
        multimask=options.grid_multimask,
        quality=options.quality_threshold,
        stability=options.stability_threshold,
        overlap=options.overlap_threshold,
    )
    return ObjectFinder(
        model=model,
        machine=machine,
        tiling=tiling,
        thresholds=thresholds,
        grid=grid if options.grid else None,
        outlines=options.refine == "outlines",
        batch_size=batch_size,
    )


def with_objects(predictions: Sequence[AnyPrediction], batch: Batch, finder: ObjectFinder) -> list[AnyPrediction]:
    """Predictions about a batch's pictures, with what a finder gives where objects are to be found without prompts."""
    return [
        replace(one, known_objects=finder(batch, at, lambda one=one: one.objects))
        if isinstance(one, ObjectPrediction) and not one.asked_for
        else one
        for at, one in enumerate(predictions)
    ]
