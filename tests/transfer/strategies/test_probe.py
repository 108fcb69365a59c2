import numpy as np


def test_it_reads_features_and_no_encoder(problem):
    def never(seed):
        raise AssertionError("a frozen strategy builds no encoder")

    logits = problem.predict("probe", encoder=never)
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.8


def test_labels_of_the_test_units_have_no_way_in(problem):
    first = problem.predict("probe")
    features = problem().features().copy()
    features[30:] = np.roll(features[30:], 1, axis=0)
    second = problem.predict("probe", features=lambda: features)
    assert np.allclose(np.roll(first, 1, axis=0), second)  # standardised by the pool alone


def test_a_large_penalty_flattens_the_scores(problem):
    free = problem.predict("probe", {"penalty": 1e-3})
    tied = problem.predict("probe", {"penalty": 1e3})
    assert np.ptp(tied[:, 1]) < 0.05 * np.ptp(free[:, 1])
