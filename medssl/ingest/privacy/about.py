"""What a DICOM header says about the person and the day, and what of it may enter the catalog.

Dates move by whole weeks within ten years, by an offset that the workspace's secret gives each patient: days of the
week and the time between two exams of one patient stay, the date itself is gone. Ages over 89 count as 90, as in the
Safe Harbor rule of HIPAA (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any, NamedTuple

from medssl.ingest.identity import Keys

TAGS = ("StudyDate", "PatientAge", "PatientBirthDate", "PatientSex", "BurnedInAnnotation", "RecognizableVisualFeatures")
OLDEST = 90  # years: whoever is older is this old
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}  # of the units of PatientAge (PS3.5 6.2, AS)
SEXES = frozenset({"M", "F", "O"})  # defined terms of PatientSex (PS3.3 C.7.1.1)


class About(NamedTuple):
    """Of one file, in memory only.

    Attributes:
        day: of the study, as its proleptic ordinal.
        age: years. sex: M, F, O or unknown.
        burned_in, recognizable: YES, NO or nothing (PS3.3 C.7.6.1.1.1).
    """

    day: int | None = None
    age: float | None = None
    sex: str = "unknown"
    burned_in: str = ""
    recognizable: str = ""


NOBODY = About()


def about(values: dict[str, Any]) -> About:
    """From the values of TAGS; what cannot be understood counts as missing."""

    def word(tag: str) -> str:
        return str(values.get(tag) or "").strip().upper()

    def yes_no(text: str) -> str:
        return text if text in ("YES", "NO") else ""

    day, born = read_date(word("StudyDate")), read_date(word("PatientBirthDate"))
    sex = word("PatientSex")
    return About(
        day=None if day is None else day.toordinal(),
        age=_age(word("PatientAge"), born, day),
        sex=sex if sex in SEXES else "unknown",
        burned_in=yes_no(word("BurnedInAnnotation")),
        recognizable=yes_no(word("RecognizableVisualFeatures")),
    )


def attributes(found: About, keys: Keys, patient: str) -> dict[str, str | float]:
    """What the catalog keeps: `study_date` (ISO, shifted), `age`, `sex`, `recognizable_features`."""
    kept: dict[str, str | float] = {"sex": found.sex}
    if found.day is not None:
        kept["study_date"] = shifted(date.fromordinal(found.day), keys.days(patient)).isoformat()
    if found.age is not None:
        kept["age"] = found.age
    if found.recognizable:
        kept["recognizable_features"] = found.recognizable.lower()
    return kept


def moved(kept: dict[str, Any], keys: Keys, old: str, new: str) -> dict[str, Any]:
    """The attributes of a scan that turned out to be another patient's: the old shift is undone, the new one done."""
    if "study_date" not in kept or old == new:
        return kept
    day = shifted(date.fromisoformat(kept["study_date"]), keys.days(new) - keys.days(old))
    return {**kept, "study_date": day.isoformat()}


def shifted(day: date, days: int) -> date:
    return day + timedelta(days)


def read_date(text: str) -> date | None:
    """A DA of this and the last century (YYYYMMDD, or with the dots of ACR-NEMA), else None."""
    found = re.fullmatch(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)", text.strip())
    try:
        day = date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
    return day if day is not None and 1900 <= day.year <= 2100 else None


def _age(text: str, born: date | None, day: date | None) -> float | None:
    """Whole years from two on, months as fractions of a year before."""
    found = re.fullmatch(r"(\d{1,3})([DWMY]?)", text)
    if found and (found[2] or int(found[1])):
        years = int(found[1]) * YEARS[found[2] or "Y"]
    elif born is not None and day is not None and born <= day:
        years = (12 * (day.year - born.year) + day.month - born.month - (day.day < born.day)) / 12
    else:
        return None
    if years > 130:
        return None
    return min(OLDEST, int(years + 1e-9)) if years >= 2 else round(int(years * 12 + 1e-9) / 12, 2)
