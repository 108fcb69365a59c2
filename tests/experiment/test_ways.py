"""The way of an arm follows from its config: all eight, several at once, and none."""

import pytest

from medssl.config import Experiment
from medssl.experiment.ways import ALONE, arm_ways, ways_table

RAW = {
    "name": "ways",
    "cohort": {"name": "ours", "source": "x"},
    "target": {"name": "tumour"},
    "others": {
        "weak": {"target": {"name": "report"}, "classes": {"pos": "yes", "neg": "no"}},
        "side": {"target": {"name": "side"}},
        "site": {"cohort": {"name": "theirs", "source": "y"}},
        "renamed": {"cohort": {"name": "theirs", "source": "y"}, "target": {"name": "mass"}, "classes": {"m": "yes"}},
        "nodule": {"cohort": {"name": "theirs", "source": "y"}, "target": {"name": "nodule"}},
    },
    "pretraining": {
        "simclr": {"task": "simclr"},
        "imagenet_simclr": {"task": "simclr", "weights": "imagenet"},
        "simclr_there": {"task": "simclr", "other": "nodule"},
        "weak_first": {"task": "supervised", "other": "weak"},
        "side_first": {"task": "supervised", "other": "side"},
        "site_first": {"task": "supervised", "other": "site"},
        "nodule_first": {"task": "supervised", "other": "nodule"},
    },
}
CASES = [
    ({"pretrain": "weak_first"}, ["same task, same domain, in sequence"]),
    ({"strategy": "distill"}, ["same task, same domain, in sequence"]),
    ({"strategy": "pseudo_labels"}, ["same task, same domain, in sequence"]),
    ({"strategy": "propagate"}, ["same task, same domain, in sequence"]),
    ({"pretrain": "site_first"}, ["same task, other domain, in sequence"]),
    ({"pretrain": "simclr"}, ["other task, same domain, in sequence"]),
    ({"pretrain": "side_first"}, ["other task, same domain, in sequence"]),
    ({"pretrain": "simclr_there"}, ["other task, other domain, in sequence"]),
    ({"pretrain": "nodule_first"}, ["other task, other domain, in sequence"]),
    ({"init": "imagenet"}, ["other task, other domain, in sequence"]),
    ({"init": "imagenet_to_2"}, ["other task, other domain, in sequence"]),
    ({"init": "elsewhere.safetensors"}, ["other task, other domain, in sequence"]),
    ({"strategy": "fixmatch"}, ["same task, same domain, jointly"]),
    ({"strategy": "mean_teacher"}, ["same task, same domain, jointly"]),
    ({"jointly": "weak", "strategy": "joint"}, ["same task, same domain, jointly"]),
    ({"jointly": "site", "strategy": "joint"}, ["same task, other domain, jointly"]),
    ({"jointly": "renamed", "strategy": "joint"}, ["same task, other domain, jointly"]),
    ({"strategy": "s4l"}, ["other task, same domain, jointly"]),
    ({"strategy": "sla"}, ["other task, same domain, jointly"]),
    ({"jointly": "side", "strategy": "joint"}, ["other task, same domain, jointly"]),
    ({"jointly": "nodule", "strategy": "joint"}, ["other task, other domain, jointly"]),
    (
        {"pretrain": "imagenet_simclr", "strategy": "pseudo_labels"},
        [
            "other task, other domain, in sequence",
            "other task, same domain, in sequence",
            "same task, same domain, in sequence",
        ],
    ),
    (
        {"pretrain": "simclr", "jointly": "site", "strategy": "joint"},
        ["other task, same domain, in sequence", "same task, other domain, jointly"],
    ),
    ({}, []),
    ({"strategy": "finetune"}, []),
    ({"init": "imagenet_mean_var"}, []),
    ({"encoder": "pixels"}, []),
]


def experiment(**arms):
    return Experiment.model_validate({**RAW, "arms": arms, "baseline": [next(iter(arms))]})


@pytest.mark.parametrize(("arm", "expected"), CASES)
def test_the_way_follows_from_the_config(arm, expected):
    config = experiment(arm=arm)
    assert [str(way) for way in arm_ways(config.arms["arm"], config)] == expected


def test_all_eight_are_among_the_cases():
    assert len({way for _, ways in CASES for way in ways}) == 8


def test_a_file_that_says_that_it_learnt_our_scans_is_of_the_same_domain():
    config = experiment(arm={"init": "mine.safetensors"})
    (way,) = arm_ways(config.arms["arm"], config, {"mine.safetensors": "ours"})
    assert str(way) == "other task, same domain, in sequence" and "ours" in way.source


def test_the_table_says_it_in_words_and_counts_other_labels_once():
    arms = {
        "alone": {"strategy": "finetune"},
        "both": {"pretrain": "site_first", "jointly": "site", "strategy": "joint"},
        "two": {"pretrain": "nodule_first", "jointly": "side", "strategy": "joint"},
    }
    others = {"site": {"labels": 624}, "nodule": {"labels": 10}, "side": {"labels": 7}}
    table = ways_table(experiment(**arms), others).set_index("arm")
    assert table.loc["alone"].tolist() == [ALONE, "", 0]
    assert table.loc["both", "way"] == "same task, other domain, in sequence; then same task, other domain, jointly"
    assert table.loc["both", "source"] == "labels of tumour in theirs; then labels of tumour in theirs"
    assert table["other_labels"].tolist() == [0, 624, 17]
