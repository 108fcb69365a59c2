"""The pretraining engine: `pretrain` for a cohort, `fit` for samples of any origin.

run = pretrain(cohort, "simclr", out=folder, minutes=3)
run.checkpoint, run.steps, run.images_per_second, run.history
print(dry_run(cohort, "simclr", minutes=3))             # what it would do, and need
show(cohort, checkpoint=run.checkpoint).rows             # pictures of what the network sees and answers
ask(cohort, run.checkpoint, kind="question", count=20, seed=0)  # questions for people, with the network's answers
"""

from medssl.config import Engine
from medssl.training.ask import Asked, ask
from medssl.training.plan import Plan
from medssl.training.run import Pretrained, dry_run, fit, pretrain
from medssl.training.show import Shown, show

__all__ = ["Asked", "Engine", "Plan", "Pretrained", "Shown", "ask", "dry_run", "fit", "pretrain", "show"]
