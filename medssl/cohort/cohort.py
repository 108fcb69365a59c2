"""Cohort: the ingested data set, as every other room sees it."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medssl.cohort import catalog
from medssl.cohort.arrays import read_array
from medssl.cohort.duplicates import near_duplicates
from medssl.cohort.samples import Samples, make_samples
from medssl.config import View
from medssl.display import card
from medssl.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["image", "exam", "patient"]
UNIT_COLUMN = {"image": "scan", "exam": "exam", "patient": "patient"}
COUNTED_BY = ("modality", "vendor", "body_part", "kind", "unit")  # the columns of the index `scans_by_kind`


class Cohort:
    """A folder of scans with their catalog. Open it with `Cohort.open`; make it with `medssl.ingest`.

    Scans come in the order of their content hash, so that neither the secret behind the pseudonyms nor the names of
    the files decide which scan comes first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | Path) -> Cohort:
        """Raises UserError where `path` is not a cohort."""
        folder = Path(path).expanduser().resolve()
        with catalog.reading(folder):
            return cls(folder)

    @classmethod
    def create(cls, path: str | Path) -> Cohort:
        """Make an empty cohort at `path`, or open the one that is there."""
        folder = Path(path).expanduser().resolve()
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not catalog.exists(folder))):
            raise UserError("the cohort's place holds something else", str(folder), "Name a new or empty folder.")
        catalog.create(folder)
        return cls(folder)

    def __repr__(self) -> str:
        return f"Cohort({self.name!r}, {len(self)} scans)"

    def _repr_html_(self) -> str:
        """For notebooks: counts, and words of controlled vocabularies."""
        query = "SELECT modality, kind, count(*), count(DISTINCT patient) FROM scans GROUP BY modality, kind"
        with catalog.reading(self.path) as db:
            patients = db.execute("SELECT count(DISTINCT patient) FROM scans").fetchone()[0]
            rows = db.execute(f"{query} ORDER BY count(*) DESC").fetchall()
        facts = [f"{len(self):,} scans of {patients:,} patients", f"labels: {', '.join(self.targets()) or 'none'}"]
        cells = [[f"{m or 'unknown'}, {kind}", f"{scans:,}", f"{people:,}"] for m, kind, scans, people in rows]
        return card(f"Cohort {self.name}", facts, ["modality", "scans", "patients"], cells)

    def __len__(self) -> int:
        with catalog.reading(self.path) as db:
            return int(db.execute("SELECT count(*) FROM scans").fetchone()[0])

    def count(self, **values: str) -> int:
        """How many scans have these values, as in `count(modality="CT", vendor="GE")`; quick with a million scans.

        Args:
            values: of modality, vendor, body_part, kind or unit.

        Raises:
            UserError: another column; names the nearest.
        """
        for column in values:
            if column not in COUNTED_BY:
                raise unknown("column", column, COUNTED_BY, self.name)
        where = " AND ".join(f"{column}=?" for column in values) or "1"
        with catalog.reading(self.path) as db:
            return int(db.execute(f"SELECT count(*) FROM scans WHERE {where}", tuple(values.values())).fetchone()[0])

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def modality(self) -> str:
        """Of most scans, in DICOM's word; empty where no scan says. It decides how they are augmented."""
        found = self.scans()["modality"].dropna().mode()
        return str(found[0]) if len(found) else ""

    @property
    def hash(self) -> str:
        """Names the content: which pixels, on which grids, belong to one patient and one group. Labels do not count.

        It does not depend on the workspace's secret: the same scans give the same hash in every workspace.
        """
        scans = self._scans
        pixels = scans["content_hash"] + scans["affine"].map(json.dumps) + scans["spacing"].map(json.dumps)
        parts = []
        for owner in ("patient", "group"):
            members: dict[str, list[str]] = {}
            for key, content in zip(scans[owner], pixels, strict=True):
                members.setdefault(key, []).append(content)
            parts.append(sorted(sorted(m) for m in members.values()))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def scans(self) -> pd.DataFrame:
        """One row a scan: the columns of `catalog.SCAN_COLUMNS`, JSON decoded, `grp` as `group`.

        `group` is the patient where no group was named; `spacing` is mm in the order of the array's axes.
        """
        return self._scans.copy()

    def scan(self, scan: str) -> dict[str, Any]:
        """The row of one scan, as in `scans()`.

        Raises:
            UserError: no such scan.
        """
        with catalog.reading(self.path) as db:
            columns = ",".join(catalog.SCAN_COLUMNS)
            found = db.execute(f"SELECT {columns} FROM scans WHERE scan=?", (scan,)).fetchone()
        if found is None:
            raise UserError(f"no scan '{scan}' in this cohort", str(self.path))
        row = dict(zip(catalog.SCAN_COLUMNS, found, strict=True))
        row |= {column: row[column] and json.loads(row[column]) for column in catalog.JSON_COLUMNS}
        row["group"] = row.pop("grp") or row["patient"]
        return row

    def files(self) -> pd.DataFrame:
        """One row a file of the sources: file, status (accepted, rejected, ignored), code, scan, size, mtime_ns."""
        return self._table("SELECT * FROM files ORDER BY file")

    def findings(self) -> pd.DataFrame:
        """What ingestion noticed: code, severity (info, warning, error), scan, file, sentence, todo."""
        return self._table("SELECT * FROM findings ORDER BY code, scan, file")

    def array(self, scan: str) -> np.ndarray:
        """Voxels as a read-only memory map: (z, y, x) in RAS+ for volumes, (y, x) for images, (C, y, x) for colour."""
        array = read_array(self.path, scan)
        if array is None:
            raise UserError(f"no scan '{scan}' in this cohort", str(self.path))
        return array

    def mask(self, scan: str) -> np.ndarray | None:
        """Integer label mask on the grid of `array(scan)`, or None where the scan has none."""
        return read_array(self.path, scan, "mask")

    def padding(self, scan: str) -> np.ndarray | None:
        """True where a voxel is padding and holds no measurement, or None where nothing is padded."""
        return read_array(self.path, scan, "padding")

    def targets(self) -> list[str]:
        with catalog.reading(self.path) as db:
            return [row[0] for row in db.execute("SELECT DISTINCT target FROM labels ORDER BY target")]

    def labels(self, target: str) -> pd.DataFrame:
        """scan, value (text) of every scan that has this label.

        Raises:
            UserError: no such target; names the nearest.
        """
        frame = self._table(
            "SELECT labels.scan, value FROM labels JOIN scans USING(scan) WHERE target=? "
            "ORDER BY content_hash, labels.scan",
            (target,),
        )
        if frame.empty:
            known = self.targets()
            if not known:
                fix = "Add labels with: medssl label COHORT labels.csv"
                raise UserError("this cohort has no labels", self.name, fix)
            raise unknown("target", target, known, self.name)
        return frame

    def units(self, target: str, unit: Unit = "image") -> pd.DataFrame:
        """unit, patient, group, label: one row a labeled unit (the id of the scan, exam or patient).

        Raises:
            UserError: unknown target or unit, or scans of one unit that disagree about the label.
        """
        if unit not in UNIT_COLUMN:
            raise unknown("unit", unit, list(UNIT_COLUMN), "target.unit")
        frame = self.labels(target).merge(self._scans, on="scan", validate="one_to_one", sort=False)
        frame = frame.assign(unit=frame[UNIT_COLUMN[unit]]).rename(columns={"value": "label"})
        conflicts = frame.groupby("unit")["label"].nunique()
        if (conflicts > 1).any():
            raise UserError(
                f"{int((conflicts > 1).sum())} of {len(conflicts)} units ({unit}) have scans with different values "
                f"of '{target}'",
                self.name,
                "Choose a smaller unit, or a target that is the same for all scans of a unit.",
            )
        return frame.drop_duplicates("unit")[["unit", "patient", "group", "label"]].reset_index(drop=True)

    def near_duplicates(self) -> pd.DataFrame:
        """first, second (scan ids), detail: pairs that show the same picture. See `medssl.cohort.duplicates`."""
        return near_duplicates(self.path, self._scans)

    def samples(self, view: View | None = None) -> Samples:
        """Training samples of this View: made once, then memory-mapped. See `medssl.cohort.samples`."""
        return make_samples(self.path, self._scans, view or View())

    @cached_property
    def _scans(self) -> pd.DataFrame:
        frame = self._table("SELECT * FROM scans ORDER BY content_hash, scan").rename(columns={"grp": "group"})
        for column in catalog.JSON_COLUMNS:
            frame[column] = [None if text is None else json.loads(text) for text in frame[column]]
        frame["group"] = frame["group"].where(frame["group"].notna(), frame["patient"])
        return frame

    def _table(self, query: str, values: tuple[str, ...] = ()) -> pd.DataFrame:
        import pandas as pd

        with catalog.reading(self.path) as db:
            cursor = db.execute(query, values)
            return pd.DataFrame(cursor.fetchall(), columns=[c[0] for c in cursor.description], dtype=object)
