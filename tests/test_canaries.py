"""Canary strings in all that a source can say come out nowhere: neither in the workspace nor in what is printed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from tests.ingest.dicoms import AXIAL, image, save, series, volume

WORD = "ZQXCNRY"  # and a number; seven letters that no hash in base64 will ever spell
UID_ROOT = "1.2.826.0.1.424242"
DAY, DAYS = "19310506", ("19310506", "1931-05-06", "1931.05.06", "06.05.1931", "05/06/1931")
CANARIES = (WORD, UID_ROOT, *DAYS)
TEXTS = {"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR", "CS", "DA", "DT", "UI"}
GEOMETRY = {"SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
            "PhotometricInterpretation", "PresentationLUTShape", "SpecificCharacterSet"}  # fmt: skip


def canary(vr: str, number: int) -> str:
    if vr == "UI":
        return f"{UID_ROOT}.{number}"
    return DAY if vr == "DA" else f"{DAY}101500" if vr == "DT" else f"{WORD}{number:05d}"


def plant(ds: Dataset, but: set[str] = GEOMETRY) -> Dataset:
    """A canary in every element of DICOM's dictionary that holds text, a date or a UID, in private ones, and deeper."""
    nested = Dataset()
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr in TEXTS and keyword and not retired and tag >> 16 not in (0, 2, 4) and keyword not in but:
            ds.add_new(tag, vr, canary(vr, tag % 99991))
    for tag in (0x00100010, 0x00100020, 0x00080020, 0x00081155, 0x00104000):
        vr = DicomDictionary[tag][0]
        nested.add_new(tag, vr, canary(vr, 7))
    outer = Dataset()
    outer.ReferencedImageSequence = [nested]
    ds.RequestAttributesSequence = ds.OtherPatientIDsSequence = ds.SourceImageSequence = [outer]
    for group in (0x0009, 0x0019, 0x0029):
        block = ds.private_block(group, f"{WORD} CREATOR", create=True)
        block.add_new(1, "LO", f"{WORD}1")
        block.add_new(2, "UN", f"{WORD}2 ".encode())
        block.add_new(3, "SQ", [nested])
    ds.PatientAge = "097Y"
    ds.file_meta.SourceApplicationEntityTitle = WORD
    ds.file_meta.ImplementationVersionName = WORD
    ds.preamble = (WORD * 18).encode()[:126] + b"\0\0"
    return ds


def make_source(root: Path) -> Path:
    """DICOM, NIfTI with a mask, PNG, JPEG and TIFF, broken files, a label table; names of files and folders too."""
    import nibabel as nib

    source = root / f"{WORD}_source"
    ct = [plant(ds) for ds in series(volume((12, 40, 40)), AXIAL, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024,
                                     StudyInstanceUID=f"{UID_ROOT}.1", SeriesInstanceUID=f"{UID_ROOT}.2")]  # fmt: skip
    for i, ds in enumerate(ct):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}.3.{i}"
    save(ct, source / f"{WORD}_ct", [f"{WORD}_{i}" for i in range(len(ct))])
    shot = plant(image(volume((1, 64, 64))[0].astype(np.uint16)), GEOMETRY - {"Modality"})
    save([shot], source / "shots", [f"{WORD}.dcm"])
    (source / "broken").mkdir()
    whole = (source / f"{WORD}_ct" / f"{WORD}_0").read_bytes()
    (source / "broken" / f"{WORD}.dcm").write_bytes(whole[: len(whole) // 2])
    (source / "broken" / f"{WORD}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + WORD.encode() * 50)
    (source / f"{WORD}.txt").write_text(WORD)

    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for folder, values in (("images", rng.normal(size=(40, 40, 20))), ("labels", rng.integers(0, 2, (40, 40, 20)))):
        (source / folder).mkdir()
        nifti = nib.Nifti1Image(values.astype(np.float32 if folder == "images" else np.uint8), affine)
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            nifti.header[field] = WORD.encode()
        nifti.header.extensions.append(nib.nifti1.Nifti1Extension(6, f"{WORD} {DAY}".encode()))
        nib.save(nifti, source / folder / f"{WORD}_case.nii.gz")

    (source / "pictures").mkdir()
    lines = ["file,patient,label"]
    for i in range(24):
        picture = Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8))
        name = f"{WORD}_{i}.{('png', 'jpg', 'tif')[i % 3]}"
        info = PngImagePlugin.PngInfo()
        info.add_text("Patient", f"{WORD}3")
        info.add_itxt(f"{WORD}4", f"{WORD}5", zip=True)
        exif = Image.Exif()
        exif[0x010E] = exif[0x9286] = f"{WORD}6"
        exif[0x0132] = "1931:05:06 10:15:00"
        options = {"png": {"pnginfo": info}, "jpg": {"comment": f"{WORD}7".encode(), "quality": 95}, "tif": {}}
        picture.save(source / "pictures" / name, exif=exif, **options[name[-3:]])
        lines.append(f"pictures/{name},{WORD}P{i},{'xy'[i // 3 % 2]}")
    (source / f"{WORD}_labels.csv").write_text("\n".join(lines) + "\n")
    with zipfile.ZipFile(source / f"{WORD}.zip", "w") as packed:  # names in archives; its pixels are no news
        for path in (source / f"{WORD}_ct").iterdir():
            packed.write(path, f"{WORD}_in/{path.name}")
    return source


def make_config(root: Path, source: Path) -> Path:
    labels = {"file": f"{WORD}_labels.csv", "scan": "file", "patient": "patient", "targets": ["label"]}
    config = {
        "name": "tiny",
        "cohort": {"name": "tiny", "source": str(source), "labels": labels},
        "target": {"name": "label", "unit": "image"},
        "view": {"size": 32},
        "budgets": [2],
        "draws": 2,
        "replicates": 100,
        "baseline": ["pixels"],
        "pretraining": {"simclr": {"task": "simclr", "steps": 2, "batch": 8}},
        "arms": {"pixels": {"encoder": "pixels"}, "simclr": {"pretrain": "simclr"}},
    }  # fmt: skip
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def commands(root: Path, source: Path) -> list[list[str]]:
    """All commands that touch scans or what was made of them, in order; only those that this version has."""
    from medssl.cli import app

    known = {c.name for c in app.registered_commands}
    cohort, lost = str(root / "ws" / "cohorts" / "c"), str(root / WORD)
    labels = ["--labels", f"{WORD}_labels.csv", "--scan-column", "file", "--patient-column", "patient"]
    every = [
        ["ingest", lost, "--cohort", cohort],
        ["ingest", str(source), "--cohort", cohort, *labels, "--json"],
        ["ingest", str(source), "--cohort", cohort],
        ["ingest", str(source / "broken"), "--cohort", str(root / "ws" / "cohorts" / "none")],
        ["label", cohort, lost + ".csv"],
        ["label", cohort, str(source / f"{WORD}_labels.csv"), *labels[2:], "--json"],
        ["check", cohort],
        ["card", cohort],
        ["export", cohort, str(root / "ws" / "export"), "--format", "nifti"],
        ["pretrain", cohort, "--steps", "2", "--size", "32", "batch=8"],
        ["run", str(make_config(root, source))],
        ["report", str(root / "ws" / "experiments" / "tiny")],
        ["deidentify", str(source), str(root / "clean")],
        ["link", str(root / "ids.txt"), str(source), "--out", str(root / "originals.csv")],
        ["link", str(root / "ids.txt"), lost, "--out", str(root / "originals.csv")],
    ]
    return [command for command in every if command[0] in known]


def leaks(data: bytes) -> list[str]:
    low = data.lower()
    return [c for c in CANARIES for coded in ("ascii", "utf-16-le", "utf-16-be") if c.lower().encode(coded) in low]


def contents(path: Path):
    """The file's bytes, and what they unpack to."""
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (name.encode() + archive.read(name) for name in archive.namelist())
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        yield repr((table.to_pydict(), table.schema.metadata)).encode()
    elif path.suffix in (".png", ".jpg"):
        try:
            with Image.open(path) as picture:
                yield repr(picture.info).encode()
        except OSError:  # one of the broken ones
            return


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """(folder, [(command, exit code, output)]) after all commands in pipes."""
    root = tmp_path_factory.mktemp("root")
    source, done = make_source(root), []
    for command in commands(root, source):
        if command[0] == "link":
            rows = subprocess.run(["grep", "-rhoaE", "[sfp][0-9a-f]{16}", str(root / "ws" / "cohorts" / "c")],
                                  capture_output=True, text=True, check=True)  # fmt: skip
            (root / "ids.txt").write_text(rows.stdout)
        place = [] if command[0] in ("check", "card", "export") else ["--workspace", str(root / "ws")]
        arguments = [*command, *place]
        ran = subprocess.run([sys.executable, "-m", "medssl.cli", *arguments], capture_output=True, cwd=root)
        done.append((command, ran.returncode, ran.stdout + ran.stderr))
    return root, done


def every_command_did_its_work(left):
    _, done = left
    expected = [(c, 2 if any(a.endswith((WORD, WORD + ".csv", "none")) for a in c[1:]) else 0) for c, _, _ in done]
    wrong = [(c[0], code, out.decode()[-600:]) for (c, code, out), (_, want) in zip(done, expected, strict=True)
             if code != want and not (c[0] == "check" and code == 1)]  # fmt: skip
    assert not wrong
    (answer,) = (json.loads(out.splitlines()[0]) for c, _, out in done if c[0] == "ingest" and c[-1] == "--json")
    assert answer["scans"] == 27 and answer["files"]["rejected"] == 2  # CT, shot, NIfTI with mask and 24 pictures


def the_canaries_can_be_found(left):
    root, _ = left
    source = root / f"{WORD}_source"
    assert all(leaks(p.read_bytes()) for p in source.rglob("*") if p.is_file() and p.suffix in ("", ".dcm", ".csv"))
    assert set(CANARIES) - {c for p in source.rglob("*") if p.is_file() for d in contents(p) for c in leaks(d)} == set(
        DAYS[1:]
    )
    assert leaks((root / "originals.csv").read_bytes())  # link is there to name them


def nothing_printed_holds_a_canary(left):
    _, done = left
    assert not [(c[0], leaks(out), out.decode()) for c, _, out in done if leaks(out)]


def deidentified_files_hold_no_day_uid_or_name(left):
    """The profile leaves some free text (names of devices, of protocols); nothing else of the source is there."""
    import pydicom

    files = [p for p in (left[0] / "clean").rglob("*") if p.is_file()]
    assert len(files) == 25  # those in the archive too
    assert {c for p in files for c in leaks(str(p.relative_to(left[0])).encode() + p.read_bytes())} <= {WORD}
    kept = {e.VR for p in files for e in pydicom.dcmread(p).iterall() if e.VR != "SQ" and WORD in str(e.value)}
    assert kept <= {"LO", "SH", "UC", "CS"}


def nothing_in_the_workspace_holds_a_canary(left):
    root, _ = left
    files = [p for p in (root / "ws").rglob("*") if p.is_file()]
    assert len(files) > 40
    found = {str(p.relative_to(root / "ws")): c for p in files for data in contents(p) if (c := leaks(data))}
    assert not found
    assert not leaks("\n".join(str(p.relative_to(root)) for p in (root / "ws").rglob("*")).encode())


def test_no_command_lets_a_canary_out(left) -> None:
    """One test, so that the commands run once however many processes share the tests."""
    for check in (
        every_command_did_its_work,
        the_canaries_can_be_found,
        nothing_printed_holds_a_canary,
        deidentified_files_hold_no_day_uid_or_name,
        nothing_in_the_workspace_holds_a_canary,
    ):
        check(left)
