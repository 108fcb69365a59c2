import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import UserError
from medssl.ingest.privacy.link import link
from tests.ingest.dicoms import AXIAL, save, series, volume


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for i in range(2):
        objects = series(volume(seed=i), AXIAL, PatientID=f"DOE-{i}", StudyInstanceUID=f"1.2.{i}",
                         SeriesInstanceUID=f"1.2.{i}.5")  # fmt: skip
        save(objects, folder / f"DOE_{i}")
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(folder / "JANE.png")
    (folder / "DOE_0" / "000.dcm").write_bytes((folder / "DOE_0" / "000.dcm").read_bytes()[:700])
    return folder


def test_scans_patients_and_rejected_files_are_found_again(take, source, tmp_path, workspace):
    cohort, report = take(source)
    scans = cohort.scans()
    volumes, (picture,) = scans[scans["kind"] == "volume"], scans[scans["kind"] == "image"]["scan"]
    (bad,) = [f["file"] for f in report.rejected_files]
    wanted = [*volumes["scan"], picture, bad, volumes["patient"].iloc[0], "s0123456789abcdef"]
    (tmp_path / "work.csv").write_text("scan,why\n" + "".join(f"{i},look\n" for i in wanted))
    out = tmp_path / "private" / "originals.csv"
    arguments = ["link", tmp_path / "work.csv", source, "--out", out, "--workspace", workspace.path, "--json"]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "DOE" not in done.output and "JANE" not in done.output
    answer = json.loads(done.stdout)
    assert answer["ids"] == 6 and answer["found"] == 5 and answer["missing"] == ["s0123456789abcdef"]
    assert out.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(out.open()))
    by_id = {i: [r for r in rows if r["id"] == i] for i in wanted}
    whole = {r["patient_id"]: len(by_id[i]) for i in volumes["scan"] for r in by_id[i]}
    assert whole == {"DOE-0": 5, "DOE-1": 6}
    assert all(r["study_instance_uid"] == f"1.2.{r['patient_id'][-1]}" for i in volumes["scan"] for r in by_id[i])
    assert [r["file"] for r in by_id[picture]] == [str(source / "JANE.png")]
    assert [r["file"] for r in by_id[bad]] == [str(source / "DOE_0" / "000.dcm")]
    assert len({r["patient_id"] for r in by_id[volumes["patient"].iloc[0]]}) == 1


def test_names_of_patients_are_not_written_into_a_workspace_or_cohort(take, source, tmp_path, workspace):
    cohort, _ = take(source)
    (tmp_path / "ids.txt").write_text(cohort.scans()["scan"].iloc[0])
    for place in (workspace.path / "a.csv", cohort.path / "deep" / "a.csv"):
        with pytest.raises(UserError, match="lie in the workspace or a cohort"):
            link(tmp_path / "ids.txt", [source], place, workspace)
        assert not place.exists()
    (tmp_path / "other.txt").write_text("s0123456789abcdef")
    with pytest.raises(UserError, match="none of 1 ids"):
        link(tmp_path / "other.txt", [source], tmp_path / "a.csv", workspace)
    (tmp_path / "none.txt").write_text("nothing")
    with pytest.raises(UserError, match="no id"):
        link(tmp_path / "none.txt", [source], tmp_path / "a.csv", workspace)


def test_a_disk_that_fails_is_said_in_one_sentence(take, source, tmp_path, workspace, monkeypatch):
    from medssl.errors import MedsslError
    from medssl.ingest.disk import SourceFailed
    from medssl.ingest.privacy import link as module

    cohort, _ = take(source)
    (tmp_path / "ids.txt").write_text(cohort.scans()["scan"].iloc[0])

    def broken(*arguments):
        raise SourceFailed("the source cannot be read (Input/output error)")

    monkeypatch.setattr(module, "read_headers", broken)
    with pytest.raises(MedsslError, match="cannot be read") as error:
        link(tmp_path / "ids.txt", [source], tmp_path / "a.csv", workspace)
    assert "Check the disk" in error.value.fix and not (tmp_path / "a.csv").exists()
