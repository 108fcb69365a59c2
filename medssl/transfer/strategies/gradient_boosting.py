"""Gradient boosting: the encoder stays frozen, shallow trees on its features are added up (Friedman 2001, "Greedy
function approximation"), each correcting the ones before.

scikit-learn's histogram trees, set for few labels: by default a leaf needs 20 units, so that 2 to 10 labels a class
would allow no split at all. Here two are enough, and what so small a leaf says is held back by the penalty: with
penalty 1 (XGBoost's own; Chen and Guestrin 2016) its two units, each of which adds a quarter or less to the curvature,
count a third. Every split sees a tenth of the features, drawn by the job's seed, so that many trees read many features
where a handful of units could be parted by almost any of them. All trees are kept: there are no units to stop early on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from medssl.config import Strict, register
from medssl.errors import UserError
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import NEVER, TreesHead
from medssl.transfer.problem import Problem, Strategy
from medssl.transfer.unlabeled import need_classes


class Settings(Strict):
    """
    Attributes:
        rounds: of boosting; each adds one tree, or one a class where there are more than two.
        learning_rate: share of each tree that is added.
        depth: of a tree; 3 lets three features act together.
        smallest_leaf: labeled units in a leaf, at least; one where a class has a single label.
        penalty: of the squared values of the leaves.
        features: share that a split may choose from.
    """

    rounds: int = Field(100, ge=1)
    learning_rate: float = Field(0.1, gt=0, le=1)
    depth: int = Field(3, ge=1)
    smallest_leaf: int = Field(2, ge=1)
    penalty: float = Field(1.0, ge=0)
    features: float = Field(0.1, gt=0, le=1)


class GradientBoosting(Strategy):
    frozen = True
    of_classes, by_loss = True, False
    grid = ({"depth": 1}, {"learning_rate": 0.03, "rounds": 300}, {"smallest_leaf": 5})

    def fit(self, problem: Problem) -> Fitted:
        """See `Strategy.fit`.

        Raises:
            UserError: the target has no classes, or all labels are of one.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        need_classes(problem, "gradient_boosting")
        present, counts = np.unique(problem.truth, return_counts=True)
        if len(present) < 2:
            fix = "Ask for more labels, or for a number of each class (per: class)."
            raise UserError("all labeled units of a draw are of one class", "budgets", fix)
        settings = self.settings
        model = HistGradientBoostingClassifier(
            learning_rate=settings.learning_rate,
            max_iter=settings.rounds,
            max_leaf_nodes=None,
            max_depth=settings.depth,
            min_samples_leaf=min(settings.smallest_leaf, int(counts.min())),
            l2_regularization=settings.penalty,
            max_features=settings.features,
            early_stopping=False,
            random_state=problem.seed,
        )
        with threadpool_limits(1):  # so little is computed that threads would only wait for each other
            model.fit(problem.features()[problem.train], problem.truth)
        return Fitted(as_head(model, present, problem.target.outputs))


def as_head(model: Any, present: np.ndarray, outputs: int) -> TreesHead:
    """The same function of float32 features as tensors, which a file can hold without pickle.

    Args:
        model: a fitted HistGradientBoostingClassifier.
        present: (K,) which of the classes it was fitted on, in order.
        outputs: number of classes; those without a label are never said.
    """
    columns = len(present) if len(present) > 2 else 1  # two classes share one row of log odds
    trees = [tree.nodes for one_round in model._predictors for tree in one_round]
    most = max(map(len, trees))
    parts = {name: np.zeros((len(trees), most)) for name in ("feature", "threshold", "left", "right", "value")}
    for row, nodes in enumerate(trees):
        leaf, own, places = nodes["is_leaf"].astype(bool), slice(len(nodes)), np.arange(len(nodes))
        parts["feature"][row, own] = nodes["feature_idx"]
        parts["threshold"][row, own] = np.where(leaf, 0, rounded_down(nodes["num_threshold"]))
        for side in ("left", "right"):
            parts[side][row, own] = np.where(leaf, places, nodes[side])  # a leaf follows itself
        parts["value"][row, own] = nodes["value"]
    share = np.zeros((columns, outputs))
    if columns == 1:
        share[0, present] = -0.5, 0.5
    else:
        share[np.arange(columns), present] = 1
    bias = np.full(outputs, NEVER)
    bias[present] = (model._baseline_prediction.reshape(1, columns) @ share)[0, present]
    depth = max(int(nodes["depth"].max()) for nodes in trees)
    return TreesHead(**parts, share=np.tile(share, (len(trees) // columns, 1)), bias=bias, depth=depth)


def rounded_down(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 at most each number: what a float32 is compared with goes the same way as before."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


STRATEGY = GradientBoosting
register("strategy", "gradient_boosting", Settings)
