import json
from datetime import date
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import UserError
from medssl.ingest.identity import Keys
from medssl.ingest.privacy.deidentify import deidentify
from tests.ingest.dicoms import AXIAL, image, save, series, volume


def nested(**attributes) -> Dataset:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def exam(folder: Path, day: str, study: str, offset: int = 0):
    """A CT series full of names, private elements, nested sequences and dates."""
    objects = series(volume(seed=offset), AXIAL + 0.0, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024,
                     StudyInstanceUID=study, SeriesInstanceUID=f"{study}.5")  # fmt: skip
    for ds in objects:
        ds.PatientName, ds.PatientID, ds.InstitutionName = "DOE^JANE", "DOE-ID", "DOE-CLINIC"
        ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = "19500102", day, "101500"
        ds.AcquisitionDateTime = f"{day}101500.25"
        ds.StudyDescription = ds.ReferringPhysicianName = ds.PatientComments = "DOE"
        ds.RequestAttributesSequence = [nested(ScheduledProcedureStepID="DOE", RequestedProcedureDescription="DOE")]
        inner = nested(ReferencedSOPInstanceUID=objects[0].SOPInstanceUID, ReferencedSOPClassUID=ds.SOPClassUID)
        ds.ReferencedImageSequence = [inner]
        ds.AnatomicRegionSequence = [nested(CodeMeaning="Chest", OperatorsName="DOE", ContentDate=day)]
        block = ds.private_block(0x0009, "DOE CREATOR", create=True)
        block.add_new(1, "LO", "DOE PRIVATE")
        ds.preamble = b"DOE" + bytes(125)
        ds.file_meta.SourceApplicationEntityTitle = "DOE"
    save(objects, folder, [f"DOE_{i}.dcm" for i in range(len(objects))])
    return objects


def test_names_go_dates_move_and_uids_stay_consistent(tmp_path, workspace):
    first = exam(tmp_path / "DOE" / "a", "20200304", "1.2.840.99.1")
    exam(tmp_path / "DOE" / "b", "20200404", "1.2.840.99.2", 1)
    (tmp_path / "DOE" / "note.txt").write_text("DOE")
    done = deidentify(tmp_path / "DOE", tmp_path / "out", workspace)
    assert done.written == 12 and done.not_copied == {"not_a_scan": 1} and done.found == 13
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(files) == 12 and "DOE" not in "".join(map(str, (f.relative_to(tmp_path / "out") for f in files)))
    old_uids = [str(ds.SOPInstanceUID) for ds in first] + ["1.2.840.99"]
    for file in files:
        raw = file.read_bytes()
        assert b"DOE" not in raw and b"19500102" not in raw and b"20200304" not in raw and b"20200404" not in raw
        assert not any(uid.encode() in raw for uid in old_uids) and raw[:128] == bytes(128)
    sets = [pydicom.dcmread(f) for f in files]
    keys = Keys(workspace)
    (patient,) = {str(ds.PatientID) for ds in sets}
    assert patient == keys.patient("doe-clinic", "DOE-ID") == str(sets[0].PatientName)
    assert len({ds.StudyInstanceUID for ds in sets}) == len({ds.SeriesInstanceUID for ds in sets}) == 2
    assert len({ds.SOPInstanceUID for ds in sets}) == 12
    instances = {ds.SOPInstanceUID for ds in sets}
    assert {ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID for ds in sets} <= instances
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in sets)
    days = sorted({date.fromisoformat(ds.StudyDate) for ds in sets})
    assert (days[0] - date(2020, 3, 4)).days == keys.days(patient) and (days[1] - days[0]).days == 31
    assert {ds.AnatomicRegionSequence[0].ContentDate for ds in sets} == {ds.StudyDate for ds in sets}
    assert sets[0].AcquisitionDateTime == sets[0].StudyDate + "101500.25"
    assert sets[0].PatientIdentityRemoved == "YES" and "Basic Profile" in sets[0].DeidentificationMethod[0]
    assert not sets[0].PatientBirthDate and "PatientComments" not in sets[0]


def test_the_output_ingests_to_the_same_arrays_dates_and_patients(take, tmp_path, workspace):
    exam(tmp_path / "source" / "a", "20200304", "1.2.840.99.1")
    exam(tmp_path / "source" / "b", "20200404", "1.2.840.99.2", 1)
    deidentify(tmp_path / "source", tmp_path / "out", workspace)
    before, _ = take(tmp_path / "source", "before")
    after, _ = take(tmp_path / "out", "after")
    columns = ["content_hash", "affine", "spacing", "modality", "unit", "shape"]
    assert before.scans()[columns].equals(after.scans()[columns])
    assert after.scans()["patient"].nunique() == 1


def test_the_command_says_what_it_did_not_do(tmp_path, workspace):
    save([image(volume((1, 20, 24))[0], BurnedInAnnotation="YES")], tmp_path / "source")
    arguments = ["deidentify", tmp_path / "source", tmp_path / "out", "--workspace", workspace.path]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0 and "NOT removed; 1 headers" in done.output
    again = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert again.exit_code == 2 and "holds something" in again.output
    arguments[2] = tmp_path / "other"
    answer = json.loads(CliRunner().invoke(app, [*map(str, arguments), "--json"]).stdout)
    assert answer["written"] == answer["found"] == answer["burned_in"] == 1
    with pytest.raises(UserError, match="inside the source"):
        deidentify(tmp_path / "source", tmp_path / "source" / "out", workspace)


def test_real_files_ingest_to_the_same_arrays(take, tmp_path, workspace, shared_data):
    for i, file in enumerate(sorted((shared_data / "siim_ct_dicom").rglob("*.dcm"))[::5]):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / f"{i}.dcm").write_bytes(file.read_bytes())
    done = deidentify(tmp_path / "source", tmp_path / "out", workspace)
    before, _ = take(tmp_path / "source", "before")
    after, _ = take(tmp_path / "out", "after")
    assert done.written == done.found > 5
    assert list(before.scans()["content_hash"]) == list(after.scans()["content_hash"])
