"""Metrics: arrays in, numbers out.

All take weights, so that one call scores every bootstrap replicate; weights of one give the plain metric.
"""

from medssl.metrics.classification import CROSS_FITTED, METRICS, accuracy, macro_auc, one_hot, score_metric

__all__ = ["CROSS_FITTED", "METRICS", "accuracy", "macro_auc", "one_hot", "score_metric"]
