import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def evidence_rows():
    """Evidence of arms with known ability: score = ability * truth + noise of draw and patient."""

    def make(abilities, budgets=("5", "all"), draws=6, patients=60, images=2, seed=0):
        rng = np.random.default_rng(seed)
        truth = np.repeat(np.arange(patients) % 2, images)
        patient_noise = np.repeat(rng.normal(size=patients), images)
        rows = []
        for arm, ability in abilities.items():
            for budget in budgets:
                for draw in range(draws):
                    logit = ability * (truth - 0.5) * 2 + patient_noise + rng.normal(size=len(truth))
                    score = 1 / (1 + np.exp(-logit))
                    for cls, value in (("no", 1 - score), ("yes", score)):
                        rows.append(
                            pd.DataFrame(
                                {
                                    "job": f"{arm}{budget}{draw}",
                                    "arm": arm,
                                    "budget": budget,
                                    "draw": draw,
                                    "unit": [f"u{i:03d}" for i in range(len(truth))],
                                    "patient": [f"p{i // images:03d}" for i in range(len(truth))],
                                    "cls": cls,
                                    "truth": (truth == (cls == "yes")).astype(float),
                                    "score": value,
                                }
                            )
                        )
        return pd.concat(rows, ignore_index=True).sample(frac=1, random_state=1)

    return make
