"""The folder of a predictor, and its scikit-learn face."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import medssl
from medssl.cohort import Cohort
from medssl.config import View
from medssl.encoders import create_encoder
from medssl.errors import UserError
from medssl.experiment.predictor import Predictor
from medssl.experiment.predictor.familiar import Familiar


@pytest.fixture
def images():
    """8 images, darker and brighter by turns."""
    rng = np.random.default_rng(0)
    level = np.tile([60, 190], 4)[:, None, None, None]
    return (level + rng.integers(0, 30, (8, 1, 32, 32))).astype(np.uint8)


def test_it_is_like_a_classifier_of_scikit_learn(make_predictor, images):
    predictor = make_predictor()
    assert predictor.classes_.tolist() == ["bright", "dark"]
    probabilities = predictor.predict_proba(images)
    assert probabilities.shape == (8, 2) and probabilities.sum(1) == pytest.approx(np.ones(8), abs=1e-6)
    assert predictor.predict(images).tolist() == ["dark", "bright"] * 4
    assert medssl.Predictor is Predictor


def test_temperature_moves_probabilities_and_not_the_recorded_scores(make_predictor, images, workspace, tmp_path):
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / f"{number}.png")
    plain, warm = (make_predictor(t).predictions(tmp_path, workspace).units for t in (1.0, 4.0))
    assert warm["score_dark"].tolist() == pytest.approx(plain["score_dark"].tolist())
    assert plain["probability_dark"].tolist() == pytest.approx(plain["score_dark"].tolist())
    logit = np.log(plain["score_dark"] / plain["score_bright"])
    assert warm["probability_dark"].tolist() == pytest.approx((1 / (1 + np.exp(-logit / 4))).tolist(), abs=1e-5)
    assert warm["predicted"].tolist() == plain["predicted"].tolist()


@pytest.mark.parametrize("with_encoder", [False, True])
def test_what_is_saved_is_what_is_loaded(make_predictor, images, tmp_path, with_encoder):
    encoder = create_encoder("small", seed=5) if with_encoder else None
    width = encoder.embed_dim if encoder else 256
    familiar = Familiar.fit(np.random.default_rng(0).normal(size=(30, width)))
    made = make_predictor(2.0, encoder, familiar)
    made.save(tmp_path / "p", "# a card\n")
    found = Predictor.load(tmp_path / "p")
    assert found.about.model_copy(update={"weights": ""}) == made.about and found.known == made.known
    assert np.array_equal(found.predict_proba(images), made.predict_proba(images))
    x = np.random.default_rng(1).normal(size=(3, width))
    assert np.array_equal(found.familiar.distances(x), familiar.distances(x))
    assert (tmp_path / "p" / "card.md").read_text() == "# a card\n"


def test_a_folder_that_is_no_whole_predictor_is_refused(make_predictor, tmp_path):
    with pytest.raises(UserError, match="medssl refit"):
        Predictor.load(tmp_path / "nothing")
    folder = make_predictor().save(tmp_path / "p", "")
    other = make_predictor(familiar=Familiar.fit(np.random.default_rng(0).normal(size=(30, 256))))
    other.save(tmp_path / "q", "")
    about = (folder / "predictor.json").read_text()
    (folder / "predictor.safetensors").write_bytes((tmp_path / "q" / "predictor.safetensors").read_bytes())
    with pytest.raises(UserError, match="is not the one that"):
        Predictor.load(folder)
    (folder / "predictor.json").write_text(json.dumps({**json.loads(about), "schema_version": 99}))
    with pytest.raises(UserError, match="another version"):
        Predictor.load(folder)
    (folder / "predictor.json").write_text(about[:100])
    with pytest.raises(UserError, match="damaged"):
        Predictor.load(folder)


def test_it_is_not_saved_over_something_else(make_predictor, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        make_predictor().save(tmp_path, "")
    made = make_predictor()
    made.save(tmp_path / "p", "first")
    made.save(tmp_path / "p", "second")
    assert (tmp_path / "p" / "card.md").read_text() == "second"


def test_an_encoder_that_its_file_cannot_give_back_is_refused(make_predictor, tmp_path):
    class Doubled(torch.nn.Module):
        """Two embeddings side by side, which `architecture()` of the inner one says nothing of."""

        def __init__(self):
            super().__init__()
            self.inner = create_encoder("small", seed=1)
            self.embed_dim, self.name, self.spatial_dims = 512, "small", 2
            self.mean = self.inner.mean
            self.architecture = self.inner.architecture

        def embed(self, x):
            return torch.cat([self.inner.embed(x), self.inner.embed(1 - x)], 1)

    with pytest.raises(UserError, match="cannot be made again from its file"):
        make_predictor(encoder=Doubled()).save(tmp_path / "p", "")
    assert not (tmp_path / "p").exists()


def test_images_of_another_shape_are_refused(make_predictor, images):
    for wrong in (images[..., :16], images.astype(np.float32), np.repeat(images, 3, 1)):
        with pytest.raises(UserError, match=r"not uint8 of shape \(N, 1, 32, 32\)"):
            make_predictor().predict_proba(wrong)


def test_scans_that_are_read_once_leave_no_copy(make_predictor, images, workspace, tmp_path):
    (tmp_path / "scans").mkdir()
    Image.fromarray(images[0, 0]).save(tmp_path / "scans" / "a.png")
    make_predictor().predictions(tmp_path / "scans", workspace)
    assert [file.name for file in workspace.path.iterdir()] == ["secret"]


def test_scans_of_one_exam_are_averaged_as_samples(make_predictor, workspace, tmp_path):
    """A volume is one unit: the mean embedding of its slices, not the mean of their scores."""
    import nibabel

    volume = np.zeros((32, 32, 2), np.float32)
    volume[..., 1] = np.linspace(0, 100, 32)[:, None]
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    predictor = make_predictor(view=View(size=32, intensity="range"))
    found = predictor.predictions(tmp_path, workspace).units
    from medssl.ingest import ingest

    ingest([tmp_path], tmp_path / "cohort", workspace=workspace)
    slices = Cohort.open(tmp_path / "cohort").samples(predictor.about.view).images
    mean = slices.mean((1, 2, 3)).mean() / 255
    assert len(found) == 1 and len(slices) == 2
    expected = 1 / (1 + np.exp(-2 * (10 - 20 * mean)))
    assert found["score_dark"].tolist() == pytest.approx([expected], abs=1e-4)
