"""Options of how objects are found without prompts."""

from dataclasses import dataclass
from typing import Literal

from .base import Config

Refine = Literal["none", "scores", "outlines"]


@dataclass(frozen=True, kw_only=True)
class ObjectOptions(Config):
    """Objects that are found without prompts, of a task with objects."""

    grid: int = 0
    """Find objects by N x N points in each picture, or in each tile, as SAM's automatic mask generator does; 0 splits
    the adapter's own maps."""
    grid_multimask: bool = True
    """With a grid: three masks for each point, of which those are kept that pass; false asks for the one that is
    trained."""
    quality_threshold: float = 0.88
    """With a grid: predicted quality (IoU) above which an answer is kept; SAM's pred_iou_thresh."""
    stability_threshold: float = 0.95
    """With a grid: IoU of an answer's masks at logits of 1 above and below the threshold, from which it is kept; SAM's
    stability_score_thresh."""
    overlap_threshold: float = 0.7
    """With a grid: IoU of two answers above which only the better one is kept; SAM's box_nms_thresh."""
    core_rise: float | None = None
    """Split objects at the peaks of their cores that rise by so much, such as .1, above the pass to a higher peak:
    round objects that touch are told apart better, and long ones may be cut. 0 takes no peaks: objects are then apart
    only where their cores do not touch. Without the option it is what found most objects of the validation pictures
    when the adapter was trained."""
    refine: Refine = "none"
    """Ask for each object that the maps are split into by its box again: 'scores' multiplies its score by the quality
    that is predicted of the answer, which ranks objects better; 'outlines' takes the answer's outline too."""

    def problems(self) -> list[str | None]:
        """See `Config.problems`."""
        both = self.grid and self.refine != "none"
        split = self.grid and self.core_rise
        return [
            *super().problems(),
            "grid and refine: objects of a grid have the outlines of their own answers; give one of them."
            if both
            else None,
            "grid and core_rise: with a grid nothing is split; give one of them." if split else None,
        ]

    @property
    def finding(self) -> dict[str, float | str]:
        """How objects are found, if not by splitting maps as they are split without options."""
        chosen = {"grid": self.grid or None, "core_rise": self.core_rise, "refine": self.refine}
        return {name: value for name, value in chosen.items() if value not in (None, "none")}
