"""The pretraining engine: `pretrain` for a cohort, `fit` for samples of any origin.

run = pretrain(cohort, "simclr", out=folder, minutes=3)
run.checkpoint, run.steps, run.images_per_second, run.history
"""

from medssl.training.run import Pretrained, fit, pretrain

__all__ = ["Pretrained", "fit", "pretrain"]
