"""Which columns of a label table nobody has to look at first: their values cannot name a patient."""

from __future__ import annotations

import re

USUAL_COLUMNS = frozenset(
    "age sex gender handedness species strain group diagnosis label class target finding outcome split".split()
)
MAX_WORDS, MAX_LENGTH = 10, 24  # of a column that nobody looked at: different values, and letters of one
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})


def is_harmless(name: str, values: list[str]) -> bool:
    """Numbers below 1,000, or words that many patients share: nothing that could name one of them."""
    known = {value for value in values if value.lower() not in MISSING}
    numbers = all(re.fullmatch(r"-?\d{1,3}(\.\d+)?", value) for value in known)
    if name.lower() == "age" or numbers:
        return bool(known) and numbers
    few = len(known) <= MAX_WORDS and (name.lower() in USUAL_COLUMNS or 2 * len(known) <= len(values))
    return bool(known) and few and all(len(value) <= MAX_LENGTH for value in known)
