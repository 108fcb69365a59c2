"""How a network is trained on few labels, and for how long: the settings of every strategy that trains one."""

from __future__ import annotations

import math

from pydantic import Field

from medssl.config import Strict


class Recipe(Strict):
    """How a network is trained.

    Attributes:
        learning_rate: peak of AdamW (Loshchilov 2019), for encoder and head; warm-up over a tenth, then cosine.
        weight_decay: of AdamW.
        batch: at most this many samples a step (fewer where fewer are labeled).
        min_steps: at least this many steps,
        epochs: and at least this many passes over the labeled samples.
        crop: smallest share of the area that a view keeps; the other changes are the modality's preset.
    """

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    batch: int = Field(32, ge=2)
    min_steps: int = Field(100, ge=1)
    epochs: float = Field(6.0, gt=0)
    crop: float = Field(0.6, gt=0, le=1)


def steps_for(recipe: Recipe, samples: int) -> int:
    """How long so many labeled samples are trained on."""
    return max(recipe.min_steps, math.ceil(recipe.epochs * samples / min(recipe.batch, samples)))
