"""Renew the figures of all cards in this folder, from the scans themselves.

    python data_cards/make.py [NAME ...]

Every set is found at MEDSSL_DATA or ../shared/data, ingested into a workspace of its own that is thrown away, and its
card written again by `medssl.cohort.card.write_card`: what people wrote in a card is kept. Labels that a set keeps in
its folders or file names are written to a table first.
"""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from medssl.cohort import Cohort
from medssl.cohort.card import write_card
from medssl.config import LabelColumns
from medssl.demo.patients import make_virtual_patients
from medssl.ingest import ingest
from medssl.workspace import Workspace, data_folder

HERE = Path(__file__).parent
SETS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> folder of the data, label table
    "bccd": ("bccd", {}),
    "busi": ("busi", {"file": "labels.csv", "scan": "file", "group": "dup_group", "targets": ["label"]}),
    "datalad_t1": ("dicom_series/datalad_T1", {}),
    "ge_gantry_tilt_ct": ("dicom_series/GE_gantry_tilt_CT", {}),
    "hippocampus": ("hippocampus", {}),
    "kermany_cxr": (
        "kermany_cxr",
        {"file": "labels.csv", "scan": "file", "patient": "patient_id", "targets": ["label3", "label2"]},
    ),
    "mednist_small": ("mednist_small", {"scan": "file", "targets": ["class"]}),
    "siim_ct_dicom": ("siim_ct_dicom", {"scan": "file", "targets": ["contrast"]}),
    "vendor_zoo": ("dicom_series/vendor_zoo", {}),
}


def main(names: list[str]) -> int:
    data = data_folder()
    if data is None:
        print("no real scans: set MEDSSL_DATA, or put them at ../shared/data", file=sys.stderr)
        return 2
    for name in names or [*SETS, "demo"]:
        with tempfile.TemporaryDirectory() as folder:
            workspace = Workspace(Path(folder) / "workspace")
            if name == "demo":
                source, columns = Path(folder) / "virtual", {"file": "labels.csv"}
                make_virtual_patients(source, 240)
            else:
                place, columns = SETS[name]
                source, columns = data / place, dict(columns)
                if columns and "file" not in columns:
                    columns["file"] = str(labels_of_names(name, source, Path(folder) / "labels.csv"))
            labels = LabelColumns(**columns) if columns else None
            ingest([source], workspace.cohort(name), workspace=workspace, labels=labels)
            page, metadata = write_card(Cohort.open(workspace.cohort(name)), HERE)
            print(page.name, metadata.name)
    return 0


def labels_of_names(name: str, source: Path, table: Path) -> Path:
    """mednist_small keeps its classes in folders, siim_ct_dicom its contrast in file names."""
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        if name == "mednist_small":
            rows.writerow(["file", "class"])
            rows.writerows([str(p.relative_to(source)), p.parent.name] for p in sorted(source.glob("*/*.jpeg")))
        else:
            rows.writerow(["file", "contrast"])
            words = {"0": "without", "1": "with"}
            found = [(p.name, re.search(r"CONTRAST_(\d)", p.name)) for p in sorted(source.glob("*.dcm"))]
            rows.writerows([file_name, words[match[1]]] for file_name, match in found if match)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
