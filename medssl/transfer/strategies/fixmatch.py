"""FixMatch (Sohn 2020, arXiv:2001.07685): where the network is sure of a weak view of an unlabeled scan, it should say
the same of a strong view.

- Weak: a crop of at least four fifths, and flips where the modality allows them (the paper flips, and shifts by 1/8).
- Strong: the modality's preset with its changes doubled, and cutout. Many of the changes in the paper's RandAugment are
  of colour (solarise, posterise, equalise, colour balance): a gray scan has none, and its gray values mean something.
- Labeled scans are seen as in finetuning, not weakly as in the paper: a handful is learnt by heart within few steps.
- Scaled down (see `PoolRecipe`): 24 unlabeled images beside 16 labeled ones for a hundred steps, where the paper takes
  7 times as many unlabeled as labeled for 2^20. The last weights predict, not their average, as the rate ends at zero.
- In the last fifth of the steps every view is the whole image (`network.view`), weak and strong alike: what the network
  is sure of it is taught as a pseudo-label.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from medssl.augment import Views
from medssl.config import register
from medssl.transfer.fitted import Fitted
from medssl.transfer.network import RATES, Batch, Group, train, views_of
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.unlabeled import Network, Pool, PoolRecipe, need_classes, seeded

WEAK_CROP = 0.8
SHARES = ("brightness", "noise", "blur", "window")  # changes that are at most 1
FACTORS = ("contrast", "gamma", "colour", "bias_field")


class Settings(PoolRecipe):
    """
    Attributes:
        threshold: only what the network gives this probability on the weak view counts; the paper's.
        weight: of the unlabeled loss; the paper's.
        strength: the preset's changes times this are the strong view's.
        cutout: largest share of the area that a strong view hides: the paper's box has half the side.
    """

    threshold: float = Field(0.95, ge=0, lt=1)
    weight: float = Field(1.0, ge=0)
    strength: float = Field(2.0, ge=1)
    cutout: float = Field(0.25, ge=0, le=1)


class FixMatch(Strategy):
    grid = RATES
    beside = ("same", "jointly")
    of_classes = True

    def images_a_step(self, labeled: int) -> float:
        return labeled + self.settings.unlabeled * 4 / 3  # the other view goes forwards alone

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the target has no classes, or the encoder shrinks these images to a single point.
        """
        need_classes(problem, "fixmatch")
        settings = self.settings
        with seeded(problem):
            network = Network(problem, "fixmatch")
            pool, usual = Pool(problem, settings.unlabeled), views_of(problem, settings)
            weakly, strongly = weak(usual), strong(usual, settings.strength, settings.cutout)

            def loss(batch: Batch) -> Tensor:
                unlabeled = pool.draw(batch)
                changed = batch.view(unlabeled.images, strongly, unlabeled.generator.beside())
                with torch.no_grad():
                    guess = network(batch.view(unlabeled.images, weakly, unlabeled.generator))
                labeled, said = network(torch.cat([batch.images, changed])).tensor_split([len(batch.truth)])
                same = agreement(guess, said, settings.threshold)
                return problem.target.loss(labeled, batch.truth) + settings.weight * same

            train(problem, settings, [Group(list(network.parameters()))], loss)
        return network.fitted()


def agreement(weak: Tensor, strong: Tensor, threshold: float) -> Tensor:
    """Cross entropy of the strong views' logits (N, C) with the class of the weak ones (N, C), over those whose class
    reaches the threshold, divided by N; the weak ones get no gradient (equation 4)."""
    height, guess = weak.detach().softmax(1).max(1)
    return ((height >= threshold) * F.cross_entropy(strong, guess, reduction="none")).mean()


def weak(usual: Views) -> Views:
    """Flips and a slight crop."""
    return Views(crop=(WEAK_CROP, 1.0), flip=usual.flip, flip_vertical=usual.flip_vertical)


def strong(usual: Views, strength: float, cutout: float) -> Views:
    """The usual changes, `strength` times as large, and a hidden box; the crop stays, lest the finding is cut off."""
    values = {name: min(1.0, strength * getattr(usual, name)) for name in SHARES}
    values |= {name: strength * getattr(usual, name) for name in FACTORS}
    return usual.model_copy(
        update={**values, "rotation": min(180.0, strength * usual.rotation), "cutout": cutout},
    )


STRATEGY = FixMatch
register("strategy", "fixmatch", Settings)
