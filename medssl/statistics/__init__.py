"""Intervals and paired comparisons: pure functions on evidence rows. Every figure shown is computed here."""

from medssl.statistics.curves import area, full_shares, label_savings, smallest_budget
from medssl.statistics.delong import auc_covariance, fixed_models
from medssl.statistics.evidence import Evidence, arrange, class_order, read_evidence
from medssl.statistics.intervals import MANY_DRAWS, MIN_DRAWS, MIN_UNITS_A_CLASS
from medssl.statistics.pairs import equivalence, holm, no_worse, paired_cases
from medssl.statistics.power import detectable_difference
from medssl.statistics.proportions import Proportion, against_chance, against_each_other, proportion
from medssl.statistics.readers import Estimate, readers
from medssl.statistics.tables import Replicates, differences, scores
from medssl.statistics.verdicts import margin_sentence, p_value, savings_sentence, share_sentence, verdict_sentence

__all__ = [
    "MANY_DRAWS",
    "MIN_DRAWS",
    "MIN_UNITS_A_CLASS",
    "Estimate",
    "Evidence",
    "Proportion",
    "Replicates",
    "against_chance",
    "against_each_other",
    "area",
    "arrange",
    "auc_covariance",
    "class_order",
    "detectable_difference",
    "differences",
    "equivalence",
    "fixed_models",
    "full_shares",
    "holm",
    "label_savings",
    "margin_sentence",
    "no_worse",
    "p_value",
    "paired_cases",
    "proportion",
    "read_evidence",
    "readers",
    "savings_sentence",
    "scores",
    "share_sentence",
    "smallest_budget",
    "verdict_sentence",
]
