"""Scans that are unlike the training cohort are said, and those that the View cannot draw are left out."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from medssl.cohort import Cohort
from medssl.config import View
from medssl.errors import UserError
from medssl.experiment.predictor.familiar import Familiar
from medssl.experiment.predictor.known import Known
from medssl.ingest import ingest

GRAY = np.random.default_rng(0).integers(60, 190, (32, 32), dtype=np.uint8)


def picture(folder, name, pixels=GRAY):
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def volume(folder, name, spacing=1.0, high=100.0):
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(1).random((32, 32, 4)).astype(np.float32) * high
    nibabel.save(nibabel.Nifti1Image(values, np.diag([spacing, spacing, spacing, 1.0])), folder / name)


@pytest.fixture
def known_of(workspace, tmp_path):
    """`Known` of what a function writes into a folder."""

    def make(write):
        write(tmp_path / "training")
        ingest([tmp_path / "training"], tmp_path / "cohort", workspace=workspace)
        return Known.of(Cohort.open(tmp_path / "cohort").scans())

    return make


def codes(predictions):
    return {one["code"]: one["count"] for one in predictions.findings}


def test_sums_and_ranges_of_a_cohort(known_of):
    def write(folder):
        volume(folder, "a.nii.gz", 1.0, 100)
        volume(folder, "b.nii.gz", 2.0, 300)

    known = known_of(write)
    assert (known.scans, known.kind, known.unit) == (2, {"volume": 2}, {"a.u.": 2}) and known.oriented
    assert known.spacing == pytest.approx((1, 2)) and known.ranges["a.u."] == pytest.approx((0, 300), abs=5)


def test_scans_like_the_training_cohort_have_no_finding(make_predictor, known_of, workspace, tmp_path):
    predictor = make_predictor(known=known_of(lambda folder: picture(folder, "a.png")))
    picture(tmp_path / "new", "b.png")
    found = predictor.predictions(tmp_path / "new", workspace)
    assert not found.findings and found.units["findings"].tolist() == [""]


def test_each_way_to_be_unlike_is_said(make_predictor, known_of, workspace, tmp_path):
    predictor = make_predictor(known=known_of(lambda folder: volume(folder, "a.nii.gz")))
    new = tmp_path / "new"
    volume(new, "usual.nii.gz")
    volume(new, "bright.nii.gz", high=1000)
    volume(new, "coarse.nii.gz", spacing=4)
    picture(new, "flat.png")
    found = predictor.predictions(new, workspace)
    assert codes(found) == {"kind": 1, "spacing": 2, "intensity": 2}
    assert sorted(found.units["findings"]) == ["", "intensity", "kind spacing intensity", "spacing"]
    assert {one["severity"] for one in found.findings} == {"warning"}


def test_another_modality_is_said(make_predictor, known_of, workspace, tmp_path):
    known = known_of(lambda folder: picture(folder, "a.png")).model_copy(update={"modality": {"US": 3}})
    picture(tmp_path / "new", "b.png")
    assert codes(make_predictor(known=known).predictions(tmp_path / "new", workspace)) == {"modality": 1}


def test_an_embedding_far_out_is_said(make_predictor, workspace, tmp_path):
    rng = np.random.default_rng(0)
    usual = 0.5 + 0.02 * rng.normal(size=(60, 256))
    made = make_predictor(familiar=Familiar.fit(usual))
    made.known = made.known.model_copy(update={"distance": 40.0})
    picture(tmp_path, "usual.png", np.full((32, 32), 127, np.uint8) + rng.integers(0, 2, (32, 32), dtype=np.uint8))
    picture(tmp_path, "halves.png", np.repeat([20, 235], 16)[:, None].repeat(32, 1).astype(np.uint8))
    found = made.predictions(tmp_path, workspace)
    assert codes(found) == {"embedding": 1} and sorted(found.units["findings"]) == ["", "embedding"]


@pytest.mark.parametrize(
    ("view", "code", "message"),
    [
        (View(size=32, spatial_dims=3), "flat", "draws volumes"),
        (View(size=32, spacing=1.0), "no_spacing_for_view", "no pixel spacing"),
    ],
)
def test_what_the_view_cannot_draw_is_left_out_and_alone_is_refused(
    make_predictor, known_of, workspace, tmp_path, view, code, message
):
    from medssl.encoders import create_encoder

    known = known_of(lambda folder: volume(folder, "a.nii.gz"))
    predictor = make_predictor(encoder=create_encoder("small", view.spatial_dims, 1), view=view, known=known)
    picture(tmp_path / "new", "flat.png")
    with pytest.raises(UserError, match=message) as refused:
        predictor.predictions(tmp_path / "new", workspace)
    assert refused.value.fix
    volume(tmp_path / "new", "b.nii.gz")
    found = predictor.predictions(tmp_path / "new", workspace)
    assert len(found.units) == 1 and codes(found) == {code: 1} and found.findings[0]["severity"] == "left_out"


def test_a_window_in_hu_needs_scans_in_hu(make_predictor, known_of, workspace, tmp_path):
    known = known_of(lambda folder: volume(folder, "a.nii.gz")).model_copy(update={"unit": {"HU": 3}})
    volume(tmp_path / "new", "b.nii.gz")
    with pytest.raises(UserError, match="not in HU"):
        make_predictor(known=known).predictions(tmp_path / "new", workspace)
    percentiles = View(size=32, intensity="percentiles")
    found = make_predictor(known=known, view=percentiles).predictions(tmp_path / "new", workspace)
    assert "value_unit" in codes(found) and len(found.units) == 1
