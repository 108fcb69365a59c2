import pytest

from medssl.errors import UserError
from medssl.transfer import make_head, strategies, strategy, target_kind, target_kinds


def test_files_are_found_by_name():
    assert {"probe", "ridge", "neighbours", "prototypes", "finetune"} <= set(
        strategies()
    ) and "classification" in target_kinds()
    for name in strategies():
        assert isinstance(strategy(name).frozen, bool)


def test_unknown_names_and_settings_name_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'probe'"):
        strategy("prob")
    with pytest.raises(UserError, match="Did you mean 'learning_rate'"):
        strategy("finetune", {"learning_rat": 1})
    with pytest.raises(UserError, match="unknown kind of target"):
        target_kind("clasification", ["a", "b"])


def test_a_head_is_made_again_from_its_kind_and_tensors():
    import torch

    from medssl.transfer.fitted import LinearHead

    rng = torch.Generator().manual_seed(0)
    head = LinearHead(torch.randn(3, 5, generator=rng), torch.ones(3), torch.ones(5), 2 * torch.ones(5))
    x = torch.randn(4, 5, generator=rng)
    assert torch.equal(make_head("linear", head.state_dict())(x), head(x))
    with pytest.raises(UserError, match=r"Known: .*linear"):
        make_head("linaer", head.state_dict())
    with pytest.raises(UserError, match="not the tensors of a head"):
        make_head("linear", {"slope": torch.ones(1)})
