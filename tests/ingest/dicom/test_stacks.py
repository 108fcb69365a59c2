"""What of one series belongs to one volume: all ways of telling slices apart, and all reasons to refuse them."""

from __future__ import annotations

from typing import Any

import dicoms
import numpy as np
import pytest

from medssl.errors import UserError
from medssl.ingest.readers.dicom import series as planning


def shifted(z: float) -> np.ndarray:
    affine = dicoms.AXIAL.copy()
    affine[2, 3] += z
    return affine


def twice(first: dict[str, Any], second: dict[str, Any]) -> list:
    """Two volumes at the same places, which differ in what is given."""
    return dicoms.series(dicoms.volume(), dicoms.AXIAL, **first) + dicoms.series(
        dicoms.volume(seed=1), dicoms.AXIAL, **second
    )


def accepted(tmp_path, take, objects: list) -> tuple[list[dict], set[str], Any]:
    """(catalog rows by size and time point, codes of findings, cohort); no file may be left over."""
    names = [f"{n:03d}.dcm" for n in np.random.default_rng(7).permutation(len(objects))]
    dicoms.save(objects, tmp_path / "source", names)
    cohort, report = take(tmp_path / "source")
    assert report.accepted == len(objects), report.lines()
    rows = cohort.scans().to_dict("records")
    assert len({row["series"] for row in rows}) == 1
    return sorted(rows, key=lambda r: (r["shape"], str(r["attributes"]))), set(cohort.findings()["code"]), cohort


def refused(tmp_path, take, objects: list) -> set[str]:
    """Codes of a series, none of whose files is accepted, beside a good one."""
    dicoms.save(dicoms.series(dicoms.volume(), dicoms.AXIAL, SeriesInstanceUID="1.2.99"), tmp_path / "source" / "good")
    dicoms.save(objects, tmp_path / "source" / "bad")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted, report.rejected) == (1, 6, len(objects))
    return set(cohort.files().query("status == 'rejected'")["code"])


def private_b_value(value: int):
    def add(ds):
        ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", value)
        return ds

    return add


@pytest.mark.parametrize(
    ("tag", "first", "second", "name", "values"),
    [
        ("EchoTime", "12", "80", "echo_time_ms", [12.0, 80.0]),
        ("DiffusionBValue", 0.0, 1000.0, "b_value", [0.0, 1000.0]),
        ("TemporalPositionIdentifier", 1, 2, "time_point", [0, 1]),
        ("TriggerTime", "10", "500", "time_point", [0, 1]),
        ("AcquisitionNumber", 3, 4, "time_point", [0, 1]),
        ("ImageType", ("ORIGINAL", "PRIMARY", "M"), ("ORIGINAL", "PRIMARY", "P"), "component", ["magnitude", "phase"]),
        ("ImageType", ("ORIGINAL", "PRIMARY", "OTHER"), ("DERIVED", "SECONDARY", "X"), None, None),
        ("ConvolutionKernel", "B30f", "B70f", None, None),
        ("StackID", "A", "B", None, None),
        ("DiffusionGradientOrientation", (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), None, None),
        ("SliceThickness", "3", "5", "slice_thickness_mm", [3.0, 5.0]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_repeated_places_are_told_apart(tmp_path, take, tag, first, second, name, values) -> None:
    rows, codes, cohort = accepted(tmp_path, take, twice({tag: first}, {tag: second}))
    assert [row["shape"] for row in rows] == [[6, 20, 24]] * 2 and "split_series" in codes
    if name:
        assert sorted(row["attributes"][name] for row in rows) == values
    arrays = {np.asarray(cohort.array(row["scan"])).tobytes() for row in rows}
    expected = {np.ascontiguousarray(dicoms.volume(seed=s)[:, ::-1, ::-1]).tobytes() for s in (0, 1)}
    assert arrays == expected, "each slice lies in the volume that it was taken for"


def test_the_b_value_of_old_siemens_scanners(tmp_path, take) -> None:
    objects = [private_b_value(0)(d) for d in dicoms.series(dicoms.volume(), dicoms.AXIAL)]
    objects += [private_b_value(800)(d) for d in dicoms.series(dicoms.volume(seed=1), dicoms.AXIAL)]
    rows, _, _ = accepted(tmp_path, take, objects)
    assert sorted(row["attributes"]["b_value"] for row in rows) == [0.0, 800.0]


def test_two_things_that_vary_at_once(tmp_path, take) -> None:
    objects = []
    for n, (echo, time) in enumerate([("10", 1), ("10", 2), ("20", 1), ("20", 2)]):
        objects += dicoms.series(dicoms.volume(seed=n), dicoms.AXIAL, EchoTime=echo, TemporalPositionIdentifier=time)
    rows, _, cohort = accepted(tmp_path, take, objects)
    found = {(r["attributes"]["echo_time_ms"], r["attributes"]["time_point"]): r["scan"] for r in rows}
    for n, key in enumerate([(10.0, 0), (10.0, 1), (20.0, 0), (20.0, 1)]):
        np.testing.assert_array_equal(cohort.array(found[key]), dicoms.volume(seed=n)[:, ::-1, ::-1])


def test_an_echo_time_that_jitters_is_one(tmp_path, take) -> None:
    rows, codes, _ = accepted(
        tmp_path, take, dicoms.series(dicoms.volume(), dicoms.AXIAL, EchoTime=["10", "10.05"] * 3)
    )
    assert len(rows) == 1 and "mixed_settings" not in codes


@pytest.mark.parametrize(
    ("tag", "first", "second"),
    [("SliceThickness", "3", "5"), ("ConvolutionKernel", "B30f", "B70f"), ("EchoTime", "10", "90")],
)
def test_acquisitions_that_continue_each_other_are_two_volumes(tmp_path, take, tag, first, second) -> None:
    """As in head scans: thin slices at the base of the skull and thick ones above, all in one even row."""
    low = dicoms.series(dicoms.volume(), dicoms.AXIAL, **{tag: first})
    high = dicoms.series(dicoms.volume((4, 20, 24), 1), shifted(18), **{tag: second})
    rows, codes, _ = accepted(tmp_path, take, low + high)
    assert [row["shape"][0] for row in rows] == [4, 6] and "split_series" in codes


def test_slices_that_differ_without_order_are_kept_and_said(tmp_path, take) -> None:
    objects = dicoms.series(dicoms.volume(), dicoms.AXIAL, ConvolutionKernel=["A", "B", "A", "A", "B", "A"])
    rows, codes, _ = accepted(tmp_path, take, objects)
    assert len(rows) == 1 and "mixed_settings" in codes


@pytest.mark.parametrize("tag", ["TriggerTime", "AcquisitionTime"])
def test_time_points_by_the_order_of_times_at_each_place(tmp_path, take, tag) -> None:
    """Slices of a heart are taken one after the other, so that no time is shared by a whole volume."""
    phases = 3
    objects = []
    for t in range(phases):
        times = [30.0 * k + 200 * t + 7 * (k % 2) for k in range(6)]
        texts = [f"{v:.1f}" if tag == "TriggerTime" else f"1000{v / 20:09.6f}" for v in times]
        objects += dicoms.series(dicoms.volume(seed=t), dicoms.AXIAL, **{tag: texts})
    rows, codes, cohort = accepted(tmp_path, take, objects)
    assert len(rows) == phases and "ordered_by_time" in codes
    for row in rows:
        t = row["attributes"]["time_point"]
        np.testing.assert_array_equal(cohort.array(row["scan"]), dicoms.volume(seed=t)[:, ::-1, ::-1])


@pytest.mark.parametrize("change", ["tie", "unequal", "no time"])
def test_times_that_do_not_tell_slices_apart(tmp_path, take, change) -> None:
    objects = []
    for t in range(2):
        objects += dicoms.series(
            dicoms.volume(seed=t), dicoms.AXIAL, TriggerTime=[f"{30 * k + 200 * t}" for k in range(6)]
        )
    if change == "tie":
        objects[7].TriggerTime = objects[1].TriggerTime
    if change == "unequal":
        objects.pop(8)
    if change == "no time":
        del objects[3].TriggerTime
    assert refused(tmp_path, take, objects) == {"duplicate_slices"}


def test_a_step_that_changes_makes_two_volumes(tmp_path, take) -> None:
    low = dicoms.series(dicoms.volume(), dicoms.AXIAL)
    coarse = shifted(20)
    coarse[2, 2] = 7.0
    rows, codes, _ = accepted(tmp_path, take, low + dicoms.series(dicoms.volume((4, 20, 24), 1), coarse))
    assert [(row["shape"][0], row["spacing"][0]) for row in rows] == [(4, 7.0), (6, 3.0)] and "step_changes" in codes


def test_two_slices_after_a_gap_are_no_volume(tmp_path, take) -> None:
    coarse = shifted(20)
    coarse[2, 2] = 7.0
    objects = dicoms.series(dicoms.volume(), dicoms.AXIAL) + dicoms.series(dicoms.volume((2, 20, 24), 1), coarse)
    assert refused(tmp_path, take, objects) == {"uneven_slices"}


@pytest.mark.parametrize("gap", [1, 2, 5])
def test_the_same_step_on_both_sides_of_a_gap_means_missing_slices(tmp_path, take, gap) -> None:
    objects = dicoms.series(dicoms.volume((12, 20, 24)), dicoms.AXIAL)
    del objects[5 : 5 + gap]
    assert refused(tmp_path, take, objects) == {"missing_slices"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.append(dicoms.series(dicoms.volume(seed=4), dicoms.AXIAL)[2]), "duplicate_slices"),
        (lambda s: setattr(s[3], "ImagePositionPatient", [-10.0, -20.0, -20.0]), "uneven_slices"),
        (lambda s: setattr(s[3], "ImagePositionPatient", [-10.0, -16.0, -21.0]), "shifted_slices"),
        (lambda s: [setattr(d, "ImageOrientationPatient", [1, 0, 0, 0.5, 0.9, 0]) for d in s], "bad_geometry"),
        (lambda s: [setattr(d, "ImageOrientationPatient", [2, 0, 0, 0, 1, 0]) for d in s], "bad_geometry"),
    ],
    ids=["duplicate", "uneven", "shifted", "skewed", "long"],
)
def test_what_is_no_even_stack_is_refused(tmp_path, take, change, code) -> None:
    objects = dicoms.series(dicoms.volume(), dicoms.AXIAL)
    change(objects)
    assert refused(tmp_path, take, objects) == {code}


@pytest.mark.parametrize(
    ("thickness", "code"), [("3", ""), ("3.1", ""), ("5", "overlapping_slices"), ("1", "slice_gaps"), ("0", "")]
)
def test_thickness_against_step(tmp_path, take, thickness, code) -> None:
    _, codes, _ = accepted(tmp_path, take, dicoms.series(dicoms.volume(), dicoms.AXIAL, SliceThickness=thickness))
    assert codes & {"overlapping_slices", "slice_gaps"} == ({code} if code else set())


def test_stacks_in_several_directions_stand_beside_each_other(tmp_path, take) -> None:
    """Three-plane localizers: no stack is the volume to which the others would be localizers."""
    turned = dicoms.AXIAL[:, [1, 2, 0, 3]]
    objects = dicoms.series(dicoms.volume((3, 20, 24)), dicoms.AXIAL) + dicoms.series(
        dicoms.volume((4, 20, 24)), turned
    )
    rows, codes, _ = accepted(tmp_path, take, objects)
    assert len(rows) == 2 and "mixed_orientations" in codes and "split_series" not in codes


def test_localizers_are_found_by_geometry(tmp_path, take) -> None:
    """Two images across the stack are left out; ImageType is not asked."""
    volume = dicoms.series(dicoms.volume(), dicoms.AXIAL, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    across = dicoms.series(dicoms.volume((2, 20, 24)), dicoms.oblique(4), ImageType=("ORIGINAL", "PRIMARY", "AXIAL"))
    wider = dicoms.series(dicoms.volume((1, 32, 32)), dicoms.AXIAL)
    dicoms.save(volume + across + wider, tmp_path / "source")
    cohort, report = take(tmp_path / "source")
    assert (report.scans, report.accepted, report.ignored_as) == (1, 6, {"localizer": 3})
    assert cohort.scans()["shape"][0] == [6, 20, 24]


def test_images_of_one_place_are_no_volume(tmp_path, take) -> None:
    """Bolus tracking: each image stands for itself."""
    objects = [dicoms.series(dicoms.volume((1, 20, 24), seed), dicoms.AXIAL)[0] for seed in range(5)]
    rows, codes, _ = accepted(tmp_path, take, objects)
    assert [row["kind"] for row in rows] == ["image"] * 5 and "not_a_volume" in codes


def test_a_single_slice_and_a_short_stack(tmp_path, take) -> None:
    dicoms.save(dicoms.series(dicoms.volume((3, 20, 24)), dicoms.AXIAL, SeriesInstanceUID="1.1"), tmp_path / "s" / "a")
    dicoms.save(dicoms.series(dicoms.volume((1, 20, 24)), dicoms.AXIAL, SeriesInstanceUID="1.2"), tmp_path / "s" / "b")
    cohort, _ = take(tmp_path / "s")
    few = set(cohort.findings().query("code == 'few_slices'")["scan"])
    assert few == set(cohort.scans().query("kind == 'volume'")["scan"]) and len(cohort) == 2


def test_series_of_two_matrices_are_two_scans(tmp_path, take) -> None:
    objects = dicoms.series(dicoms.volume(), dicoms.AXIAL) + dicoms.series(dicoms.volume((5, 16, 16)), dicoms.AXIAL)
    rows, codes, _ = accepted(tmp_path, take, objects)
    assert [row["shape"] for row in rows] == [[5, 16, 16], [6, 20, 24]] and "split_series" in codes


def test_rescale_types_are_not_mixed(tmp_path, take) -> None:
    """Slices in HU and slices in something else lie on one grid and are no volume."""
    about = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}
    objects = twice({**about, "RescaleType": "HU"}, {**about, "RescaleType": "US"})
    rows, _, _ = accepted(tmp_path, take, objects)
    assert sorted(row["unit"] for row in rows) == ["HU", "a.u."]


def test_slices_without_the_rescale_of_the_others_are_refused(tmp_path, take) -> None:
    """Their numbers would pass for HU; where the rescale changes nothing, nothing is amiss."""
    for intercept, expected in ((-1024, 0), (0, 6)):
        objects = dicoms.series(
            dicoms.volume(), dicoms.AXIAL, Modality="CT", RescaleSlope=1, RescaleIntercept=intercept
        )
        del objects[2].RescaleSlope, objects[2].RescaleIntercept
        other = dicoms.image(dicoms.volume()[0].astype(np.uint16), Modality="DX", SeriesInstanceUID="1.2.9")
        dicoms.save([*objects, other], tmp_path / f"source {intercept}")
        cohort, report = take(tmp_path / f"source {intercept}", f"cohort {intercept}")
        assert report.accepted == 1 + expected
        refused = set(cohort.files().query("status == 'rejected'")["code"])
        assert refused == (set() if expected else {"mixed_rescale"})


def test_projections_are_images_of_their_own(tmp_path, take) -> None:
    objects = dicoms.series(dicoms.volume().astype(np.uint16), dicoms.AXIAL, Modality="MG")
    rows, _, _ = accepted(tmp_path, take, objects)
    assert [row["kind"] for row in rows] == ["image"] * 6


def test_volumes_beyond_all_size_are_refused(tmp_path, take, monkeypatch) -> None:
    monkeypatch.setattr(planning, "MAX_VOXEL_BYTES", 5 * 20 * 24 * 2)
    dicoms.save(dicoms.series(dicoms.volume((5, 20, 24)), dicoms.AXIAL, SeriesInstanceUID="1.1"), tmp_path / "s" / "a")
    dicoms.save(dicoms.series(dicoms.volume((6, 20, 24)), dicoms.AXIAL, SeriesInstanceUID="1.2"), tmp_path / "s" / "b")
    cohort, report = take(tmp_path / "s")
    assert (report.accepted, report.rejected) == (5, 6)
    assert set(cohort.files().query("status == 'rejected'")["code"]) == {"too_large"}


@pytest.mark.parametrize(
    ("change", "compress"),
    [
        ({"Rows": 65000, "Columns": 65000}, False),
        ({"Rows": 20000, "Columns": 20000}, True),
        ({"NumberOfFrames": 2_000_000_000}, True),
    ],
    ids=["image", "compressed", "frames"],
)
def test_claims_that_no_file_can_hold_are_refused_before_anything_is_allocated(
    tmp_path, take, change, compress
) -> None:
    import tracemalloc

    ds = dicoms.image(np.zeros((16, 16), np.uint16))
    if compress:
        ds.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    for name, value in change.items():
        setattr(ds, name, value)
    dicoms.save([ds], tmp_path / "source")
    tracemalloc.start()
    with pytest.raises(UserError, match=r"claims more pixels|ends before"):
        take(tmp_path / "source")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20
