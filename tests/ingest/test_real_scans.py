"""Real NIfTI volumes and images, and the traps that the shared data hold. DICOM: `dicom/test_real_series.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.cohort import View


def test_hippocampus_with_masks(shared_data: Path, take, tmp_path) -> None:
    source = tmp_path / "hippocampus"
    for part in ("images", "labels"):
        (source / part).mkdir(parents=True)
        for file in sorted((shared_data / "hippocampus" / part).glob("*.nii.gz"))[:6]:
            (source / part / file.name).write_bytes(file.read_bytes())
    cohort, report = take(source)
    assert (report.scans, report.accepted, report.rejected) == (6, 12, 0)
    for row in cohort.scans().to_dict("records"):
        mask = cohort.mask(row["scan"])
        assert mask is not None and list(mask.shape) == row["shape"] and set(np.unique(mask)) == {0, 1, 2}


def test_kermany_chest_x_rays(shared_data: Path, tmp_path, workspace) -> None:
    from medssl.cohort import Cohort
    from medssl.config import LabelColumns
    from medssl.ingest import ingest

    labels = LabelColumns(file="labels.csv", scan="file", patient="patient_id")
    report = ingest([shared_data / "kermany_cxr"], tmp_path / "kermany", workspace=workspace, labels=labels)
    assert (report.scans, report.patients, report.accepted, report.ignored) == (2050, 1177, 2050, 1)
    cohort = Cohort.open(tmp_path / "kermany")
    assert cohort.targets() == ["label2", "label3"]
    assert cohort.units("label3")["label"].value_counts().to_dict() == {"bacteria": 703, "normal": 700, "virus": 647}
    samples = cohort.samples(View(size=64))
    assert samples.images.shape == (2050, 1, 64, 64) and 60 < samples.images.mean() < 180


def test_busi_is_grouped(shared_data: Path, take, tmp_path) -> None:
    cohort, report = take(shared_data / "busi", file="labels.csv", group="dup_group")
    assert (report.scans, report.patients) == (780, 703)
    assert cohort.scans()["group"].nunique() == 703
