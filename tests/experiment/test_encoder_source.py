"""Where an arm's encoder comes from: its heads come along, and a strategy that needs more than there is says so."""

import pytest
import torch

from medssl.config import Experiment, load_experiment, validate
from medssl.encoders import create_encoder, save_checkpoint
from medssl.errors import UserError
from medssl.experiment import run
from medssl.experiment.job import EncoderSource
from medssl.experiment.runner import preview
from medssl.transfer import strategy


def test_heads_come_from_a_checkpoint_however_it_is_named(tmp_path):
    head = torch.nn.Linear(256, 4)
    file = save_checkpoint(tmp_path / "c.safetensors", create_encoder("small"), {"projection": head})
    pretrained = EncoderSource("small", "checkpoint", 1, 2, file)
    by_file = EncoderSource("small", str(file), 1, 2)
    for source in (pretrained, by_file):
        assert torch.equal(source.heads()["projection"]["weight"], head.weight)
    assert EncoderSource("small", "random", 1, 2).heads() == {}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"name": "finetune", "freeze": 9}, r"has no stage 9(.|\n)*from 0 to 4"),
        ("from_projection", "no checkpoint with a projection head"),
        ({"name": "distill", "teacher": {"name": "finetune", "freeze": 9}}, "has no stage 9"),
        ({"name": "distill", "student": "smal"}, "unknown"),
        ({"name": "pseudo_labels", "predictor": "from_projection"}, "no checkpoint with a projection head"),
        ({"name": "pseudo_labels", "predictor": "joint"}, "'joint' learns other labels too, which 'pseudo_labels' has"),
        ({"name": "distill", "teacher": {"freeze": 2}}, r"do not say of which strategy(.|\n)*Add name"),
    ],
)
def test_what_an_arm_cannot_give_is_said_before_any_job(tiny_config, workspace, asked, says):
    path = tiny_config(pretraining={}, arms={"only": {"strategy": asked}}, baseline="only", claim=None)
    with pytest.raises(UserError, match=says):
        run(load_experiment(path), workspace)
    assert not list(workspace.experiment("tiny").glob("results/*.parquet"))


def test_rotation_of_padded_images_is_refused_before_any_job(tiny_config, workspace):
    arms = {"only": {"strategy": "s4l"}}
    path = tiny_config(pretraining={}, arms=arms, baseline="only", claim=None, view={"size": 32, "fit": "pad"})
    with pytest.raises(UserError, match="black bars of a padded image"):
        run(load_experiment(path), workspace)
    assert not list(workspace.experiment("tiny").glob("results/*.parquet"))


def test_what_is_fitted_inside_decides_as_well_whether_jobs_are_new():
    assert strategy("distill", {"teacher": "s4l"}).rooms == strategy("s4l").rooms == ("pretext",)
    assert strategy("distill").rooms == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"arms": {"random": {"encoder": "small", "init": "imagnet"}}},
            r"arms\.random\.init: .*no weights 'imagnet'",
        ),
        (
            {"arms": {"random": {"encoder": "tf_efficientnet_lite0", "init": "imagnet"}}},
            r"arms\.random\.init: unknown weights(.|\n)*Did you mean 'imagenet'",
        ),
        ({"arms": {"random": {"encoder": "smal"}}}, r"arms\.random\.encoder: .*'smal'"),
        (
            {"pretraining": {"simclr": {"task": "simclr", "weights": "imagnet", "steps": 6}}},
            r"pretraining\.simclr\.weights",
        ),
    ],
)
def test_a_name_that_is_none_is_said_before_anything_is_pretrained(tiny_raw, workspace, changes, says):
    arms = {"simclr": {"pretrain": "simclr"}} | changes.get("arms", {})
    own = {"arms": arms, "baseline": ["simclr"], "claim": None}
    raw = tiny_raw | changes | own
    for start in (preview, run):
        with pytest.raises(UserError, match=says):
            start(validate(Experiment, raw, "tiny"), workspace)
    assert not list(workspace.path.glob("encoders/*"))
