"""The page and the table that every ingest leaves in its cohort."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.cohort import Cohort, catalog
from medssl.errors import UserError
from medssl.ingest import findings, ingest, page


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 30), dtype=np.uint8)).save(path)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    for i in range(5):
        picture(folder / f"CANARYDOE^{i}" / "CANARYSCAN.png", min(i, 3))  # the last two have the same pixels
    (folder / "CANARYEMPTY.png").write_bytes(b"")
    whole = (folder / "CANARYDOE^0" / "CANARYSCAN.png").read_bytes()
    (folder / "CANARYHALF.png").write_bytes(whole[:300])
    (folder / "CANARYNOTE.txt").write_text("CANARYTEXT")
    return folder


def test_every_file_is_in_the_table_and_the_counts_add_up(source, take) -> None:
    cohort, report = take(source)
    with (cohort.path / "ingest_report.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    status = [row["status"] for row in rows]
    assert len(rows) == report.found == 8
    assert [status.count(s) for s in ("accepted", "rejected", "ignored")] == [5, 2, 1]
    assert all(row["code"] and row["sentence"] for row in rows if row["status"] != "accepted")
    assert sum("exact_duplicate" in row["scan_findings"] for row in rows) == 2
    text = (cohort.path / "ingest_report.html").read_text(encoding="utf-8")
    numbers = re.findall(r"<b>([\d,]+)</b><span>(.*?)</span>", text)
    assert numbers == [("8", "files found"), ("5", "accepted"), ("2", "rejected"), ("1", "ignored")]
    for code in ("empty_file", "truncated", "no_patient_id", "exact_duplicate", "not_a_scan"):
        assert findings.FINDINGS[code].sentence in text


def test_the_page_shows_scans_names_nobody_and_asks_for_nothing(source, take) -> None:
    cohort, _ = take(source)
    text = (cohort.path / "ingest_report.html").read_text(encoding="utf-8")
    table = (cohort.path / "ingest_report.csv").read_text(encoding="utf-8")
    assert "CANARY" not in text + table and str(source) not in text + table
    assert not re.search(r"https?://|<script|<link|url\(|@import", text)
    assert text.count('src="data:image/png;base64,') == text.count("<img ") == 2 + 5 + 2  # examples and two findings


def test_a_source_without_any_scan_still_says_why(tmp_path, workspace) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 files"):
        ingest([tmp_path / "source"], tmp_path / "cohort", workspace=workspace, jobs=1)
    text = (tmp_path / "cohort" / "ingest_report.html").read_text(encoding="utf-8")
    assert findings.FINDINGS["empty_file"].sentence in text


def test_a_large_cohort_gives_a_small_page(source, take) -> None:
    """All codes on every scan, and 100,000 rejected files: pictures and lists are cut off, and the page says so."""
    cohort, _ = take(source)
    codes = [code for code, finding in findings.FINDINGS.items() if finding.severity != "error"]
    with catalog.writing(cohort.path) as db:
        scans = [scan for (scan,) in db.execute("SELECT scan FROM scans")]
        for code in codes:
            _, severity, sentence, todo = findings.row(code)
            db.executemany(
                "INSERT INTO findings VALUES(?,?,?,NULL,?,?)", [(code, severity, s, sentence, todo) for s in scans]
            )
        lost = [f"f{n:016x}" for n in range(100_000)]
        db.executemany("INSERT INTO files VALUES(?,'rejected','truncated','',1,1)", [(f,) for f in lost])
        _, severity, sentence, todo = findings.row("truncated")
        db.executemany(
            "INSERT INTO findings VALUES('truncated',?,NULL,?,?,?)", [(severity, f, sentence, todo) for f in lost]
        )
    page.write_page(Cohort.open(cohort.path))
    text = (cohort.path / "ingest_report.html").read_text(encoding="utf-8")
    assert text.count("<img ") == page.ALL_PICTURES and "No more pictures" in text and len(text) < 3_000_000
    assert len(set(re.findall(r"f[0-9a-f]{16}", text))) <= 2 * page.FILES and "99,989 other files, in the table" in text
    assert len((cohort.path / "ingest_report.csv").read_text().splitlines()) == 1 + 8 + 100_000


def test_a_file_of_many_scans_names_them_all(tmp_path, take) -> None:
    (tmp_path / "source").mkdir()
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 255, (2, 28, 28), dtype=np.uint8) for part in ("train", "val", "test")}
    np.savez(tmp_path / "source" / "many.npz", **{f"{n[:-6]}labels": np.array([[0], [1]]) for n in arrays}, **arrays)
    cohort, _ = take(tmp_path / "source")
    with (cohort.path / "ingest_report.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert set(row["scans"].split()) == set(cohort.scans()["scan"]) and row["scan_findings"] == "no_patient_id"


def test_burned_in_text_cannot_be_read_on_the_page(source, take) -> None:
    cohort, _ = take(source)
    with catalog.writing(cohort.path) as db:
        db.execute("INSERT INTO findings SELECT 'burned_in_tag', 'warning', scan, NULL, 'Text.', 'Look.' FROM scans")
    page.write_page(cohort)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", (cohort.path / "ingest_report.html").read_text())
    sizes = {Image.open(io.BytesIO(base64.b64decode(p))).size for p in pictures}
    assert sizes == {(page.BLURRED, page.BLURRED)}


def test_volumes_are_cut_in_the_plane_of_most_pixels(tmp_path) -> None:
    volume = np.zeros((40, 40, 5), np.int16)
    volume[10:30, 10:30, 2] = 100  # seen only in the middle sagittal slice
    cohort = Cohort.create(tmp_path / "cohort")
    from medssl.cohort.arrays import write_array

    write_array(cohort.path, "s0123456789abcdef", volume)
    row = {
        "scan": "s0123456789abcdef", "kind": "volume", "unit": "a.u.", "spacing": [1, 1, 6],
        "percentiles": {"0.5": 0.0, "99.5": 100.0},
    }  # fmt: skip
    shown = page.thumbnail(cohort, row)
    assert shown is not None and shown.shape == (1, page.THUMBNAIL, page.THUMBNAIL)
    assert 0.2 < (shown > 200).mean() < 0.3
    assert page.thumbnail(cohort, row | {"scan": "sffff"}) is None
