"""Scores of masks against ground truth."""

from .overlap import COLUMNS, OverlapMetrics, is_empty, score
from .precision_recall import ThresholdCurve

__all__ = ["COLUMNS", "OverlapMetrics", "ThresholdCurve", "is_empty", "score"]
