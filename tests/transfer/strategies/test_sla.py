import numpy as np
import pytest
import torch
from torch import nn

from medssl.encoders import create_encoder
from medssl.encoders.rotated import FourRotations, rotations
from medssl.errors import UserError
from medssl.transfer import strategy
from medssl.transfer.strategies.sla import aggregate, aggregated, joint_labels

FEW = {"min_steps": 2, "batch": 4, "epochs": 0.1}


def test_the_aggregate_is_the_mean_over_rotations_by_a_slow_loop(problem):
    encoder, joint = create_encoder("small", seed=2), nn.Linear(256, 3 * 4)
    images = problem().images[:5]
    x = torch.from_numpy(images).float() / 255
    with torch.inference_mode():
        wanted = torch.zeros(5, 3)
        for n in range(5):
            for c in range(3):
                for k in range(4):
                    turned = torch.rot90(x[n : n + 1], k, (2, 3))
                    wanted[n, c] += joint(encoder.embed(turned))[0, c * 4 + k] / 4
        found = aggregate(joint(encoder.embed(rotations(x))))
    assert torch.allclose(found, wanted, atol=1e-5)
    fitted = aggregated(encoder, joint)
    logits = fitted.logits(fitted.embed(images, np.arange(5), np.arange(5)))
    assert np.allclose(logits, wanted.numpy(), atol=1e-4)


def test_joint_labels_name_class_and_rotation_in_the_order_of_the_images():
    labels = joint_labels(torch.tensor([2, 0]))
    assert labels.tolist() == [8, 0, 9, 1, 10, 2, 11, 3]


def test_the_distilled_predictor_sees_the_upright_image_alone(problem):
    both = {name: strategy("sla", {**FEW, "predictor": name}).fit(problem()) for name in ("aggregated", "distilled")}
    assert isinstance(both["aggregated"].encoder, FourRotations)
    assert both["distilled"].encoder.name == "small" and not isinstance(both["distilled"].encoder, FourRotations)
    images = problem().images[:4]
    turned = np.rot90(images, 1, (2, 3))
    apart = {}
    for name, fitted in both.items():
        one, other = (fitted.embed(np.ascontiguousarray(x), np.arange(4), np.arange(4)) for x in (images, turned))
        apart[name] = np.allclose(np.sort(one, 1), np.sort(other, 1), atol=1e-4)
    assert apart == {"aggregated": True, "distilled": False}  # the same four embeddings, in another order


def test_images_that_are_not_square_are_refused(problem):
    with pytest.raises(UserError, match="32 x 24 pixels are no square"):
        problem.predict("sla", FEW, images=problem().images[..., :24])
