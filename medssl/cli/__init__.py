"""The command line: one thin command per public function, one file per group of them.

Results go to standard output (`--json`: one object and nothing else), messages to standard error.
Exit codes: 0 done, 1 failed, 2 the user's input.
"""

from medssl.cli import cohorts, curation, encoders, experiments, predictors, privacy  # they register their commands
from medssl.cli.base import app


def main() -> None:
    app()


__all__ = ["app", "cohorts", "curation", "encoders", "experiments", "main", "predictors", "privacy"]
