import numpy as np
import pytest
import torch

from medssl import config
from medssl.config import View
from medssl.encoders import create_encoder, embed_all
from medssl.errors import UserError
from medssl.pretext import task_class, tasks
from medssl.pretext.heads import mlp
from medssl.pretext.simclr import projection_head
from medssl.transfer import strategy
from medssl.transfer.strategies.from_projection import TASKS, as_head, first_layers

SHORT = {"min_steps": 40, "batch": 16, "epochs": 1}


def pretrained(inputs=256, hidden=48):
    """A projection head that has seen data, so that its norms have statistics of their own."""
    torch.manual_seed(0)
    head = projection_head(inputs, hidden, 32)
    for _ in range(20):
        head(2 + torch.rand(16, inputs))
    return head.eval()


def heads(head):
    return lambda: {"projection": head.state_dict()}


def test_it_learns_what_a_frozen_random_encoder_does_not_show(faint):
    assert faint("from_projection", SHORT | {"learning_rate": 2e-3}, heads=heads(pretrained())) > 0.85


@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_layers_of_the_projection_stay_below_the_classifier(problem, layers):
    """Where no step moves anything, what the classifier is given is what those layers gave."""
    head, few = pretrained(), {"min_steps": 1, "batch": 16, "epochs": 0.01, "learning_rate": 1e-12, "layers": layers}
    fitted = strategy("from_projection", few).fit(problem(heads=heads(head)))
    x = 2 + torch.rand(8, 256)
    kept = first_layers({"projection": head.state_dict()}, layers).eval()
    with torch.no_grad():
        assert torch.allclose(kept(x), head[: 3 * layers](x), atol=1e-6)
    held = fitted.head.state_dict()
    assert fitted.head.layers == layers + 1
    assert held["weight0"].shape == (48, 256) and held[f"weight{layers}"].shape == (2, 48)
    own = head[0].weight / head[0].weight.norm(dim=1, keepdim=True)  # the norm, folded in, scales each row
    assert (held["weight0"] / held["weight0"].norm(dim=1, keepdim=True) * own).sum(1).abs().min() > 0.999


def test_projection_and_encoder_are_trained(problem):
    head, few = pretrained(), {"min_steps": 3, "batch": 16, "epochs": 0.01}
    fitted = strategy("from_projection", few).fit(problem(heads=heads(head)))
    own, held = head[0].weight, fitted.head.weight0
    assert (torch.cosine_similarity(own, held, dim=1).abs() < 0.99999).any()
    before, after = create_encoder("small", seed=3).state_dict(), fitted.encoder.state_dict()
    assert not any((before[name] == after[name]).all() for name in before if name.endswith("conv1.weight"))


def test_the_head_that_is_left_is_the_trained_one():
    """Norms folded into their linear layers; rebuilt from its tensors it is the same."""
    for head in (pretrained(6, 5), torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))):
        trained = first_layers({"projection": head.state_dict()}, 1).append(torch.nn.Linear(5, 2)).eval()
        folded = as_head(trained)
        x = torch.randn(7, 6)
        with torch.no_grad():
            assert torch.allclose(folded(x), trained(x), atol=1e-5)
            assert torch.equal(type(folded)(**folded.state_dict())(x), folded(x))


@pytest.mark.parametrize(
    ("given", "layers", "says"),
    [
        ({}, 1, r"no checkpoint with a projection head(.|\n)*simclr"),
        ({"projection": torch.nn.Linear(4, 3).state_dict()}, 1, "no checkpoint with a projection head"),
        ({"projection": mlp(256, 8, 4, 2, last_norm=False).state_dict()}, 2, r"has 2 layers(.|\n)*from 1 to 1"),
    ],
)
def test_an_arm_without_such_a_head_is_refused(problem, given, layers, says):
    method = strategy("from_projection", {"layers": layers})
    with pytest.raises(UserError, match=says):
        method.check(create_encoder("small"), given)
    with pytest.raises(UserError, match=says):
        method.fit(problem(heads=lambda: given))


def test_the_tasks_named_are_those_that_have_a_projection_head():
    found = []
    for name, kind in tasks().items():
        encoder = create_encoder("small_vit" if kind.needs_tokens else "small", in_channels=1)
        try:
            task = task_class(name)(encoder, config.settings_for("task", name, {}), View(size=32))
            first_layers({key: head.state_dict() for key, head in task.heads().items()}, 1)
        except UserError:
            continue
        found.append(name)
    assert sorted(TASKS) == sorted(found)


def test_head_scores_the_mean_embedding_of_a_unit(problem):
    fitted = strategy("from_projection", {"min_steps": 1, "batch": 16, "epochs": 0.01}).fit(
        problem(heads=heads(pretrained()))
    )
    given = problem()
    unit = embed_all(fitted.encoder, given.images[:2]).mean(0, keepdims=True)
    scored = fitted.logits(fitted.embed(given.images, given.unit_of, np.array([0])))
    assert scored == pytest.approx(fitted.logits(unit), abs=1e-5)
