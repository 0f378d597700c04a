"""KNN-Shapley: what an auxiliary row, called an anomaly, adds to a nearest-neighbour classifier.

In: labelled rows (n, d), standardised by the caller; auxiliary rows (l, d), each judged alone. Out: one value
a row in [-1, 1] (in practice of size 1/n): above 0 if it helps its neighbours' labels, below 0 if it misleads.

The auxiliary row joins the training rows as an anomaly, the last of N = n + 1 players; the training rows are
the evaluation rows, since there are no others, and its value is its exact Shapley value in the k-NN game,
averaged over them (Jia et al.; the recursion is in `assay.kernels.shapley`). So every evaluation row e is
among the players, at distance 0, as its own nearest neighbour: kept, as in the adaptation by Perini et al.

The value of a newcomer depends, for each e, on nothing but how many players are at most as far as itself: one
sort per e, one sum from the far end, and one binary search a newcomer. Ties: at equal distance training rows
come in their order, the newcomer last. Time O(n² d + (n + l) n log n), memory O(n d + l) and one block.

Default k = 10 (Perini et al.). Departure: their code compares a neighbour's label with those of all evaluation
rows at once and stops one row early, which makes nearly all values 0; this is the published recursion.
"""

from __future__ import annotations

import numpy as np

from assay.base import QualityScore
from assay.core.validation import ANOMALY, Floats, Ints, check_number, normals_and_anomalies
from assay.kernels.shapley import newcomer_values


class KNNShapley(QualityScore):
    """Exact Shapley value of each auxiliary row in the game of a k-nearest-neighbour classifier.

    Parameters
    ----------
    n_neighbors : int, default 10
        Neighbours that vote (Perini et al.).

    Attributes
    ----------
    X_, y_ : arrays of shape (n, d) and (n,)
        The labelled rows: players and evaluation rows.

    References
    ----------
    Jia, Dao, Wang, Hubis, Gurel, Li, Zhang, Spanos and Song: Efficient Task-Specific Data Valuation for
    Nearest Neighbor Algorithms. VLDB 2019. Adapted to auxiliary anomalies by Perini, Rudolph, Schmedding and
    Qiu. TMLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import KNNShapley
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> X[95:] += 5
    >>> y = np.repeat([0, 1], [95, 5])
    >>> among_anomalies, among_normals = KNNShapley().fit(X, y).quality([[5.0, 5.0], [0.0, 0.0]])
    >>> bool(among_anomalies > 0 > among_normals)
    True
    """

    def __init__(self, n_neighbors: int = 10) -> None:
        self.n_neighbors = n_neighbors

    def _check_parameters(self) -> None:
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        normals_and_anomalies(y, min_normals=1, min_anomalies=1)
        self.X_, self.y_ = X, y

    def _quality(self, X_aux: Floats) -> Floats:
        return newcomer_values(self.X_, self.y_, X_aux, ANOMALY, int(self.n_neighbors))
