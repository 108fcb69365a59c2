"""What only a run would find out about the shipped configs: that strategies, their settings and encoders exist."""

import pytest

from medssl.config import load_experiment, shipped_configs
from medssl.encoders import create_encoder
from medssl.experiment.plan import encoder_label
from medssl.experiment.tuning import recipes

NAMES = sorted({path.stem for folder in shipped_configs() for path in folder.glob("*.yaml")})


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_has_a_strategy_that_takes_its_settings(name):
    config = load_experiment(name)
    for arm in config.arms:
        assert len(recipes(arm, config.arms[arm], config.tuning)) == (config.tuning.trials if config.tuning else 1)


def test_bigger_encoders_differ_in_their_size_alone_and_the_largest_teaches_the_smallest():
    config = load_experiment("bigger")
    recipe = {name: run.model_dump(exclude={"encoder"}) for name, run in config.pretraining.items()}
    assert all(one == recipe["narrow"] for one in recipe.values())
    sizes = {
        name: sum(p.numel() for p in create_encoder(run.encoder).parameters())
        for name, run in config.pretraining.items()
    }
    assert len(set(sizes.values())) == 5
    taught = config.arms["narrow_from_largest"]
    assert taught.pretrain == max(sizes, key=sizes.get)
    assert encoder_label(taught, config) == encoder_label(config.arms["narrow"], config) == ("small_narrow", 64)
    assert taught.strategy_settings["student"] == config.pretraining[min(sizes, key=sizes.get)].encoder
