import numpy as np
import pytest
import torch

from medssl.encoders import create_encoder, embed_all
from medssl.encoders.norms import settle_norms, settled
from medssl.transfer import strategy, target_kind
from medssl.transfer.strategies.head_first import probe_head


def test_it_learns_what_a_frozen_random_encoder_does_not_show(faint):
    assert faint("head_first", {"min_steps": 60, "batch": 16, "epochs": 1, "learning_rate": 3e-3}) > 0.85


def test_the_head_starts_as_the_probe_of_the_encoder_as_it_is(problem):
    """Without batch norm, a step that moves nothing leaves the probe's predictor; with one that moves, another."""

    def encoder(seed):
        return create_encoder("small_gn", seed=seed)

    images = problem().images
    features = embed_all(encoder(3), images)
    one_each = {
        "images": images,
        "unit_of": np.arange(len(images)),
        "features": lambda: features,
        "train": np.arange(0, 40, 2),
        "truth": np.repeat(problem.label, 2)[0:40:2],
        "pool": np.arange(60),
        "encoder": encoder,
    }
    probe = problem.predict("probe", **one_each)
    few = {"min_steps": 1, "epochs": 0.01, "batch": 16, "weight_decay": 0}
    assert problem.predict("head_first", few | {"learning_rate": 1e-12}, **one_each) == pytest.approx(probe, abs=1e-3)
    assert np.abs(problem.predict("head_first", few, **one_each) - probe).max() > 1e-2


@pytest.mark.parametrize("seed", range(3))
def test_the_probe_is_fitted_on_features_that_training_keeps(problem, seed):
    """Batch norms of a random encoder have seen nothing: the first step in training mode would give the probe other
    features than it was fitted on, and its answers could come out the wrong way round."""
    target = target_kind("regression", ["0", "100"])
    truth = 20.0 + 60.0 * problem.label
    logits = problem.predict(
        "head_first",
        {"min_steps": 30, "batch": 8, "epochs": 0.1},
        target=target.taught(truth[:16]),
        truth=truth[:16],
        encoder=lambda _: create_encoder("small", seed=seed),
    )
    assert np.corrcoef(logits[:, 0], problem.label[30:])[0, 1] > 0.8


def test_norms_that_know_scans_are_left(problem):
    encoder = create_encoder("small", seed=0)
    assert not settled(encoder)
    settle_norms(encoder, [torch.rand(8, 1, 32, 32)])
    assert settled(encoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    probe_head(problem(), encoder, 0.2)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_all_is_trained_and_more_slowly_than_by_finetuning(problem):
    before = create_encoder("small", seed=3).state_dict()
    method = strategy("head_first", {"min_steps": 2, "batch": 16, "epochs": 0.1})
    after = method.fit(problem()).encoder.state_dict()
    assert not any((before[name] == after[name]).all() for name in before if name.endswith("conv1.weight"))
    assert method.settings.learning_rate < strategy("finetune").settings.learning_rate
