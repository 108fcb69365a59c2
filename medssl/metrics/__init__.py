"""Metrics: arrays in, numbers out.

All take weights, so that one call scores every bootstrap replicate; weights of one give the plain metric.
"""

from medssl.metrics.classification import CROSS_FITTED, METRICS, accuracy, macro_auc, one_hot
from medssl.metrics.families import CALIBRATED, FAMILIES, Family, check_metric, metric_range, score_metric
from medssl.metrics.ordinal import median_grade

__all__ = [
    "CALIBRATED",
    "CROSS_FITTED",
    "FAMILIES",
    "METRICS",
    "Family",
    "accuracy",
    "check_metric",
    "macro_auc",
    "median_grade",
    "metric_range",
    "one_hot",
    "score_metric",
]
