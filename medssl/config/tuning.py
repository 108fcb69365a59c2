"""How recipes are chosen inside a label budget."""

from __future__ import annotations

from pydantic import Field

from medssl.config.base import Strict


class Tuning(Strict):
    """Every arm tries the same number of recipes in each job whose budget has at least 20 units of every class (grade,
    third of the numbers; of several labels with and without each).

    A part of the budget's own labels is held out to score them, the best one is fitted again on the whole budget, and
    the test patients are in none of this. Smaller budgets use the arm's own recipe.

    Attributes:
        trials: recipes an arm tries: its own, and the first ones of its `grid` (by default the strategy's).
        validation: share of each class's labels that is held out, patients whole.
    """

    trials: int = Field(ge=2)
    validation: float = Field(0.25, gt=0, lt=1)
