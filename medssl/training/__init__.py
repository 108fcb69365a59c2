"""The pretraining engine: `pretrain` for a cohort, `fit` for samples of any origin.

run = pretrain(cohort, "simclr", out=folder, minutes=3)
run.checkpoint, run.steps, run.images_per_second, run.history
print(dry_run(cohort, "simclr", minutes=3))             # what it would do, and need
show(cohort, checkpoint=run.checkpoint).rows             # pictures of what the network sees and answers
"""

from medssl.config import Engine
from medssl.training.plan import Plan
from medssl.training.run import Pretrained, dry_run, fit, pretrain
from medssl.training.show import Shown, show

__all__ = ["Engine", "Plan", "Pretrained", "Shown", "dry_run", "fit", "pretrain", "show"]
