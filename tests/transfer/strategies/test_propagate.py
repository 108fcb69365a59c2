import numpy as np
import pytest

from medssl.transfer.strategies.propagate import Settings, neighbour_graph, spread_labels


def test_labels_follow_a_chain_where_the_nearest_label_is_the_wrong_one():
    """Points along two arcs of a circle with a gap between them: one end of the long arc lies next to the short one."""
    angle = np.concatenate([np.linspace(0, 3.9, 60), np.linspace(4.3, 5.9, 25)])
    side = np.repeat([0, 1], [60, 25])
    points = np.stack([np.cos(angle), np.sin(angle)], 1)
    labels = np.zeros((85, 2))
    labels[0, 0] = labels[60, 1] = 1  # the other end of the long arc, and the near end of the short one
    soft = spread_labels(points, labels, Settings(neighbours=3, alpha=0.999))
    assert (soft.argmax(1) == side).all()
    assert points[59] @ points[60] > points[59] @ points[0]
    assert np.allclose(soft.sum(1), 1)


def test_it_solves_the_equation_of_zhou():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(30, 5))
    labels = np.zeros((30, 2))
    labels[0, 0] = labels[1, 1] = 1
    settings = Settings(neighbours=4)
    graph = neighbour_graph(features, 4, settings.temperature).toarray()
    assert np.allclose(graph, graph.T) and np.abs(np.linalg.eigvalsh(graph)).max() < 1 + 1e-9
    mass = np.linalg.inv(np.eye(30) - settings.alpha * graph) @ labels
    mass /= mass.sum(1, keepdims=True)
    mass /= mass.mean(0)
    assert np.allclose(spread_labels(features, labels, settings), mass / mass.sum(1, keepdims=True), atol=1e-5)


def test_classes_get_their_share_of_the_labels():
    """A cloud without clusters, of whose labels three in four are of one class, which lie no denser than the others."""
    features = np.random.default_rng(2).normal(size=(200, 3))
    for ones in (4, 12):
        labels = np.zeros((200, 2))
        labels[np.arange(16), np.where(np.arange(16) < ones, 1, 0)] = 1
        soft = spread_labels(features, labels, Settings())
        assert soft[:, 1].mean() == pytest.approx(ones / 16, abs=0.06)


def test_a_unit_that_no_label_reaches_is_undecided():
    two_islands = np.repeat([[1.0, 0.0], [-1.0, 0.0]], 5, 0) + np.random.default_rng(0).normal(0, 0.01, (10, 2))
    labels = np.zeros((10, 2))
    labels[0, 0] = labels[1, 1] = 1
    soft = spread_labels(two_islands, labels, Settings(neighbours=2))
    assert soft[5:] == pytest.approx(0.5, abs=0.01)


def test_unlabeled_units_help_where_a_probe_has_too_few_labels(problem):
    """Two clusters in a few of 20 dimensions: sixty units show them, two labels do not. Mean over ten draws."""
    rng = np.random.default_rng(2)
    label = np.arange(60) % 2
    features = rng.normal(size=(60, 20)) * 0.6
    features[:, :4] += np.where(label[:, None] == 1, 1.0, -1.0)
    right = {"propagate": [], "probe": []}
    for draw in range(10):
        train = np.array([2 * draw, 2 * draw + 1])
        few = {"train": train, "truth": label[train], "features": lambda: features.astype(np.float32)}
        for name, settings in (("propagate", {"neighbours": 5}), ("probe", {})):
            logits = problem.predict(name, settings, **few)
            right[name].append((logits.argmax(1) == label[30:]).mean())
    assert np.mean(right["propagate"]) > 0.95 and np.mean(right["probe"]) < 0.9


def test_test_units_take_no_part(problem):
    changed = problem().features().copy()
    changed[31:] += 100
    first = problem.predict("propagate")[0]
    assert np.allclose(first, problem.predict("propagate", features=lambda: changed)[0])
