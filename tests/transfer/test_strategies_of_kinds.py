"""The strategies with targets that are not classes."""

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.transfer import OtherLabels, strategies, strategy, target_kind

BRIEF = {"min_steps": 30, "batch": 8, "epochs": 0.1}
LEARN = {
    "probe": {},
    "finetune": BRIEF,
    "head_first": BRIEF,
    "gradual": BRIEF,
    "s4l": {**BRIEF, "unlabeled": 4},
}
LABELS = {"multilabel": ["a|b", "no finding"], "ordinal": ["0", "1", "2"], "regression": ["0", "50", "100"]}


@pytest.fixture
def posed(problem):
    """of(kind) -> target and truth of all units, which the problem's two textures tell."""

    def of(kind):
        target, label = target_kind(kind, LABELS[kind]), problem.label
        truth = {
            "multilabel": np.stack([label, 1 - label], 1),
            "ordinal": 2 * label,
            "regression": 20 + 60.0 * label,
        }[kind]
        return target.taught(truth[:16]), truth

    return of


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", LEARN)
def test_each_kind_can_be_learnt(problem, posed, name, kind):
    target, truth = posed(kind)
    strategy(name, LEARN[name]).serve(target, name)
    logits = problem.predict(name, LEARN[name], target=target, truth=truth[:16])
    assert logits.shape == (30, target.outputs)
    told = target.scores(logits)
    first = told[:, 0] if kind != "ordinal" else told @ np.arange(3)
    assert np.corrcoef(first, problem.label[30:])[0, 1] > 0.5


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("same", [True, False])
def test_other_labels_of_each_kind_can_be_learnt_jointly(problem, posed, kind, same):
    """The own labels are two; what the others say is the same target, or another one beside classes."""
    target, truth = posed(kind)
    strategy("joint").serve(target, "joint")
    known, settings = problem(), {"min_steps": 40, "batch": 8, "others": 16}
    samples = np.flatnonzero(np.isin(known.unit_of, np.arange(16, 30)))
    theirs = truth[known.unit_of[samples]]
    others = OtherLabels(None if same else target.taught(theirs), known.images, samples, theirs, "OT")
    own = {"target": target.taught(truth[:2]), "truth": truth[:2]} if same else {"truth": problem.label[:2]}
    logits = problem.predict("joint", settings, train=np.arange(2), others=others, **own)
    told = own["target"].scores(logits) if same else logits[:, 1:] - logits[:, :1]
    first = told @ np.arange(3) if same and kind == "ordinal" else told[:, 0]
    assert np.corrcoef(first, problem.label[30:])[0, 1] > 0.5


def test_other_labels_are_balanced_by_their_own_frequency(problem):
    """Own labels are even, the others of the same classes are seven to one."""
    target = target_kind("classification", ["no", "yes"], {"imbalance": "balanced"})
    many = np.array([0] * 14 + [1, 1])
    assert target.taught(problem.label[:16]).weights.tolist() == [1, 1]
    assert target.taught(problem.label[:16]).weighed(many).weights == pytest.approx([16 / 28, 16 / 4])
    number = target_kind("regression", ["0", "100"]).taught(np.array([10.0, 30.0]))
    assert number.weighed(np.array([0.0, 100.0])).learnt() == {"centre": 20.0, "spread": 10.0}


@pytest.mark.parametrize("name", sorted(set(strategies()) - set(LEARN) - {"from_projection", "joint"}))
def test_strategies_of_classes_say_so_before_anything_runs(name):
    method = strategy(name)
    method.serve(target_kind("classification", ["a", "b"]), name)
    for kind in LABELS:
        with pytest.raises(UserError, match=f"arms.x: '{name}' gives each unit one of several classes"):
            method.serve(target_kind(kind, LABELS[kind]), name, "arms.x")


def test_what_learns_without_the_loss_refuses_to_weigh_rare_classes():
    balanced = target_kind("classification", ["a", "b"], {"imbalance": "balanced"})
    refused = []
    for name in strategies():
        try:
            strategy(name).serve(balanced, name)
        except UserError as error:
            assert "would not reach it" in str(error)
            refused.append(name)
    assert refused == ["gradient_boosting", "neighbours", "propagate", "prototypes", "ridge", "sla"]


def test_balancing_reaches_a_network(problem):
    """On images that tell nothing the network says how often a class is: one in eight, or balanced as often as not."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 1, 32, 32), dtype=np.uint8)
    train = np.array([*range(0, 28, 2), 1, 3])
    truth = problem.label[train]
    said = {}
    for how in ("none", "balanced"):
        target = target_kind("classification", ["no", "yes"], {"imbalance": how}).taught(truth)
        logits = problem.predict("finetune", BRIEF, target=target, truth=truth, train=train, images=noise)
        said[how] = target.scores(logits)[:, 1].mean()
    assert said["balanced"] > said["none"] + 0.1
