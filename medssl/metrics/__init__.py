"""Metrics: arrays in, numbers out.

All take weights, so that one call scores every bootstrap replicate; weights of one give the plain metric.
"""

from medssl.metrics.classification import LOWER_IS_BETTER, METRICS, accuracy, macro_auc, one_hot

__all__ = ["LOWER_IS_BETTER", "METRICS", "accuracy", "macro_auc", "one_hot"]
