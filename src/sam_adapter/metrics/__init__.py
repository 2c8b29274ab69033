"""Scores of masks against ground truth."""

from .overlap import COLUMNS, OverlapMetrics, score
from .precision_recall import ThresholdCurve

__all__ = ["COLUMNS", "OverlapMetrics", "ThresholdCurve", "score"]
