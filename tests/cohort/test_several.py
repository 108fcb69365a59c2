import numpy as np
import pandas as pd
import pytest

from medssl.cohort.budgets import draw_budgets
from medssl.errors import UserError


@pytest.fixture
def pool():
    """200 units of 100 patients: `common` in half of them, `rare` in one of twenty, most of which are common too."""
    rng = np.random.default_rng(0)
    rows = []
    for unit in range(200):
        strata = [name for name, share in (("common", 0.5), ("rare", 0.05)) if rng.random() < share]
        rows.append((f"u{unit}", f"p{unit // 2}", tuple(strata) or ("none",)))
    frame = pd.DataFrame(rows, columns=["unit", "patient", "strata"])
    return frame.assign(label=frame["strata"].map("+".join))


def test_each_label_has_its_share_and_the_first_ones_hold_every_label(pool):
    plan = draw_budgets(pool, [3, 40, 80, "all"], "total", 20, 0)
    strata = pool.set_index("unit")["strata"]
    share = {name: np.mean([name in s for s in strata]) for name in ("common", "rare", "none")}
    for draw in plan.values():
        assert set(draw[3]) < set(draw[40]) < set(draw[80]) and len(set(draw[80])) == 80
        assert {name for unit in draw[3] for name in strata[unit]} == set(share)
        for name, wanted in share.items():
            found = sum(name in strata[unit] for unit in draw[80])
            assert abs(found - 80 * wanted) <= 3, (name, found)
    assert plan[0][40] != plan[1][40]
    assert plan == draw_budgets(pool, [3, 40, 80, "all"], "total", 20, 0)


def test_a_patient_gives_a_second_unit_when_there_is_no_other(pool):
    patient = pool.set_index("unit")["patient"]
    for draw in draw_budgets(pool, [40], "total", 5, 1).values():
        twice = 40 - patient[draw[40]].nunique()
        assert twice <= 1  # of the few patients with a rare label


def test_a_budget_below_the_number_of_labels_is_refused(pool):
    with pytest.raises(UserError, match="budget of 2 cannot hold one unit of each of 3"):
        draw_budgets(pool, [2], "total", 1, 0)
