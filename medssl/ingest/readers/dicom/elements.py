"""Values of elements whose bytes mean one thing only, in a fraction of the time that pydicom takes for any element."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UI"})  # separated by backslashes
BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


def value_of(data: Any, tag: Any) -> Any:
    """The value of a data set's element: text (numbers too), a number, a list of these, or None.

    ASCII text and numbers in little endian are read here. What needs a character set, a dictionary of private tags or
    other elements to be understood is left to pydicom, which raises whatever it stumbles over.
    """
    element = data.get_item(tag)
    raw = getattr(element, "is_raw", False) and element.is_little_endian
    if raw and type(element.value) is bytes:
        vr, value = element.VR or _public(int(tag)), element.value
        if vr in TEXT and value.isascii() and b"\x1b" not in value:
            parts = [part.strip(" \0") for part in value.decode("ascii").split("\\")]
            return parts if len(parts) > 1 else parts[0]
        if vr in BINARY:
            code = BINARY[vr]
            size = struct.calcsize(code)
            if value and len(value) % size == 0:
                found = struct.unpack(f"<{len(value) // size}{code}", value)
                return list(found) if len(found) > 1 else found[0]
    return data[tag].value


@lru_cache(maxsize=512)
def _public(tag: int) -> str:
    """The value representation by the dictionary of DICOM, empty where it has none or leaves a choice."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""
