"""Predictors that are taken away from an experiment: refitted, saved, and run on new scans.

They live in this room and not in transfer/, whose code is part of every job's name: a change of what is said about new
scans must not let results be computed again.
"""

from medssl.experiment.predictor.predict import predict
from medssl.experiment.predictor.predictor import Predictions, Predictor
from medssl.experiment.predictor.refit import refit

__all__ = ["Predictions", "Predictor", "predict", "refit"]
