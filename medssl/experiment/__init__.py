"""Arms x budgets x draws -> Results."""

from medssl.experiment.audit import audit
from medssl.experiment.results import Results
from medssl.experiment.runner import run

__all__ = ["Results", "audit", "run"]
