"""DICOM SEG objects become masks of the scans that they were drawn on, or a finding says why not."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import dicoms
import numpy as np
import pytest

from medssl.cohort import Cohort
from medssl.ingest import ingest
from medssl.ingest.readers.dicom import segmentation

ROWS, COLUMNS = 20, 24


@pytest.fixture
def slices() -> list:
    return dicoms.series(dicoms.volume(), dicoms.AXIAL, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)


def box(top: int, left: int, value: int = 1) -> np.ndarray:
    pixels = np.zeros((ROWS, COLUMNS), np.uint8)
    pixels[top : top + 5, left : left + 7] = value
    return pixels


def verdicts(cohort: Cohort) -> dict[str, int]:
    return cohort.files()["code"].value_counts().drop("", errors="ignore").to_dict()


def upright(volume: np.ndarray) -> np.ndarray:
    """An axial stack as `dicoms.AXIAL` stores it, in RAS+."""
    return volume[:, ::-1, ::-1]


def test_binary_segments_are_labels_of_the_slices_that_they_cover(tmp_path, take, slices) -> None:
    frames = [(1, 2, box(3, 4)), (1, 3, box(4, 4)), (7, 3, box(10, 1)), (7, 1, box(0, 17))]
    dicoms.save(slices, tmp_path / "source")
    dicoms.save([dicoms.segmentation(slices, frames)], tmp_path / "source" / "anywhere", ["seg.dcm"])
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted, report.rejected) == (1, 7, 0)
    expected = np.zeros((6, ROWS, COLUMNS), np.uint8)
    for segment, k, pixels in frames:
        expected[k][pixels > 0] = segment
    mask = cohort.mask(cohort.scans()["scan"][0])
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, upright(expected))


@pytest.mark.parametrize("seed", [1, 5, 8])
def test_oblique_scans(tmp_path, take, seed) -> None:
    """A mask that repeats what is bright lies where the scan is bright, however the scan was turned."""
    volume = np.zeros((6, ROWS, COLUMNS), np.int16)
    volume[2:4, 3:9, 5:8] = 500
    volume[4, 15:, 20:] = 900
    scan = dicoms.series(volume, dicoms.oblique(seed))
    frames = [(int(v), k, volume[k] == v * 100) for v in (5, 9) for k in range(6) if (volume[k] == v * 100).any()]
    dicoms.save([*scan, dicoms.segmentation(scan, frames)], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    scan = cohort.scans()["scan"][0]
    np.testing.assert_array_equal(cohort.mask(scan), cohort.array(scan) // 100)


def test_fractions_are_cut_at_one_half(tmp_path, take, slices) -> None:
    frames = [(1, 2, box(3, 4, 50)), (1, 3, box(3, 4, 49)), (2, 4, box(9, 9, 100))]
    dicoms.save([*slices, dicoms.segmentation(slices, frames, "FRACTIONAL")], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    mask = cohort.mask(cohort.scans()["scan"][0])
    assert {int(v): int((mask == v).sum()) for v in np.unique(mask)} == {0: mask.size - 70, 1: 35, 2: 35}
    assert "mask_fractional" in set(cohort.findings()["code"])


def test_label_maps(tmp_path, take, slices) -> None:
    pixels = box(3, 4, 9) + box(12, 12, 4)
    dicoms.save([*slices, dicoms.segmentation(slices, [(0, 5, pixels)], "LABELMAP")], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.mask(cohort.scans()["scan"][0])[5], pixels[::-1, ::-1])


def test_a_part_of_the_slices_matrix(tmp_path, take, slices) -> None:
    """Frames that are smaller than the slices lie where their positions say."""
    whole = box(3, 4)
    seg = dicoms.segmentation(slices, [(1, 2, whole[2:10, 3:12])])
    place = [float(v) for v in slices[2].ImagePositionPatient]
    place = [place[0] + 3 * 0.8, place[1] + 2 * 0.9, place[2]]
    seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = place
    dicoms.save([*slices, seg], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.mask(cohort.scans()["scan"][0])[2], whole[::-1, ::-1])


def test_one_object_over_two_stacks_of_a_series(tmp_path, take) -> None:
    high = dicoms.AXIAL.copy()
    high[2, 3] = 100
    first = dicoms.series(dicoms.volume(), dicoms.AXIAL, EchoTime=10)
    second = dicoms.series(dicoms.volume(seed=1), high, EchoTime=10)
    for ds in second:
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0.996195, 0.0871557]
    both = first + second
    seg = dicoms.segmentation(first, [(1, 1, box(2, 2)), (2, 3, box(2, 2))])
    other = seg.PerFrameFunctionalGroupsSequence[1]
    other.PlanePositionSequence[0].ImagePositionPatient = second[3].ImagePositionPatient
    other.PlaneOrientationSequence = [dicoms._item(ImageOrientationPatient=second[3].ImageOrientationPatient)]
    other.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = second[3].SOPInstanceUID
    dicoms.save([*both, seg], tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted) == (2, 13)
    assert sorted(tuple(np.unique(cohort.mask(s))) for s in cohort.scans()["scan"]) == [(0, 1), (0, 2)]


def test_the_image_without_a_place(tmp_path, take) -> None:
    """An X-ray says nowhere where it lies, and so do the frames of its mask."""
    ray = dicoms.image(dicoms.volume()[0].astype(np.uint16), Modality="DX")
    dicoms.save([ray, dicoms.segmentation([ray], [(3, 0, box(3, 4))])], tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert report.accepted == 2
    np.testing.assert_array_equal(cohort.mask(cohort.scans()["scan"][0]), box(3, 4, 3))


def test_time_points_are_told_apart_by_the_images_that_are_named(tmp_path, take) -> None:
    points = [dicoms.series(dicoms.volume(seed=t), dicoms.AXIAL, TemporalPositionIdentifier=t + 1) for t in range(3)]
    seg = dicoms.segmentation(points[1], [(1, 2, box(3, 4))])
    dicoms.save([*itertools.chain(*points), seg], tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert report.scans == 3 and report.rejected == 0
    masked = [row["attributes"]["time_point"] for row in cohort.scans().to_dict("records")
              if cohort.mask(row["scan"]) is not None]  # fmt: skip
    assert masked == [1]
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = []
    seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = []
    dicoms.save([*itertools.chain(*points), seg], tmp_path / "series")
    cohort, report = take(tmp_path / "series", "again")
    assert verdicts(cohort) == {"mask_of_several": 1} and all(cohort.mask(s) is None for s in cohort.scans()["scan"])


def shifted(seg) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = (float(v) for v in group.ImagePositionPatient)
    group.ImagePositionPatient = [x + 0.3, y, z]


def outside(seg) -> None:
    group = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = (float(v) for v in group.ImagePositionPatient)
    group.ImagePositionPatient = [x, y, z + 30]


def finer(seg) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.45, 0.4]


def nowhere(seg) -> None:
    del seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def of_others(seg) -> None:
    seg.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.9.9"
    for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        item.ReferencedSOPInstanceUID = "1.9.9.1"
    seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (shifted, "mask_grid"),
        (outside, "mask_grid"),
        (finer, "mask_grid"),
        (nowhere, "mask_grid"),
        (of_others, "mask_without_image"),
        (lambda seg: setattr(seg, "NumberOfFrames", 2), "bad_frames"),
        (lambda seg: setattr(seg, "SegmentSequence", []), "bad_frames"),
        (lambda seg: setattr(seg, "Rows", 60000), "too_large"),
        (lambda seg: setattr(seg, "SegmentationType", "OTHER"), "unsupported_pixels"),
        (lambda seg: setattr(seg, "PixelData", b"\1\0"), "unreadable"),
    ],
    ids=["shifted", "outside", "finer", "nowhere", "others", "frames", "segments", "huge", "kind", "short"],
)
def test_what_cannot_be_a_mask_is_refused(tmp_path, take, slices, change, code) -> None:
    seg = dicoms.segmentation(slices, [(1, 2, box(3, 4))])
    if code == "too_large":
        seg.Columns = 6000
    change(seg)
    dicoms.save([*slices, seg], tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.rejected, verdicts(cohort)) == (1, 1, {code: 1})
    assert cohort.mask(cohort.scans()["scan"][0]) is None


def test_segments_that_overlap_are_refused(tmp_path, take, slices) -> None:
    seg = dicoms.segmentation(slices, [(1, 2, box(3, 4)), (2, 2, box(4, 5))])
    dicoms.save([*slices, seg], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    assert verdicts(cohort) == {"mask_overlaps": 1} and cohort.mask(cohort.scans()["scan"][0]) is None


def test_of_two_masks_of_one_scan_none_is_used(tmp_path, take, slices) -> None:
    first = dicoms.segmentation(slices, [(1, 2, box(3, 4))])
    second = dicoms.segmentation(slices, [(1, 3, box(3, 4))])
    paths = dicoms.save([*slices, first, second], tmp_path / "source")
    cohort, _ = take(tmp_path / "source")
    assert verdicts(cohort) == {"mask_repeated": 2} and cohort.mask(cohort.scans()["scan"][0]) is None
    paths[-1].unlink()
    cohort, report = take(tmp_path / "source")
    assert report.accepted == 7 and cohort.mask(cohort.scans()["scan"][0]).sum() == 35


def test_a_copy_of_the_same_object_is_no_second_mask(tmp_path, take, slices) -> None:
    paths = dicoms.save([*slices, dicoms.segmentation(slices, [(1, 2, box(3, 4))])], tmp_path / "source")
    shutil.copy(paths[-1], tmp_path / "source" / "copy.dcm")
    _, report = take(tmp_path / "source")
    assert (report.accepted, report.ignored_as) == (7, {"repeated_instance": 1})


def test_masks_that_have_not_changed_are_not_read_again(tmp_path, take, slices, monkeypatch) -> None:
    dicoms.save(slices, tmp_path / "source")
    path = dicoms.save([dicoms.segmentation(slices, [(1, 2, box(3, 4))])], tmp_path / "source" / "masks")[0]
    cohort, _ = take(tmp_path / "source")
    reads = []
    original = segmentation.read
    monkeypatch.setattr(segmentation, "read", lambda *a: (reads.append(a), original(*a))[1])
    _, report = take(tmp_path / "source")
    assert report.accepted == 7 and not reads
    dicoms.save([dicoms.segmentation(slices, [(4, 2, box(3, 4))])], path.parent)
    cohort, report = take(tmp_path / "source")
    assert len(reads) == 1 and cohort.mask(cohort.scans()["scan"][0]).max() == 4


def test_a_mask_goes_with_the_scan_that_it_was_drawn_on(tmp_path, workspace, slices) -> None:
    """A source of masks alone finds the scans of an earlier one; where such a scan changes, its mask is dropped."""
    dicoms.save(slices, tmp_path / "scans")
    dicoms.save([dicoms.segmentation(slices, [(1, 2, box(3, 4))])], tmp_path / "masks")
    dicoms.save([dicoms.segmentation(slices, [(5, 2, box(3, 4))])], tmp_path / "more")
    place = tmp_path / "cohort"
    for source, rejected in (("scans", 0), ("masks", 0), ("more", 1), ("scans", 0)):
        report = ingest([tmp_path / source], place, workspace=workspace, jobs=0)
        assert report.rejected == rejected, source
    cohort = Cohort.open(place)
    scan = cohort.scans()["scan"][0]
    assert cohort.mask(scan).max() == 1
    slices[3].PixelData = dicoms.volume(seed=9)[0].tobytes()
    dicoms.save(slices, tmp_path / "scans")
    ingest([tmp_path / "scans"], place, workspace=workspace, jobs=0)
    assert cohort.mask(scan) is None


def test_nothing_of_a_segmentation_but_its_labels_is_kept(tmp_path, take, slices) -> None:
    seg = dicoms.segmentation(slices, [(1, 2, box(3, 4))], ContentLabel="ZXQV", ContentCreatorName="Zxqv^A")
    seg.SegmentSequence[0].SegmentLabel = "zxqv lesion"
    dicoms.save([*slices, seg], tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    everything = b"".join(p.read_bytes() for p in cohort.path.rglob("*") if p.is_file()).lower()
    assert b"zxqv" not in everything and "zxqv" not in json.dumps(report.as_json()).lower()


def test_the_liver_of_pydicom_data(tmp_path, take) -> None:
    """A SEG that dcmqi wrote, on slices made where it says that its own were."""
    data_store = pytest.importorskip("data_store")
    import pydicom

    path = Path(data_store.__file__).parent / "data" / "liver.dcm"
    seg = pydicom.dcmread(path)
    groups = seg.PerFrameFunctionalGroupsSequence
    slices = []
    for group in groups:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        slices.append(
            dicoms.image(
                np.zeros((512, 512), np.int16) + len(slices), Modality="CT",
                SOPInstanceUID=source.ReferencedSOPInstanceUID, SeriesInstanceUID="1.2.77",
                ImagePositionPatient=group.PlanePositionSequence[0].ImagePositionPatient,
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[0.810547, 0.810547],
            )
        )  # fmt: skip
    dicoms.save(slices, tmp_path / "source")
    shutil.copy(path, tmp_path / "source" / "liver.dcm")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted) == (1, 4)
    order = np.argsort([float(s.ImagePositionPatient[2]) for s in slices])
    np.testing.assert_array_equal(cohort.mask(cohort.scans()["scan"][0]), seg.pixel_array[order][:, ::-1, ::-1])
