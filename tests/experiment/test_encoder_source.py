"""Where an arm's encoder comes from: its heads come along, and a strategy that needs more than there is says so."""

import pytest
import torch

from medssl.config import load_experiment
from medssl.encoders import create_encoder, save_checkpoint
from medssl.errors import UserError
from medssl.experiment import run
from medssl.experiment.job import EncoderSource


def test_heads_come_from_a_checkpoint_however_it_is_named(tmp_path):
    head = torch.nn.Linear(256, 4)
    file = save_checkpoint(tmp_path / "c.safetensors", create_encoder("small"), {"projection": head})
    pretrained = EncoderSource("small", "checkpoint", 1, 2, file)
    by_file = EncoderSource("small", str(file), 1, 2)
    for source in (pretrained, by_file):
        assert torch.equal(source.heads()["projection"]["weight"], head.weight)
    assert EncoderSource("small", "random", 1, 2).heads() == {}


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ({"name": "finetune", "freeze": 9}, r"has no stage 9(.|\n)*from 0 to 4"),
        ("from_projection", "no checkpoint with a projection head"),
    ],
)
def test_what_an_arm_cannot_give_is_said_before_any_job(tiny_config, workspace, strategy, says):
    path = tiny_config(pretraining={}, arms={"only": {"strategy": strategy}}, baseline="only", claim=None)
    with pytest.raises(UserError, match=says):
        run(load_experiment(path), workspace)
    assert not list(workspace.experiment("tiny").glob("results/*.parquet"))
