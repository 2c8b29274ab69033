"""Scores of masks against ground truth."""

from .added import AddedScores
from .answer import Answer
from .counts import count_pixels
from .means import COLUMNS, is_empty
from .overlap import OverlapMetrics, score, scores_of
from .precision_recall import ThresholdCurve
from .thresholds import threshold_ious

__all__ = [
    "COLUMNS",
    "AddedScores",
    "Answer",
    "OverlapMetrics",
    "ThresholdCurve",
    "count_pixels",
    "is_empty",
    "score",
    "scores_of",
    "threshold_ious",
]
