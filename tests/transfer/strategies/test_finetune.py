import numpy as np
import pytest

from medssl.errors import UserError
from medssl.transfer.network import schedule

SHORT = {"min_steps": 40, "batch": 16}


def test_it_learns_texture_from_random_weights(problem):
    logits = problem.predict("finetune", SHORT)
    assert logits.shape == (30, 2)
    assert (logits.argmax(1) == problem.label[30:]).mean() > 0.9


def test_the_seed_decides_everything(problem):
    few = {"min_steps": 4, "batch": 16}
    first, again = (problem.predict("finetune", few) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, problem.predict("finetune", few, seed=4))


def test_the_arms_encoder_is_what_is_trained(problem):
    made = []

    def encoder(seed):
        from medssl.encoders import create_encoder

        made.append(create_encoder("small", seed=seed))
        made.append({k: v.clone() for k, v in made[0].state_dict().items()})
        return made[0]

    problem.predict("finetune", {"min_steps": 2, "batch": 16}, encoder=encoder)
    after = made[0].state_dict()
    assert not any((made[1][k] == after[k]).all() for k in after if k.endswith("conv1.weight"))


def test_schedule_warms_up_and_ends_near_zero():
    rates = [schedule(s, 50) for s in range(50)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == 1 and rates[-1] < 0.01
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_images_that_shrink_to_a_single_point_are_refused(problem):
    """There torch's convolutions of stride 2 have no gradient in bf16 on a CPU."""
    small = problem()
    with pytest.raises(
        UserError, match=r"single point to the last stage of 'small'.*finetuning needs 9(.|\n)*9 or more"
    ):
        problem.predict("finetune", SHORT, images=small.images[:, :, :8, :8])
    few = {"min_steps": 2, "batch": 16}
    assert np.isfinite(problem.predict("finetune", few, images=small.images[:, :, :9, :9])).all()


def test_volumes_are_finetuned_too(problem):
    """Channels-last in 2-D and 3-D are different layouts; the one on the other's tensors is an error."""
    from medssl.encoders import create_encoder

    def volumes(seed):
        return create_encoder("small", 3, seed=seed)

    images = np.repeat(problem().images[:, :, None, ::2, ::2], 16, axis=2)
    few = {"min_steps": 2, "batch": 8}
    assert np.isfinite(problem.predict("finetune", few, images=images, encoder=volumes)).all()


def test_it_learns_what_a_frozen_random_encoder_does_not_show(faint):
    assert faint("probe") < 0.75
    assert faint("finetune", {"min_steps": 40, "batch": 16, "epochs": 1}) > 0.85
    assert faint("finetune", {"min_steps": 40, "batch": 16, "epochs": 1, "freeze": 1}) > 0.85


def test_frozen_stages_stay_with_their_batch_norm(problem):
    from medssl.encoders import create_encoder
    from medssl.transfer import strategy

    before, stages = create_encoder("small", seed=3).state_dict(), create_encoder("small").in_stages()
    fitted = strategy("finetune", {"min_steps": 2, "batch": 16, "epochs": 0.1, "freeze": 2}).fit(problem())
    after = fitted.encoder.state_dict()
    for stage in stages[:3]:
        assert all((before[name] == after[name]).all() for name in stage.tensors)
    for stage in stages[3:]:
        assert not any((before[name] == after[name]).all() for name in stage.tensors)


def test_a_stage_that_the_encoder_does_not_have_is_refused(problem):
    with pytest.raises(UserError, match=r"strategy.freeze: 'small' has no stage 5(.|\n)*from 0 to 4"):
        problem.predict("finetune", SHORT | {"freeze": 5})
