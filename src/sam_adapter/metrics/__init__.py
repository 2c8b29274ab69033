"""Scores of masks against ground truth."""

from .overlap import COLUMNS, OverlapMetrics, score

__all__ = ["COLUMNS", "OverlapMetrics", "score"]
