"""How quickly a catalog of a million scans opens and counts.

    python benchmarks/catalog_speed.py [--json] [--quick] [--rows N]

The catalog is generated: plausible rows, no arrays. Opening is `Cohort.open` and `len`; the count that is checked is
the slowest of three filtered ones, of which two do not name the first column of the index. Medians of 5, one process.
The file was just written, so it is read from the disk's cache and not from the disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medssl.cohort import Cohort, catalog

ROUNDS = 5
MODALITIES, VENDORS = ("CT", "MR", "DX", "US"), ("GE", "Siemens", "Philips", "Canon", "unknown")
AT_MOST = {"catalog_1m_open_s": 1.0, "catalog_1m_count_s": 0.2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="100,000 rows: no figure to be quoted")
    parser.add_argument("--rows", type=int, default=1_000_000, help="scans in the catalog")
    options = parser.parse_args()
    number = 100_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as folder:
        cohort = generate(Path(folder) / "cohort", number)
        rows = measure(cohort, number)
    slowest = {"catalog_1m_open_s": rows[0]["median_s"], "catalog_1m_count_s": max(r["median_s"] for r in rows[1:])}
    checks = [{"name": name, "value": slowest[name], "at_most": most} for name, most in AT_MOST.items()]
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "sqlite": sqlite3.sqlite_version}
    if options.json:
        print(json.dumps({"checks": checks, "rows": rows, "machine": machine}))
    else:
        print(table(rows), "", *(sentence(check) for check in checks), sep="\n")
    return 0 if all(check["value"] <= check["at_most"] for check in checks) else 1


def generate(folder: Path, number: int) -> Cohort:
    """A cohort of `number` scans, four a patient, whose catalog has everything but findings and whose arrays are
    missing."""
    cohort = Cohort.create(folder)
    columns = ",".join(catalog.SCAN_COLUMNS)
    with catalog.writing(folder) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.executemany(
            f"INSERT INTO scans({columns}) VALUES({','.join('?' * len(catalog.SCAN_COLUMNS))})", _scans(number)
        )
        db.executemany(
            "INSERT INTO files VALUES(?,?,?,?,?,?)",
            ((f"f{n:016x}", "accepted", "", f"s{n:016x}", 400_000, n) for n in range(number)),
        )
    return cohort


def _scans(number: int) -> Iterator[tuple]:
    draw = random.Random(0)
    affine = json.dumps([[0.7, 0, 0, -90], [0, 0.7, 0, -90], [0, 0, 1.25, 0], [0, 0, 0, 1]])
    percentiles = json.dumps({"0.5": -1000, "1": -990, "5": -900, "50": 20, "95": 300, "99": 900, "99.5": 1200})
    for n in range(number):
        modality, vendor = draw.choice(MODALITIES), draw.choice(VENDORS)
        yield (
            f"s{n:016x}", f"p{n // 4:016x}", None, f"e{n // 2:016x}", f"r{n:016x}", modality, vendor, "chest", "volume",
            "[200, 512, 512]", "int16", "[1.25, 0.7, 0.7]", affine, "HU" if modality == "CT" else "a.u.", percentiles,
            f"{draw.getrandbits(256):064x}", f"{n:016x}", "id", "{}",
        )  # fmt: skip


def measure(cohort: Cohort, number: int) -> list[dict]:
    def open_it() -> int:
        return len(Cohort.open(cohort.path))

    pairs = itertools.product(MODALITIES, VENDORS)
    whole = sum(cohort.count(modality=m, vendor=v) for m, v in pairs)
    if not whole == open_it() == number:
        raise SystemExit("the counts do not add up")
    return [
        timed("Cohort.open and len", open_it),
        timed("count(modality, vendor)", lambda: cohort.count(modality="CT", vendor="GE")),
        timed("count(vendor)", lambda: cohort.count(vendor="GE")),
        timed("count(kind, unit)", lambda: cohort.count(kind="volume", unit="HU")),
    ]


def timed(what: str, act: Callable[[], int]) -> dict:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = act()
        times.append(time.perf_counter() - start)
    return {"what": what, "scans": found, "median_s": round(statistics.median(times), 4), "first_s": round(times[0], 4)}


def table(rows: list[dict]) -> str:
    lines = ["| what | scans | median, s | first, s |", "|---|---|---|---|"]
    return "\n".join(lines + ["| {what} | {scans:,} | {median_s:.4f} | {first_s:.4f} |".format(**row) for row in rows])


def sentence(check: dict) -> str:
    word = "holds" if check["value"] <= check["at_most"] else "FAILS"
    return f"{check['name']} = {check['value']:.4f}, at most {check['at_most']}: {word}"


if __name__ == "__main__":
    sys.exit(main())
