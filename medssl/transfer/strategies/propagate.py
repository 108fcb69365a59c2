"""Label propagation: the encoder stays frozen; the few labels spread to the unlabeled pool along its features.

"Learning with local and global consistency" (Zhou 2004): the pool's units are joined to their nearest neighbours by
cosine, F = (I - alpha S)^-1 Y spreads the labels over that graph, each class is scaled to its share of the labels
(class mass normalisation, Zhu 2003), and a ridge regression on all of the pool learns what was spread, so that new
units need no graph. Test units take no part in it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import sparse

from medssl.config import Strict, register
from medssl.transfer.features import pool_scale
from medssl.transfer.fitted import Fitted
from medssl.transfer.heads import LinearHead
from medssl.transfer.problem import Problem, Strategy

SHARPNESS = 4.0  # of the softmax over the regression's values, which lie around 0 to 1; the order within a class stays


class Settings(Strict):
    """Recipe of the propagation.

    Attributes:
        neighbours: of each unit in the graph.
        temperature: of the cosine in the weight of an edge.
        alpha: share that a unit takes from its neighbours; the rest is its own label.
        penalty: of the ridge regression, per feature dimension.
    """

    neighbours: int = Field(10, ge=1)
    temperature: float = Field(0.1, gt=0)
    alpha: float = Field(0.9, gt=0, lt=1)
    penalty: float = Field(0.8, gt=0)


class Propagate(Strategy):
    beside = ("same", "in sequence")
    frozen = True
    grid = ({"alpha": 0.5}, {"alpha": 0.99}, {"neighbours": 5})
    of_classes, by_loss = True, False

    def fit(self, problem: Problem) -> Fitted:
        from sklearn.linear_model import Ridge

        features = problem.features()
        mean, std = pool_scale(features, problem.pool)
        known = (features[problem.pool] - mean) / std
        place = {unit: i for i, unit in enumerate(problem.pool.tolist())}
        labels = np.zeros((len(known), problem.target.outputs))
        labels[[place[unit] for unit in problem.train.tolist()], problem.truth] = 1
        soft = spread_labels(known, labels, self.settings)
        model = Ridge(alpha=self.settings.penalty * known.shape[1]).fit(known, soft)
        return Fitted(LinearHead(SHARPNESS * model.coef_, SHARPNESS * model.intercept_, mean, std))


def spread_labels(features: np.ndarray, labels: np.ndarray, settings: Settings) -> np.ndarray:
    """Soft labels (P, C) of all units, rows summing to 1, from `labels` (P, C), one-hot where known and 0 elsewhere."""
    graph = neighbour_graph(features, settings.neighbours, settings.temperature)
    system = sparse.identity(len(features), format="csr") - settings.alpha * graph
    mass = np.stack([_solve(system, column) for column in labels.T], 1).clip(0)
    mass /= mass.sum(1, keepdims=True) + 1e-12
    mass *= labels.mean(0) / (mass.mean(0) + 1e-12)
    total = mass.sum(1, keepdims=True)
    return np.where(total > 0, mass / np.maximum(total, 1e-12), 1 / labels.shape[1])  # a unit that no label reached


def neighbour_graph(features: np.ndarray, neighbours: int, temperature: float) -> sparse.csr_matrix:
    """Symmetric normalised weights exp(cosine / temperature) between nearest neighbours, (P, P)."""
    from sklearn.neighbors import NearestNeighbors

    unit = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12)
    neighbours = min(neighbours, len(unit) - 1)
    distance, index = NearestNeighbors(n_neighbors=neighbours + 1).fit(unit).kneighbors(unit)
    rows = np.repeat(np.arange(len(unit)), neighbours + 1)
    weights = np.exp((-(distance.ravel() ** 2) / 2) / temperature)  # cosine = 1 - distance² / 2; the 1 cancels below
    graph = sparse.csr_matrix((weights, (rows, index.ravel())), shape=(len(unit),) * 2)
    graph.setdiag(0)
    graph = graph.maximum(graph.T)
    scale = sparse.diags(1 / np.sqrt(np.asarray(graph.sum(1)).ravel() + 1e-12))
    return (scale @ graph @ scale).tocsr()


def _solve(system: sparse.csr_matrix, right: np.ndarray) -> np.ndarray:
    from scipy.sparse.linalg import cg

    return cg(system, right, rtol=1e-8, maxiter=1000)[0]  # positive definite, as alpha is below 1


STRATEGY = Propagate
register("strategy", "propagate", Settings)
