import pytest

from medssl.errors import UserError
from medssl.transfer import strategies, strategy, target_kind, target_kinds


def test_files_are_found_by_name():
    assert {"probe", "ridge", "neighbours", "prototypes", "finetune"} <= set(strategies())
    assert "classification" in target_kinds()
    for name in strategies():
        assert isinstance(strategy(name).frozen, bool)


def test_unknown_names_and_settings_name_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'probe'"):
        strategy("prob")
    with pytest.raises(UserError, match="Did you mean 'learning_rate'"):
        strategy("finetune", {"learning_rat": 1})
    with pytest.raises(UserError, match="unknown kind of target"):
        target_kind("clasification", ["a", "b"])
