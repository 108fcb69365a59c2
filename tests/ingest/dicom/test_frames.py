"""Objects of many frames: enhanced ones, films, nuclear medicine, Siemens mosaics."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import pytest

from medssl.errors import UserError


def take_one(tmp_path: Path, take, objects: list) -> tuple[list[dict], set[str], object]:
    dicoms.save(objects, tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert report.accepted == len(objects), report.lines()
    return cohort.scans().to_dict("records"), set(cohort.findings()["code"]), cohort


def assert_is(cohort, row: dict, volume: np.ndarray, affine: np.ndarray) -> None:
    truth = nib.as_closest_canonical(nib.Nifti1Image(volume.transpose(2, 1, 0), affine))
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-4)
    np.testing.assert_array_equal(cohort.array(row["scan"]), np.asarray(truth.dataobj).transpose(2, 1, 0))


@pytest.mark.parametrize("compress", ["", "1.2.840.10008.1.2.5"], ids=["plain", "RLE"])
@pytest.mark.parametrize("affine", [dicoms.AXIAL, dicoms.oblique(3)], ids=["axial", "oblique"])
def test_an_enhanced_object_is_its_frames(tmp_path, take, affine, compress) -> None:
    """In any order, each with a rescale of its own."""
    volume = dicoms.volume()
    intercepts = [-1024, -1000, -1024, -1024, -990, -1024]
    slices = dicoms.series(volume, affine, Modality="CT", RescaleSlope=1, RescaleIntercept=intercepts)
    order = np.random.default_rng(2).permutation(6)
    ds = dicoms.enhanced([slices[i] for i in order])
    if compress:
        ds.compress(compress, generate_instance_uid=False)
    rows, _, cohort = take_one(tmp_path, take, [ds])
    assert len(rows) == 1 and rows[0]["unit"] == "HU"
    assert_is(cohort, rows[0], volume + np.array(intercepts)[:, None, None].astype(np.int16), affine)


def test_echoes_and_time_points_of_an_enhanced_object(tmp_path, take) -> None:
    slices = []
    for n, (echo, time) in enumerate([(10, 1), (10, 2), (30, 1), (30, 2)]):
        slices += dicoms.series(dicoms.volume(seed=n), dicoms.AXIAL, EchoTime=echo, TemporalPositionIdentifier=time)
    rows, codes, cohort = take_one(tmp_path, take, [dicoms.enhanced(slices)])
    assert len(rows) == 4 and "split_series" in codes
    found = {(r["attributes"]["echo_time_ms"], r["attributes"]["time_point"]): r for r in rows}
    for n, key in enumerate([(10.0, 0), (10.0, 1), (30.0, 0), (30.0, 1)]):
        assert_is(cohort, found[key], dicoms.volume(seed=n), dicoms.AXIAL)


def test_dimension_indices_tell_frames_apart_where_nothing_else_does(tmp_path, take) -> None:
    slices = dicoms.series(dicoms.volume(), dicoms.AXIAL) + dicoms.series(dicoms.volume(seed=1), dicoms.AXIAL)
    ds = dicoms.enhanced(slices)
    pointers = (0x00209057, 0x00189075)  # in-stack position: where; diffusion directionality: which
    ds.DimensionIndexSequence = [dicoms._item(DimensionIndexPointer=pointer) for pointer in pointers]
    for i, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        group.FrameContentSequence = [dicoms._item(DimensionIndexValues=[i % 6 + 1, i // 6 + 1])]
    rows, _, cohort = take_one(tmp_path, take, [ds])
    assert sorted(row["attributes"]["time_point"] for row in rows) == [0, 1]
    for row in rows:
        assert_is(cohort, row, dicoms.volume(seed=row["attributes"]["time_point"]), dicoms.AXIAL)


def test_a_localizer_inside_an_enhanced_object_is_left_out_and_said(tmp_path, take) -> None:
    slices = dicoms.series(dicoms.volume(), dicoms.AXIAL) + dicoms.series(dicoms.volume((1, 20, 24)), dicoms.oblique())
    rows, codes, _ = take_one(tmp_path, take, [dicoms.enhanced(slices)])
    assert [row["shape"] for row in rows] == [[6, 20, 24]] and "frames_left_out" in codes


def test_parts_of_a_concatenation_are_one_volume(tmp_path, take) -> None:
    slices = dicoms.series(dicoms.volume(), dicoms.AXIAL)
    parts = [dicoms.enhanced(slices[:2]), dicoms.enhanced(slices[2:])]
    for part in parts:
        part.ConcatenationUID = "1.2.3.4.88"
    rows, _, cohort = take_one(tmp_path, take, parts)
    assert len(rows) == 1
    assert_is(cohort, rows[0], dicoms.volume(), dicoms.AXIAL)


@pytest.mark.parametrize("change", ["count", "slope", "position"])
def test_damaged_functional_groups(tmp_path, take, change) -> None:
    slices = dicoms.series(dicoms.volume(), dicoms.AXIAL, Modality="CT", RescaleSlope=1, RescaleIntercept=0)
    ds = dicoms.enhanced(slices)
    if change == "count":
        ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:-1]
    elif change == "slope":
        ds.PerFrameFunctionalGroupsSequence[3].PixelValueTransformationSequence[0].RescaleSlope = 0
    else:  # one frame does not say where it lies: a hole, which no volume may have
        del ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
        dicoms.save([ds], tmp_path / "source")
        cohort, _ = take(tmp_path / "source")
        assert set(cohort.scans()["kind"]) == {"image"} and "frames_left_out" in set(cohort.findings()["code"])
        return
    dicoms.save([ds], tmp_path / "source")
    with pytest.raises(UserError, match="do not fit" if change == "count" else "make no sense"):
        take(tmp_path / "source")


@pytest.mark.parametrize(("frames", "kept", "code"), [(5, 5, "film"), (64, 64, "film"), (150, 64, "film_thinned")])
def test_films(tmp_path, take, frames, kept, code) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (frames, 8, 9)).astype(np.uint8)
    ds = dicoms.image(pixels[0], Modality="US", NumberOfFrames=frames)
    ds.PixelData = pixels.tobytes()
    rows, codes, cohort = take_one(tmp_path, take, [ds])
    assert len(rows) == kept and codes & {"film", "film_thinned"} == {code} and len({r["exam"] for r in rows}) == 1
    places = sorted(row["attributes"]["frame"] for row in rows)
    assert len(set(places)) == kept and max(np.diff(places)) <= np.ceil(frames / kept) and places[-1] < frames
    for row in rows:
        np.testing.assert_array_equal(cohort.array(row["scan"]), pixels[row["attributes"]["frame"]])


def test_an_enhanced_object_without_places_is_a_film(tmp_path, take) -> None:
    slices = dicoms.series(dicoms.volume((90, 4, 5)), dicoms.AXIAL)
    ds = dicoms.enhanced(slices)
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    rows, codes, _ = take_one(tmp_path, take, [ds])
    assert len(rows) == 64 and {"film_thinned", "no_geometry"} <= codes


def test_a_film_of_a_million_specks_costs_no_more_than_another(tmp_path) -> None:
    import tracemalloc

    from medssl.ingest.readers import dicom
    from medssl.ingest.records import File

    ds = dicoms.image(np.zeros((1, 1), np.uint8), Modality="US", NumberOfFrames=1_000_000)
    ds.PixelData = bytes(1_000_000)
    path = dicoms.save([ds], tmp_path)[0]
    tracemalloc.start()
    headers = dicom.probe(File(str(path), "root", path.name, path.stat().st_size, 0, "f0"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(headers) == 64 and peak < 5 << 20


def nuclear(pixels: np.ndarray, **attributes) -> object:
    ds = dicoms.image(pixels[0], Modality="NM", NumberOfFrames=len(pixels), PixelSpacing=[4.0, 3.0], **attributes)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.20"
    ds.PixelData = pixels.tobytes()
    place = {"ImagePositionPatient": [-30.0, -20.0, 50.0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    ds.DetectorInformationSequence = [dicoms._item(**place)]
    ds.FrameIncrementPointer = 0x00540080
    ds.SliceVector = list(range(1, len(pixels) + 1))
    ds.SpacingBetweenSlices = 5.0
    return ds


def test_a_nuclear_tomogram_is_a_volume(tmp_path, take) -> None:
    pixels = dicoms.volume((7, 10, 12)).astype(np.uint16)
    rows, _, cohort = take_one(tmp_path, take, [nuclear(pixels)])
    affine = np.array([[-3.0, 0, 0, 30], [0, -4, 0, 20], [0, 0, 5, 50], [0, 0, 0, 1]])
    assert_is(cohort, rows[0], pixels, affine)


@pytest.mark.parametrize("change", ["dynamic", "no step", "no place"])
def test_other_nuclear_studies_are_films(tmp_path, take, change) -> None:
    ds = nuclear(dicoms.volume((7, 10, 12)).astype(np.uint16))
    if change == "dynamic":
        ds.FrameIncrementPointer = [0x00540010, 0x00540080]
    elif change == "no step":
        del ds.SpacingBetweenSlices
    else:
        del ds.DetectorInformationSequence[0].ImagePositionPatient
    rows, codes, _ = take_one(tmp_path, take, [ds])
    assert [row["kind"] for row in rows] == ["image"] * 7 and {"film", "no_geometry"} <= codes


@pytest.mark.parametrize("affine", [dicoms.AXIAL, dicoms.oblique(6)], ids=["axial", "oblique"])
@pytest.mark.parametrize("count", [4, 7])
def test_mosaics_are_volumes_and_time_points_in_order(tmp_path, take, affine, count) -> None:
    lps = dicoms.LPS @ affine
    if np.linalg.det(lps[:3, :3]) < 0:  # slices are stacked along row x column
        affine = affine @ np.diag([1, 1, -1, 1])
    points = [
        dicoms.mosaic(dicoms.volume((count, 10, 12), t), affine, AcquisitionNumber=t + 1, InstanceNumber=t + 1)
        for t in range(3)
    ]
    rows, _, cohort = take_one(tmp_path, take, points[::-1])
    assert sorted(row["attributes"]["time_point"] for row in rows) == [0, 1, 2]
    for row in rows:
        assert row["attributes"]["mosaic"] is True
        assert_is(cohort, row, dicoms.volume((count, 10, 12), row["attributes"]["time_point"]), affine)


@pytest.mark.parametrize("change", ["no header", "broken", "too many", "other normal"])
def test_mosaics_that_cannot_be_placed_are_refused(tmp_path, take, change) -> None:
    ds = dicoms.mosaic(dicoms.volume((4, 10, 12)), dicoms.AXIAL)
    if change == "no header":
        del ds[0x00291010]
    elif change == "broken":
        ds[0x00291010].value = ds[0x00291010].value[:60]
    elif change == "too many":
        ds[0x00291010].value = dicoms._csa({"NumberOfImagesInMosaic": ["17"]})
    else:
        vector = {"NumberOfImagesInMosaic": ["4"], "SliceNormalVector": ["1.0", "0.0", "0.0"]}
        ds[0x00291010].value = dicoms._csa(vector)
    dicoms.save([ds], tmp_path / "source")
    with pytest.raises(UserError, match="mosaic"):
        take(tmp_path / "source")


NICOM = Path(nib.__file__).parent / "nicom" / "tests" / "data"
needs_nicom = pytest.mark.skipif(not (NICOM / "siemens_dwi_0.dcm.gz").is_file(), reason="nibabel came without its data")


@needs_nicom
@pytest.mark.parametrize("b_value", [0, 1000])
def test_siemens_mosaics_of_nibabel(tmp_path, take, b_value) -> None:
    """As nibabel's own reader of mosaics has them."""
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    path = tmp_path / "source" / "mosaic.dcm"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress((NICOM / f"siemens_dwi_{b_value}.dcm.gz").read_bytes()))
    cohort, _ = take(path.parent)
    row = cohort.scans().iloc[0]
    theirs = wrapper_from_file(path)
    truth = nib.as_closest_canonical(nib.Nifti1Image(theirs.get_data(), np.diag([-1, -1, 1, 1]) @ theirs.affine))
    assert row["attributes"]["b_value"] == b_value and row["shape"] == [48, 128, 128]
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-3)
    np.testing.assert_array_equal(cohort.array(row["scan"]), np.asarray(truth.dataobj).transpose(2, 1, 0))


@needs_nicom
def test_other_files_of_nibabel(tmp_path, take) -> None:
    """A Philips enhanced volume; mosaics without tiles (their pixels were cut); a rescale of long decimals."""
    source = tmp_path / "source"
    source.mkdir()
    for path in NICOM.glob("*.dcm*"):
        if "siemens" in path.name:
            continue
        if path.suffix == ".gz":
            (source / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copy(path, source / path.name)
    cohort, report = take(source)
    assert sorted(map(tuple, cohort.scans()["shape"])) == [(96, 128), (256, 256, 176), (384, 384)]
    assert cohort.files()["code"].value_counts().to_dict() == {"": 3, "bad_mosaic": 2, "truncated": 1}
    assert report.accepted == 3
