"""Scores of masks against ground truth."""

from .added import AddedScores
from .counts import count_pixels, score, scores_of
from .full_size_answer import FullSizeAnswer
from .means import COLUMNS, Answer, is_empty
from .overlap import OverlapMetrics
from .precision_recall import ThresholdCurve
from .thresholds import threshold_ious

__all__ = [
    "COLUMNS",
    "AddedScores",
    "Answer",
    "FullSizeAnswer",
    "OverlapMetrics",
    "ThresholdCurve",
    "count_pixels",
    "is_empty",
    "score",
    "scores_of",
    "threshold_ious",
]
