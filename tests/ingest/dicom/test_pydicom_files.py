"""Every file of pydicom's own data and of pydicom-data: read as pydicom reads it, or refused with the code below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut, apply_modality_lut, iter_pixels
from pydicom.uid import ImplicitVRLittleEndian

from medssl.cohort import Cohort
from medssl.ingest import discover, ingest, readers
from medssl.ingest.identity import Keys
from medssl.ingest.records import File, Ignore, Probe, Reject

data_store = pytest.importorskip("data_store")
BUNDLED = Path(pydicom.__file__).parent / "data"
PACKAGE = Path(data_store.__file__).parent / "data"
FILES = {
    str(path.relative_to(root)): path
    for root in (BUNDLED, PACKAGE)
    for path in sorted(root.rglob("*"))
    if path.is_file() and not path.name.endswith((".py", ".pyc"))
}
TRUTH = {  # a big endian palette, which pydicom reads as a little endian one: the same picture in little endian
    "OBXXXX1A_expb.dcm": "OBXXXX1A.dcm",
    "OBXXXX1A_expb_2frame.dcm": "OBXXXX1A_2frame.dcm",
}

REFUSED = {
    # rejected
    "test_files/JPEG-lossy.dcm": "codec_jpeg_12bit",
    "test_files/JPGExtended.dcm": "codec_jpeg_12bit",
    "test_files/JPEG2000-embedded-sequence-delimiter.dcm": "unreadable",  # the code stream is cut off
    "emri_small_jpeg_2k_lossless_too_short.dcm": "unreadable",
    "test_files/MR_truncated.dcm": "truncated",
    "charset_files/chrJapMulti.dcm": "truncated",  # headers of X-rays whose pixels were cut off
    "charset_files/chrJapMultiExplicitIR6.dcm": "truncated",
    "charset_files/chrKoreanMulti.dcm": "truncated",
    "charset_files/chrSQEncoding.dcm": "unreadable",  # a few elements in a DICOM file, without a class
    "charset_files/chrSQEncoding1.dcm": "unreadable",
    "test_files/UN_sequence.dcm": "unreadable",
    "test_files/empty_charset_LEI.dcm": "unreadable",
    "test_files/priv_SQ.dcm": "unreadable",
    "test_files/meta_missing_tsyntax.dcm": "unsupported_pixels",  # two bytes of pixels without rows
    "test_files/nested_priv_SQ.dcm": "unsupported_pixels",
    "test_files/no_meta.dcm": "wrong_content",  # the middle of a data set
    "test_files/liver_1frame.dcm": "bad_frames",  # one frame, and functional groups of three
    "test_files/liver_expb_1frame.dcm": "bad_frames",
    # ignored
    "test_files/rtdose.dcm": "radiotherapy_object",
    "test_files/rtdose_1frame.dcm": "radiotherapy_object",
    "test_files/rtdose_expb.dcm": "radiotherapy_object",
    "test_files/rtdose_expb_1frame.dcm": "radiotherapy_object",
    "test_files/rtdose_rle.dcm": "radiotherapy_object",
    "test_files/rtdose_rle_1frame.dcm": "radiotherapy_object",
    "test_files/rtplan.dcm": "radiotherapy_object",
    "test_files/rtplan_truncated.dcm": "radiotherapy_object",
    "test_files/rtstruct.dcm": "radiotherapy_object",
    "test_files/badVR.dcm": "radiotherapy_object",
    "test_files/ExplVR_BigEndNoMeta.dcm": "radiotherapy_object",
    "test_files/ExplVR_LitEndNoMeta.dcm": "radiotherapy_object",
    "test_files/no_meta_group_length.dcm": "derived_object",
    "test_files/reportsi.dcm": "structured_report",
    "test_files/reportsi_with_empty_number_tags.dcm": "structured_report",
    "test_files/test-SR.dcm": "structured_report",
    "test_files/waveform_ecg.dcm": "no_pixels",
    "test_files/zipMR.gz": "archive",
}
SEGMENTATIONS = {"liver.dcm", "liver_expb.dcm"}


def expected_code(name: str) -> str:
    path = Path(name)
    if name in REFUSED:
        return REFUSED[name]
    if path.name.startswith("DICOMDIR"):
        return "dicomdir"
    if "TINY_ALPHA/PT" in name:
        return "unreadable"  # CT images without rows or pixels
    if name.startswith("palettes/") and path.suffix == ".dcm":
        return "no_pixels"
    if path.suffix in (".json", ".txt", ".md", ".dump", ".icc", ".csv", ".log") or path.name in ("README", "LICENSE"):
        return "not_a_scan"
    return ""


def take_alone(path: Path, keys: Keys) -> tuple[list, str]:
    """(scans, "") or ([], code)."""
    status = path.stat()
    file = File(str(path), "root", path.name, status.st_size, status.st_mtime_ns, "f0")
    try:
        kind = discover.sniff(file).reader
        if kind == discover.ARCHIVE:  # whose members are read, or which is ignored
            raise Ignore("archive")
        assert kind == "dicom"
        dicom = readers.reader("dicom")
        header = dicom.probe(file)
        if not isinstance(header, list):
            return [header], ""
        plan = dicom.plan([Probe(file, "dicom", header)], keys)
        assert not plan.rejected and not plan.ignored
        return [(job.payload.headers, dicom.read(job)) for job in plan.jobs], ""
    except (Reject, Ignore) as verdict:
        return [], verdict.code


@pytest.mark.parametrize("name", FILES)
def test_one_file(name: str, workspace) -> None:
    scans, code = take_alone(FILES[name], Keys(workspace))
    assert code == expected_code(name)
    if code or name in SEGMENTATIONS:
        return
    assert scans
    scans = scans[:8]  # of a film
    truth = as_stated(name, [header.frame for headers, _ in scans for header in headers])
    for headers, scan in scans:
        expected = np.stack([truth[header.frame] for header in headers])
        if scan.kind == "volume":  # turned, which the tests of geometry look into
            np.testing.assert_array_equal(np.sort(scan.array, axis=None), np.sort(expected, axis=None))
            continue
        shown = np.moveaxis(scan.array, 0, -1) if scan.kind == "colour" else scan.array
        measured = np.ones(shown.shape[:2], bool) if scan.padding is None else ~scan.padding
        assert measured.any() and shown.shape == expected[0].shape
        np.testing.assert_allclose(shown[measured], expected[0][measured], rtol=1e-6)


def as_stated(name: str, frames: list[int]) -> dict[int, np.ndarray]:
    """Frames by pydicom: RGB, of 8 bits from palettes, gray where colours are gray; others rescaled or by their LUT."""
    data = pydicom.dcmread(FILES[TRUTH.get(name, name)], force=True)
    data.file_meta.setdefault("TransferSyntaxUID", ImplicitVRLittleEndian)
    if "SharedFunctionalGroupsSequence" in data:
        rescale = data.SharedFunctionalGroupsSequence[0].get("PixelValueTransformationSequence")
        data.update(rescale[0] if rescale else {})
    inverted = data.PhotometricInterpretation == "MONOCHROME1" and data.get("RescaleType") in (None, "US")
    assert not inverted or ("ModalityLUTSequence" not in data and data.PixelRepresentation == 0)
    out = {}
    for i, pixels in zip(frames, iter_pixels(data, indices=frames), strict=True):
        if data.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, data)[..., :3]
            pixels = pixels >> 8 if pixels.max() > 255 else pixels
        if pixels.ndim == 3:
            out[i] = pixels[..., 0] if (pixels[..., :1] == pixels).all() else pixels
            continue
        pixels = 2**data.BitsStored - 1 - pixels.astype(int) if inverted else pixels
        groups = data.get("PerFrameFunctionalGroupsSequence")
        own = groups[i].get("PixelValueTransformationSequence") if groups else None
        out[i] = apply_modality_lut(pixels, own[0] if own else data)
    return out


def test_all_of_them_in_one_run(tmp_path, workspace) -> None:
    """Damaged, foreign and repeated files beside each other: each one has a verdict, and none stops the run."""
    report = ingest([BUNDLED, PACKAGE], tmp_path / "cohort", workspace=workspace, jobs=0)
    files = Cohort.open(tmp_path / "cohort").files()
    assert len(files) == report.found == report.accepted + report.rejected + report.ignored
    assert (files.query("status != 'accepted'")["code"] != "").all() and (files["code"] != "").sum() < len(files)
    assert report.accepted > 80 and report.scans > 100
