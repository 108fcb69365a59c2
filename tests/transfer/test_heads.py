import numpy as np
import pytest
import torch

from medssl.errors import UserError
from medssl.transfer.heads import HEADS as KINDS
from medssl.transfer.heads import CosineHead, LayeredHead, LinearHead, NeighboursHead, TreesHead, make_head

RNG = np.random.default_rng(0)
MEAN, STD = RNG.normal(size=5), RNG.uniform(0.5, 2, 5)
WEIGHT, BIAS = RNG.normal(size=(3, 5)), RNG.normal(size=3)
EXAMPLES = np.linalg.qr(RNG.normal(size=(5, 5)))[0][:4]
VOTES = np.eye(3)[[0, 1, 1, 2]]
HEADS = [
    LinearHead(WEIGHT, BIAS, MEAN, STD),
    CosineHead(WEIGHT, BIAS, MEAN, STD),
    NeighboursHead(EXAMPLES, VOTES, MEAN, STD, 3, 0.5),
    TreesHead(
        feature=[[1, 0, 4, 0, 0], [2, 0, 0, 0, 0]],
        threshold=[[0.2, 0, -0.5, 0, 0], [0.1, 0, 0, 0, 0]],
        left=[[1, 1, 3, 3, 4], [1, 1, 2, 0, 0]],
        right=[[2, 1, 4, 3, 4], [2, 1, 2, 0, 0]],
        value=[[0, 1, 0, 2, 4], [0, 8, 16, 0, 0]],
        share=[[1, 0, 0], [0, -1, 1]],
        bias=[100, 0, 0],
        depth=2,
    ),
    LayeredHead(weight0=torch.randn(4, 5), bias0=torch.ones(4), weight1=torch.randn(3, 4), bias1=torch.ones(3)),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_a_head_is_made_again_from_its_tensors_or_their_shapes(head):
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    state = head.state_dict()
    assert not list(head.parameters()) and torch.equal(type(head)(**state)(x), head(x))
    empty = type(head)(**{name: torch.zeros(value.shape) for name, value in state.items()})
    empty.load_state_dict(state)
    assert torch.equal(empty(x), head(x)) and head(x).shape == (7, 3)


def test_a_file_of_tensors_and_a_kind_make_a_head():
    assert {head.kind for head in HEADS} == set(KINDS)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    for head in HEADS:
        assert torch.equal(make_head(head.kind, head.state_dict())(x), head(x))
    with pytest.raises(UserError, match="Did you mean 'linear'"):
        make_head("linaer", HEADS[0].state_dict())
    with pytest.raises(UserError, match="not the tensors of a head"):
        make_head("linear", {"slope": torch.ones(1)})


def test_a_linear_head_standardises():
    x = RNG.normal(size=(4, 5))
    expected = (x - MEAN) / STD @ WEIGHT.T + BIAS
    assert HEADS[0](torch.from_numpy(x).float()).numpy() == pytest.approx(expected, abs=1e-5)


def test_a_cosine_does_not_depend_on_length():
    x = torch.from_numpy(MEAN + STD * RNG.normal(size=(4, 5))).float()
    longer = HEADS[1].mean + 3 * (x - HEADS[1].mean)
    assert torch.allclose(HEADS[1](x), HEADS[1](longer), atol=1e-5)


def test_votes_are_weighted_as_in_wu():
    """By hand: three of four vote, each with exp(cosine / temperature)."""
    x = RNG.normal(size=(6, 5))
    unit = (x - MEAN) / STD
    cosine = unit / np.linalg.norm(unit, axis=1, keepdims=True) @ EXAMPLES.T
    weight = np.exp(cosine / 0.5)
    weight[np.arange(6), cosine.argmin(1)] = 0
    share = weight @ VOTES / weight.sum(1, keepdims=True)
    logits = HEADS[2](torch.from_numpy(x).float())
    assert logits.softmax(1).numpy() == pytest.approx(share, abs=1e-4)
    assert np.isfinite(logits.numpy()).all() and (share == 0).any()


def test_trees_are_walked_to_their_leaves():
    """By hand: the first tree asks for feature 1, and to its right for feature 4; the second for feature 2."""
    x = torch.tensor([[9, 0.2, 0.1, 9, 9], [9, 0.3, 0.2, 9, -0.5], [9, 0.3, 0.1, 9, 0]])
    assert HEADS[3](x).tolist() == [[101, -8, 8], [102, -16, 16], [104, -8, 8]]
