"""Strategies train wholly on the job's device, tried on a pretended GPU."""

from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, pretended

from medssl.pretext.simclr import projection_head
from medssl.transfer import OtherLabels, strategies, strategy, target_kind, unlabeled

SHORT = {"min_steps": 5, "epochs": 0.1, "batch": 4}
POOL = {**SHORT, "unlabeled": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["finetune", "from_projection", "gradual", "head_first", "sla"], SHORT),
    **dict.fromkeys(["fixmatch", "mean_teacher", "s4l"], POOL),
    "distill": {**POOL, "labeled": 0.5, "teacher": {"name": "finetune", **SHORT}},
    "joint": {**SHORT, "others": 4},
    "pseudo_labels": {"predictor": {"name": "finetune", **SHORT}, "threshold": 0.5},
}
VARIANTS = [
    *SETTINGS.items(),
    ("distill", {**POOL, "teacher": "prototypes", "student": "small_narrow"}),
    ("s4l", {**POOL, "task": "exemplar"}),
    ("sla", {**SHORT, "predictor": "distilled"}),
]


def test_every_strategy_that_trains_is_tried():
    assert {name for name in strategies() if not strategy(name).frozen} == set(SETTINGS)


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_training_stays_on_the_device(problem, name, settings):
    own = problem()
    others = OtherLabels(None, own.images, np.arange(40), np.arange(40) % 2, "OT")
    heads = {"projection": projection_head(256, 48, 32).state_dict()}
    changes = {"others": others, "heads": lambda: heads, "target": own.target.weighed(own.truth)}
    given = problem(device=GPU, **changes)
    with pretended() as gpu:
        fitted = strategy(name, settings).fit(given)
        assert fitted.encoder is not None and all(tensor in gpu for tensor in fitted.encoder.state_dict().values())
        logits = unlabeled.predict(given, fitted, np.arange(30, 60))
    on_the_cpu = strategy(name, settings).fit(problem(**changes))
    np.testing.assert_array_equal(logits, unlabeled.predict(given, on_the_cpu, np.arange(30, 60)))


@pytest.mark.parametrize("imbalance", ["balanced", "focal"])
@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("classification", ["no", "yes"]),
        ("multilabel", ["effusion", "effusion|nodule", "no finding"]),
        ("ordinal", ["1", "2", "3"]),
    ],
)
def test_losses_stay_on_the_device(gpu, kind, labels, imbalance):
    target = target_kind(kind, labels, {"imbalance": imbalance})
    truth = target.encode(labels)
    logits = torch.zeros(len(labels), target.outputs, device=GPU)
    assert target.taught(truth).loss(logits, torch.as_tensor(truth).to(GPU)) in gpu


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_the_loss_of_a_number_stays_on_the_device(gpu, loss):
    target = target_kind("regression", ["1", "2", "4"], {"loss": loss})
    assert target.loss(torch.zeros(3, 1, device=GPU), torch.as_tensor(target.encode(["1", "2", "4"])).to(GPU)) in gpu
