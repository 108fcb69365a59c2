import numpy as np

from medssl.transfer import strategy


def test_it_reads_features_and_no_encoder(problem):
    def never(seed):
        raise AssertionError("a frozen strategy builds no encoder")

    logits = strategy("probe").predict(problem(encoder=never))
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.8


def test_labels_of_the_test_units_have_no_way_in(problem):
    first = strategy("probe").predict(problem())
    features = problem().features().copy()
    features[30:] = np.roll(features[30:], 1, axis=0)
    second = strategy("probe").predict(problem(features=lambda: features))
    assert np.allclose(np.roll(first, 1, axis=0), second)  # standardised by the pool alone


def test_a_large_penalty_flattens_the_scores(problem):
    free = strategy("probe", {"penalty": 1e-3}).predict(problem())
    tied = strategy("probe", {"penalty": 1e3}).predict(problem())
    assert np.ptp(tied[:, 1]) < 0.05 * np.ptp(free[:, 1])
