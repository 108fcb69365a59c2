"""Intervals and paired comparisons: pure functions on evidence rows. Every figure shown is computed here."""

from medssl.statistics.evidence import Evidence, read_evidence
from medssl.statistics.intervals import MIN_DRAWS, MIN_UNITS_A_CLASS, crossed_bootstrap, percentile_interval
from medssl.statistics.tables import Replicates, differences, scores, verdict_sentence

__all__ = [
    "MIN_DRAWS",
    "MIN_UNITS_A_CLASS",
    "Evidence",
    "Replicates",
    "crossed_bootstrap",
    "differences",
    "percentile_interval",
    "read_evidence",
    "scores",
    "verdict_sentence",
]
