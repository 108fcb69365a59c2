"""NIfTI: affines, dtypes, voxels that are no numbers, time points, masks."""

from __future__ import annotations

import gzip
import shutil
import tracemalloc
from pathlib import Path

import dicoms
import nibabel as nib
import numpy as np
import pytest

from medssl.cohort import Cohort
from medssl.config import View
from medssl.errors import UserError
from medssl.ingest import ingest


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None, **header) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, dicoms.oblique() if affine is None else affine)
    for name, value in header.items():
        getattr(image.header, name)(*value)
    nib.save(image, path)
    return path


def noise(shape=(12, 10, 8), dtype="int16", seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(dtype)


def only(cohort) -> dict:
    assert len(cohort) == 1
    return cohort.scans().iloc[0].to_dict()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "odd name.without.ending"])
def test_geometry_equals_nibabels(tmp_path, take, name) -> None:
    values, affine = noise(), dicoms.oblique(4)
    path = save(tmp_path / "source" / "a.nii", values, affine)
    path.rename(path.with_name(name)) if not name.endswith(".gz") else path.with_name(name).write_bytes(
        gzip.compress(path.read_bytes())
    )
    if name.endswith(".gz"):
        path.unlink()
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    truth = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-4)
    np.testing.assert_array_equal(cohort.array(row["scan"]), np.asarray(truth.dataobj).transpose(2, 1, 0))


def test_sform_goes_before_qform_and_disagreement_is_said(tmp_path, take) -> None:
    image = nib.Nifti1Image(noise(), None)
    image.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), code=1)
    image.set_qform(np.diag([4.0, 4.0, 4.0, 1.0]), code=1)
    (tmp_path / "source").mkdir()
    nib.save(image, tmp_path / "source" / "a.nii")
    cohort, _ = take(tmp_path / "source")
    assert only(cohort)["spacing"] == [3.0, 2.0, 1.0]
    assert "forms_disagree" in set(cohort.findings()["code"])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (noise(dtype="float32"), "int16"),
        (noise(dtype="float64") + 0.25, "float32"),
        (noise(dtype="int16"), "int16"),
        ((noise() % 200).astype("float64"), "uint8"),
        (noise(dtype="float32") * 100_000, "int32"),
    ],
    ids=lambda v: str(getattr(v, "dtype", v)),
)
def test_smallest_type_that_holds_the_values(tmp_path, take, values, dtype) -> None:
    save(tmp_path / "source" / "a.nii", values, np.eye(4))
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    assert row["dtype"] == dtype
    np.testing.assert_array_equal(cohort.array(row["scan"]), values.transpose(2, 1, 0))


@pytest.mark.parametrize("scale", [1e-6, 8e-4, 2.0])
def test_small_values_keep_their_percentiles(tmp_path, take, scale) -> None:
    """Maps of diffusion in mm2/s, which four digits behind the point would make black and white."""
    values = (np.abs(np.random.default_rng(0).normal(1, 0.3, (12, 12, 12))) * scale).astype(np.float32)
    folder = tmp_path / "source"
    folder.mkdir()
    nib.Nifti1Image(values, np.eye(4)).to_filename(folder / "a.nii.gz")
    cohort, _ = take(folder)
    row = cohort.scan(cohort.scans()["scan"].iloc[0])
    assert row["percentiles"]["99.5"] == pytest.approx(np.percentile(values, 99.5), rel=1e-4)
    gray = cohort.samples(View(size=12, slices=1)).images
    assert len(np.unique(gray)) > 50 and 100 < gray[gray > 0].mean() < 155


def test_voxels_that_are_no_numbers_are_masked(tmp_path, take) -> None:
    values = noise(dtype="float32")
    values[0, 1, 2], values[3, 1, 2] = np.nan, np.inf
    save(tmp_path / "source" / "a.nii.gz", values, np.eye(4))
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    padding = cohort.padding(row["scan"])
    assert padding.sum() == 2 and padding[2, 1, 0] and padding[2, 1, 3]
    assert np.isfinite(cohort.array(row["scan"])).all()
    assert "not_finite" in set(cohort.findings()["code"])


def test_time_points_are_scans_of_one_series(tmp_path, take) -> None:
    values = noise((6, 5, 4, 3))
    save(tmp_path / "source" / "a.nii.gz", values, np.eye(4))
    cohort, report = take(tmp_path / "source")
    scans = cohort.scans()
    assert (report.scans, report.accepted, report.patients) == (3, 1, 1) and scans["series"].nunique() == 1
    stored = {cohort.array(s).tobytes() for s in scans["scan"]}
    assert stored == {np.ascontiguousarray(values[..., t].transpose(2, 1, 0)).tobytes() for t in range(3)}


def test_truncated_and_absurd_files_are_refused(tmp_path, take) -> None:
    source = tmp_path / "source"
    save(source / "good.nii.gz", noise())
    raw = save(tmp_path / "cut.nii", noise()).read_bytes()
    (source / "cut.nii").write_bytes(raw[:-300])
    (source / "cut.nii.gz").write_bytes(gzip.compress(raw)[:-300])
    (source / "absurd.nii").write_bytes(raw[:42] + b"\xff\x7f" * 3 + raw[48:])
    cohort, report = take(source)
    assert (report.accepted, report.rejected) == (1, 3), cohort.files()


def code_of(tmp_path, workspace, source) -> str:
    """The code under which the only file of a source was rejected."""
    with pytest.raises(UserError):
        ingest([source], tmp_path / "cohort", workspace=workspace, jobs=0)
    return Cohort.open(tmp_path / "cohort").files()["code"].item()


def header_of(path: Path, **fields) -> Path:
    """Overwrite fields of a NIfTI-1 header by hand, as no library would write them."""
    raw = path.read_bytes()
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + raw[348:])
    return path


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dim": [3, 32767, 32767, 1, 1, 1, 1, 1]}, "truncated"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "too_large"),
        ({"dim": [5, 4, 4, 4, 1, 3, 1, 1]}, "vector_voxels"),
        ({"dim": [5, 2, 2, 2, 2, 2, 1, 1]}, "bad_dimensions"),
        ({"dim": [3, 12, -10, 8, 1, 1, 1, 1]}, "bad_dimensions"),
        ({"dim": [1, 12, 1, 1, 1, 1, 1, 1]}, "bad_dimensions"),
        ({"datatype": 1}, "unsupported_pixels"),
        ({"datatype": 77}, "unsupported_pixels"),
        ({"datatype": 32, "dim": [3, 6, 5, 4, 1, 1, 1, 1]}, "complex_voxels"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "bad_rescale"),
        ({"vox_offset": 1e30}, "truncated"),
        ({"vox_offset": 0}, "unreadable"),
        ({"vox_offset": np.nan}, "unreadable"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 1, 1, 0, 0, 0, 0]}, "bad_geometry"),
        ({"magic": b"ni1"}, "missing_partner"),
    ],
    ids=str,
)
def test_headers_that_lie_are_refused_with_a_code(tmp_path, workspace, fields, code) -> None:
    header_of(save(tmp_path / "source" / "a.nii", noise()), **fields)
    assert code_of(tmp_path, workspace, tmp_path / "source") == code


def test_damage_inside_a_gzip_is_found(tmp_path, workspace) -> None:
    path = save(tmp_path / "source" / "a.nii.gz", noise((40, 40, 40)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 200] = b"\0" * 200
    path.write_bytes(raw)
    assert code_of(tmp_path, workspace, tmp_path / "source") in ("unreadable", "truncated")


def test_the_check_sum_of_a_gzip_counts(tmp_path, workspace) -> None:
    """A changed byte that unpacks well shows in nothing else."""
    path = save(tmp_path / "source" / "a.nii", noise())
    raw = bytearray(gzip.compress(path.read_bytes(), 0))
    raw[-500] ^= 1
    path.with_name("a.nii.gz").write_bytes(raw)
    path.unlink()
    assert code_of(tmp_path, workspace, tmp_path / "source") == "unreadable"


def test_a_small_gzip_that_claims_gigabytes_allocates_nothing(tmp_path, workspace) -> None:
    path = header_of(save(tmp_path / "source" / "a.nii", noise()), dim=[3, 1290, 1290, 1290, 1, 1, 1, 1])
    path.with_name("a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    tracemalloc.start()
    assert code_of(tmp_path, workspace, tmp_path / "source") == "truncated"
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("fields", "slope", "inter"),
    [
        ({"scl_slope": 0, "scl_inter": 5}, 1, 0),
        ({"scl_slope": np.nan, "scl_inter": np.nan}, 1, 0),
        ({"scl_slope": np.inf, "scl_inter": 1}, 1, 0),
        ({"scl_slope": 0.5, "scl_inter": -3}, 0.5, -3),
        ({"scl_slope": 1, "scl_inter": -1024}, 1, -1024),
    ],
    ids=str,
)
def test_scaling_is_nibabels(tmp_path, take, fields, slope, inter) -> None:
    values = noise()
    path = header_of(save(tmp_path / "source" / "a.nii", values, np.eye(4)), **fields)
    cohort, _ = take(tmp_path / "source")
    array = cohort.array(only(cohort)["scan"])
    np.testing.assert_array_equal(array, np.asarray(nib.load(path).dataobj).transpose(2, 1, 0))
    np.testing.assert_array_equal(array, values.transpose(2, 1, 0) * slope + inter)


@pytest.mark.parametrize("unit", ["meter", "mm", "micron", "unknown"])
def test_units_of_length(tmp_path, take, unit) -> None:
    factor = {"meter": 1000.0, "micron": 0.001}.get(unit, 1.0)
    affine = dicoms.oblique()
    affine[:3] /= factor
    save(tmp_path / "source" / "a.nii", noise(), affine, set_xyzt_units=(unit,))
    cohort, _ = take(tmp_path / "source")
    truth = nib.as_closest_canonical(nib.Nifti1Image(noise(), dicoms.oblique())).affine
    np.testing.assert_allclose(np.array(only(cohort)["affine"]), truth, atol=1e-3)
    assert "odd_spacing" not in set(cohort.findings()["code"])


def test_a_voxel_of_a_kilometre_is_said(tmp_path, take) -> None:
    save(tmp_path / "source" / "a.nii", noise(), np.eye(4), set_xyzt_units=("meter",))
    cohort, _ = take(tmp_path / "source")
    assert "odd_spacing" in set(cohort.findings()["code"])


@pytest.mark.parametrize(("shift", "said"), [(0.05, False), (0.2, True)])
def test_forms_are_compared_at_the_corners(tmp_path, take, shift, said) -> None:
    """A small turn moves far corners by more than near ones: entries of the matrices do not show it."""
    affine, other = np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([1.0, 1.0, 1.0, 1.0])
    other[0, 1], other[1, 0] = -shift / 40, shift / 40  # 40 voxels away: `shift` mm
    image = nib.Nifti1Image(np.zeros((3, 41, 3), "uint8"), None)
    image.dataobj[1, 1, 1] = 1
    image.set_sform(affine, code=1)
    image.set_qform(other, code=1, strip_shears=True)
    (tmp_path / "source").mkdir()
    nib.save(image, tmp_path / "source" / "a.nii")
    cohort, _ = take(tmp_path / "source")
    assert ("forms_disagree" in set(cohort.findings()["code"])) is said
    assert ("forms_apart_mm" in only(cohort)["attributes"]) is said


def test_a_quaternion_that_is_none_gives_way(tmp_path, take) -> None:
    header_of(save(tmp_path / "source" / "a.nii", noise()), sform_code=0, qform_code=1, quatern_b=3, quatern_c=4)
    cohort, _ = take(tmp_path / "source")
    assert {"bad_form", "no_orientation"} <= set(cohort.findings()["code"])


def test_sheared_affines_are_kept_exactly(tmp_path, take) -> None:
    affine = np.array([[0.9, 0.1, 0, -30], [0, 1.1, 0.4, 12], [0.05, 0, 2.5, 7], [0, 0, 0, 1]])
    save(tmp_path / "source" / "a.nii", noise(), affine)
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_allclose(np.array(only(cohort)["affine"]), affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">f8", "<i8", "<u8", ">u4", "i1", "<u2"])
def test_byte_orders_and_wide_integers(tmp_path, take, dtype) -> None:
    values = noise().astype(dtype) if dtype != "i1" else noise().astype("i1")
    image = nib.Nifti1Image(values, np.eye(4), dtype=dtype)
    image = nib.Nifti1Image(values, np.eye(4), image.header.as_byteswapped(">" if dtype[0] == ">" else "<"))
    (tmp_path / "source").mkdir()
    nib.save(image, tmp_path / "source" / "a.nii")
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.array(only(cohort)["scan"]), values.transpose(2, 1, 0))


def test_what_float32_cannot_hold_is_masked(tmp_path, take) -> None:
    values = noise(dtype="float64")
    values[1, 2, 3] = -1e300
    save(tmp_path / "source" / "a.nii", values, np.eye(4))
    cohort, _ = take(tmp_path / "source")
    padding = cohort.padding(only(cohort)["scan"])
    assert padding.sum() == 1 and padding[3, 2, 1]
    assert cohort.array(only(cohort)["scan"]).min() >= 0


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colour_volumes(tmp_path, take, channels) -> None:
    planes = np.stack([noise((6, 5, 4), "uint8", seed=i) for i in range(len(channels))], -1)
    values = planes.view([(c, "u1") for c in channels]).reshape(6, 5, 4)
    save(tmp_path / "source" / "a.nii.gz", values, np.diag([-1.0, 1, 1, 1]))
    cohort, _ = take(tmp_path / "source")
    row = only(cohort)
    assert row["kind"] == "colour_volume"
    np.testing.assert_array_equal(cohort.array(row["scan"]), planes[::-1, ..., :3].transpose(3, 2, 1, 0))
    assert ("alpha_left_out" in set(cohort.findings()["code"])) is (channels == "RGBA")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.nifti2.Nifti2Pair, nib.AnalyzeImage, nib.Spm2AnalyzeImage])
def test_pairs_equal_nibabels(tmp_path, take, kind, ending) -> None:
    values = noise()
    (tmp_path / "source").mkdir()
    affine = dicoms.oblique() if "Nifti" in kind.__name__ else np.diag([-2.0, 3, 4, 1])
    image = kind(values, affine)
    path = tmp_path / "source" / "Case.hdr"
    nib.save(image, path)
    for mat in path.parent.glob("*.mat"):  # of SPM; not read here
        mat.unlink()
    truth = nib.as_closest_canonical(nib.load(path))
    voxels = np.asarray(truth.dataobj).transpose(2, 1, 0)
    if ending:
        for half in list(path.parent.iterdir()):
            half.with_name(half.name + ending).write_bytes(gzip.compress(half.read_bytes()))
            half.unlink()
    cohort, report = take(tmp_path / "source")
    assert (report.found, report.accepted, report.scans) == (2, 2, 1)
    row = only(cohort)
    np.testing.assert_array_equal(cohort.array(row["scan"]), voxels)
    np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-4)
    assert ("left_right_unknown" in set(cohort.findings()["code"])) is ("Nifti" not in kind.__name__)


@pytest.mark.parametrize("lost", [".hdr", ".img"])
def test_half_a_pair_is_refused(tmp_path, workspace, lost) -> None:
    (tmp_path / "source").mkdir()
    nib.save(nib.Nifti1Pair(noise(), np.eye(4)), tmp_path / "source" / "a.hdr")
    (tmp_path / "source" / f"a{lost}").unlink()
    assert code_of(tmp_path, workspace, tmp_path / "source") == "missing_partner"


def test_extensions_are_skipped(tmp_path, take) -> None:
    image = nib.Nifti1Image(noise(), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"nobody's name" * 40))
    (tmp_path / "source").mkdir()
    nib.save(image, tmp_path / "source" / "a.nii.gz")
    cohort, _ = take(tmp_path / "source")
    np.testing.assert_array_equal(cohort.array(only(cohort)["scan"]), noise().transpose(2, 1, 0))


NIBABELS = Path(nib.__file__).parent / "tests" / "data"


@pytest.mark.skipif(not NIBABELS.is_dir(), reason="nibabel came without its test data")
@pytest.mark.parametrize(
    "name",
    ["anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "standard.nii.gz",
     "reoriented_anat_moved.nii", "resampled_anat_moved.nii"],
)  # fmt: skip
def test_nibabels_own_files(tmp_path, take, name) -> None:
    (tmp_path / "source").mkdir()
    shutil.copy(NIBABELS / name, tmp_path / "source" / name)
    equals_nibabels(take(tmp_path / "source")[0], NIBABELS / name)


def equals_nibabels(cohort: Cohort, path: Path) -> None:
    """Affine and voxels of every time point; what is no number is padding."""
    truth = nib.as_closest_canonical(nib.load(path))
    voxels = np.asarray(truth.dataobj)
    if voxels.dtype.names:
        voxels = np.stack([voxels[c] for c in "RGB"]).transpose(1, 2, 3, 0)[..., None, :]
    voxels = voxels[..., None] if voxels.ndim == 3 else voxels
    assert len(cohort) == voxels.shape[3]
    for row in cohort.scans().to_dict("records"):
        want = voxels[:, :, :, row["attributes"].get("time_point", 0)].T
        padding = cohort.padding(row["scan"])
        padding = np.zeros(want.shape, bool) if padding is None else padding
        np.testing.assert_array_equal(padding, ~np.isfinite(want))
        np.testing.assert_allclose(np.array(row["affine"]), truth.affine, atol=1e-4)
        np.testing.assert_allclose(cohort.array(row["scan"])[~padding], want[~padding], rtol=1e-6)


def test_real_niftis_equal_nibabels(shared_data: Path, tmp_path, take) -> None:
    zoo = sorted((shared_data / "dicom_series" / "vendor_zoo").rglob("*_ground_truth.nii.gz"))
    crops = sorted((shared_data / "hippocampus" / "images").glob("*.nii.gz"))
    assert len(zoo) == 17 and len(crops) == 240
    for i, path in enumerate([*zoo, *crops[::20]]):
        source = tmp_path / f"source{i}"
        source.mkdir()
        shutil.copy(path, source / "a.nii.gz")
        equals_nibabels(take(source, f"cohort{i}")[0], path)


def test_masks_go_to_the_scan_of_the_same_name(tmp_path, take) -> None:
    source, affine = tmp_path / "source", dicoms.oblique()
    for i in range(3):
        save(source / "images" / f"case{i}.nii.gz", noise(seed=i), affine)
    labels = (noise(seed=9) % 3).astype("float32")
    save(source / "labels" / "case0.nii.gz", labels, affine)
    save(source / "labels" / "case1.nii.gz", labels, dicoms.oblique(2))
    save(source / "labels" / "case2.nii.gz", labels + 0.5, affine)
    save(source / "labels" / "case3.nii.gz", labels, affine)
    cohort, report = take(source)
    assert (report.scans, report.accepted, report.rejected) == (3, 4, 3)
    assert sorted(cohort.files().query("status == 'rejected'")["code"]) == [
        "mask_grid", "mask_values", "mask_without_image",
    ]  # fmt: skip
    masks = [m for m in map(cohort.mask, cohort.scans()["scan"]) if m is not None]
    truth = nib.as_closest_canonical(nib.Nifti1Image(labels, affine))
    assert len(masks) == 1 and masks[0].dtype == np.uint8
    np.testing.assert_array_equal(masks[0], np.asarray(truth.dataobj).transpose(2, 1, 0))


def test_a_mask_named_after_the_patient_id_goes_to_the_dicom_series(tmp_path, take) -> None:
    source, volume = tmp_path / "source", dicoms.volume()
    dicoms.save(dicoms.series(volume, dicoms.AXIAL, PatientID="vp7"), source / "dicom" / "whatever")
    save(source / "masks" / "vp7.nii.gz", (volume > 1000).astype("uint8").transpose(2, 1, 0), dicoms.AXIAL)
    cohort, report = take(source)
    assert report.rejected == 0
    scan = only(cohort)["scan"]
    np.testing.assert_array_equal(cohort.mask(scan), np.asarray(cohort.array(scan)) > 1000)


def test_a_mask_beside_its_scan_and_one_that_is_a_pair(tmp_path, take) -> None:
    source, values = tmp_path / "source", (noise() % 3).astype("uint8")
    save(source / "x" / "one.nii.gz", noise(seed=1), np.eye(4))
    save(source / "x" / "one_mask.nii.gz", values, np.eye(4))
    save(source / "images" / "two.nii.gz", noise(seed=2), np.eye(4))
    (source / "labels").mkdir()
    nib.save(nib.Nifti1Pair(values, np.eye(4)), source / "labels" / "two.hdr")
    cohort, report = take(source)
    assert (report.scans, report.accepted, report.rejected) == (2, 5, 0)
    for scan in cohort.scans()["scan"]:
        np.testing.assert_array_equal(cohort.mask(scan), values.transpose(2, 1, 0))


def test_a_scan_called_mask_alone_is_a_scan(tmp_path, take) -> None:
    save(tmp_path / "source" / "one_mask.nii.gz", noise())
    save(tmp_path / "source" / "two.nii.gz", noise(seed=1))
    assert take(tmp_path / "source")[1].scans == 2


def test_a_mask_with_time_points_is_refused(tmp_path, take) -> None:
    source = tmp_path / "source"
    save(source / "images" / "two.nii.gz", noise(), np.eye(4))
    save(source / "labels" / "two.nii.gz", noise((12, 10, 8, 2)) % 2, np.eye(4))
    cohort, _ = take(source)
    assert list(cohort.files().query("status == 'rejected'")["code"]) == ["bad_dimensions"]


def test_a_folder_called_labels_alone_holds_scans(tmp_path, take) -> None:
    save(tmp_path / "source" / "labels" / "a.nii.gz", noise())
    _, report = take(tmp_path / "source")
    assert (report.scans, report.accepted) == (1, 1)
