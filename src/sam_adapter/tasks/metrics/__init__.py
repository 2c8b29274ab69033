"""Scores of masks against ground truth."""

from .means import COLUMNS, Answer, is_empty
from .overlap import OverlapMetrics, score, scores_of
from .precision_recall import ThresholdCurve
from .thresholds import threshold_ious

__all__ = ["COLUMNS", "Answer", "OverlapMetrics", "ThresholdCurve", "is_empty", "score", "scores_of", "threshold_ious"]
