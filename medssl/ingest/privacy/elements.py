"""A DICOM data set without what identifies: rules of PS3.15 by `dicom-anonymizer`, and what it leaves undone.

The Basic Application Level Confidentiality Profile (PS3.15 E.2) with the option Retain Longitudinal Temporal
Information With Modified Dates (E.3.6). The library applies its rules to the top level, gives random UIDs and writes
00010101 over dates; here they apply inside sequences too, UIDs are keyed and dates shifted, so that files of one exam
stay together and exams of one patient keep their distances.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from medssl.ingest.identity import Keys
from medssl.ingest.privacy.about import read_date, shifted

DATABASE = "dicomfields_2026c"  # of the rules: Table E.1-1 of that edition
STANDARD = "1.2.840.10008."  # UIDs that DICOM itself defines
PATIENT_GROUP = 0x0010
FREE = frozenset({"PN", "ST", "LT", "UT", "UR", "AE"})  # names and long text go even where the profile has no rule
KEYED = {"PatientID": 0x00100020, "PatientName": 0x00100010}  # they get the patient key
B_VALUE, SIEMENS_B_VALUE, SIEMENS_CREATOR = 0x00189087, 0x0019100C, 0x00190010
METHOD = ["medssl: PS3.15 Basic Profile, modified dates", "pixels are unchanged"]
CODES = (("113100", "Basic Application Confidentiality Profile"),
         ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))  # fmt: skip


def clean(data: Any, keys: Keys, patient: str) -> None:
    """Take out of a data set, in place, what identifies; `patient` is its key."""
    _keep_b_value(data)
    data.remove_private_tags()
    _clean(data, keys, keys.days(patient))
    for keyword in KEYED:
        setattr(data, keyword, patient)
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = METHOD
    data.LongitudinalTemporalInformationModified = "MODIFIED"
    data.DeidentificationMethodCodeSequence = [_code(*code) for code in CODES]


def keyed_uid(keys: Keys, uid: str) -> str:
    """Another UID for this one, the same in all files of a workspace (PS3.5 B.2); those of DICOM itself stay."""
    if not uid or uid.startswith(STANDARD):
        return uid
    return f"2.25.{uuid.UUID(keys.digits('uid', uid), version=5).int}"


def _clean(data: Any, keys: Keys, days: int) -> None:
    for tag in list(data.keys()):
        try:
            element = data[tag]
        except Exception:  # pydicom raises whatever the bytes make it raise; what nobody can read is no loss
            del data[tag]
            continue
        if _is_unknown(element):
            del data[tag]
        elif element.VR == "UI":
            values = element.value if element.VM > 1 else [element.value]
            element.value = [keyed_uid(keys, str(v or "")) for v in values]
        elif element.VR in ("DA", "DT", "TM"):
            values = element.value if element.VM > 1 else [element.value]
            element.value = [_later(str(v or ""), element, days) for v in values]
        elif element.VR == "SQ":
            _clean_sequence(data, element, keys, days)
        else:
            _apply(data, element)


def _clean_sequence(data: Any, element: Any, keys: Keys, days: int) -> None:
    """Sequences that a rule names go, but for references to other instances, whose UIDs are keyed as theirs are."""
    action = _action(element.tag.group, element.tag.element)
    if action is not None and not action.__name__.endswith("_UID"):
        del data[element.tag]
        return
    for item in element.value:
        _clean(item, keys, days)


def _apply(data: Any, element: Any) -> None:
    action = _action(element.tag.group, element.tag.element)
    if action is None:
        if element.VR in FREE or element.tag.group == PATIENT_GROUP:
            del data[element.tag]
        return
    try:
        action(data, (element.tag.group, element.tag.element))
    except Exception:  # a value representation that the library has no dummy for
        del data[element.tag]


def _is_unknown(element: Any) -> bool:
    """Private, or not in the dictionary of DICOM: nobody can say what it holds. Padding goes too."""
    from pydicom.datadict import dictionary_has_tag, repeater_has_tag

    tag = element.tag
    known = dictionary_has_tag(tag) or repeater_has_tag(int(tag))
    return tag.is_private or not known or element.VR == "UN" or tag.group == 0xFFFC or tag.element == 0


@lru_cache(maxsize=4096)
def _action(group: int, element: int) -> Callable[[Any, tuple[int, int]], None] | None:
    single, ranges = _rules()
    if (group, element) in single:
        return single[group, element]
    fits = (f for (g, e, gm, em), f in ranges.items() if group & gm == g & gm and element & em == e & em)
    return next(fits, None)


@lru_cache(maxsize=1)
def _rules() -> tuple[dict[tuple[int, int], Any], dict[tuple[int, int, int, int], Any]]:
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    rules = initialize_actions(DATABASE)
    return {t: f for t, f in rules.items() if len(t) == 2}, {t: f for t, f in rules.items() if len(t) == 4}


def _later(text: str, element: Any, days: int) -> str:
    """A date some days later, or a time of day as it is; nothing where it is neither, or about the person's life."""
    rest = text if element.VR == "TM" else text[8:]
    if element.tag.group == PATIENT_GROUP or not set(rest) <= set("0123456789.+-: "):
        return ""
    if element.VR == "TM":
        return text
    day = read_date(text[:8])
    return "" if day is None else shifted(day, days).strftime("%Y%m%d") + rest


def _keep_b_value(data: Any) -> None:
    """The b-value of old Siemens files is private; it moves to its public element."""
    try:
        if B_VALUE not in data and str(data[SIEMENS_CREATOR].value).startswith("SIEMENS MR HEADER"):
            data.DiffusionBValue = float(data[SIEMENS_B_VALUE].value)
    except (KeyError, TypeError, ValueError):
        return


def _code(value: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
