"""The pretraining engine: `pretrain` for a cohort, `fit` for samples of any origin.

run = pretrain(cohort, "simclr", out=folder, minutes=3)
run.checkpoint, run.steps, run.images_per_second, run.history
print(dry_run(cohort, "simclr", minutes=3))             # what it would do, and need
"""

from medssl.config import Engine
from medssl.training.plan import Plan
from medssl.training.run import Pretrained, dry_run, fit, pretrain

__all__ = ["Engine", "Plan", "Pretrained", "dry_run", "fit", "pretrain"]
