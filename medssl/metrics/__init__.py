"""Metrics: arrays in, numbers out.

All take weights, so that one call scores every bootstrap replicate; weights of one give the plain metric.
"""

from medssl.metrics.classification import METRICS, accuracy, macro_auc, one_hot

__all__ = ["METRICS", "accuracy", "macro_auc", "one_hot"]
