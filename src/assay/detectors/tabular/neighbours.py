"""KNN and LOF: anomalies are far from their neighbours, or sparser than them.

In: a table (n, d); columns in comparable units (standardise first if they are not). Out: one score a row >=
0: KNN in the units of the columns, LOF as a ratio (about 1 for a row as dense as its neighbours).

KNN scores a row by the distance to its k-th nearest training row (`method="largest"`, Ramaswamy et al.) or
the mean distance to the k nearest (`"mean"`). LOF compares local reachability densities (Breunig et al.):

    reach(x, o) = max(k-distance(o), d(x, o));  lrd(x) = 1 / mean_o reach(x, o);  LOF(x) = mean_o lrd(o) / lrd(x).

Defaults: k = 5 for KNN and k = 20 for LOF, the field's usual ones. A row scored is never its own training
row: scoring the training rows again gives KNN distances of 0 to themselves, which is why thresholds come from
out-of-fold scores (`Calibrated`). Time O(l n d) by brute force above 12 columns, O(l log n) by KD-tree below;
memory O(l k + n d).
"""

from __future__ import annotations

import numpy as np

from assay.base import Detector
from assay.core.validation import Floats, Ints, check_number, check_option
from assay.kernels.neighbours import nearest


class KNN(Detector):
    """Distance to the k-th nearest training row.

    Parameters
    ----------
    n_neighbors : int, default 5
        The k; at most the number of training rows.
    method : {"largest", "mean"}, default "largest"
        Distance to the k-th row, or mean distance to the k nearest.

    Attributes
    ----------
    reference_ : array of shape (n, d)
        The training rows.

    References
    ----------
    Ramaswamy, Rastogi and Shim: Efficient Algorithms for Mining Outliers from Large Data Sets. SIGMOD 2000.

    Examples
    --------
    >>> from assay import KNN
    >>> KNN(n_neighbors=1).fit([[0.0], [1.0], [2.0]]).anomaly_score([[1.5], [5.0]]).tolist()
    [0.5, 3.0]
    """

    def __init__(self, n_neighbors=5, method="largest"):
        self.n_neighbors = n_neighbors
        self.method = method

    def _check_parameters(self) -> None:
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)
        check_option(self.method, "method", "largest", "mean")

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.reference_ = X

    def _score(self, X: Floats) -> Floats:
        distances, _ = nearest(X, self.reference_, min(self.n_neighbors, len(self.reference_)))
        return distances[:, -1] if self.method == "largest" else distances.mean(axis=1)


class LOF(Detector):
    """Local outlier factor of fresh rows against the training rows.

    Parameters
    ----------
    n_neighbors : int, default 20
        The k; at most the number of training rows minus one.

    Attributes
    ----------
    reference_ : array of shape (n, d)
        The training rows.
    k_distance_, density_ : arrays of shape (n,)
        Distance to the k-th other training row, and local reachability density.

    References
    ----------
    Breunig, Kriegel, Ng and Sander: LOF: Identifying Density-Based Local Outliers. SIGMOD 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import LOF
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> score = LOF().fit(X).anomaly_score([[0.0, 0.0], [6.0, 6.0]])
    >>> bool(score[1] > 2 > score[0])
    True
    """

    def __init__(self, n_neighbors=20):
        self.n_neighbors = n_neighbors

    def _check_parameters(self) -> None:
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.reference_ = X
        k = min(self.n_neighbors, len(X) - 1)
        distances, neighbours = nearest(X, X, k, skip_self=True)
        self.k_distance_ = distances[:, -1]
        self.density_ = self._reach_density(distances, neighbours)

    def _reach_density(self, distances: Floats, neighbours: Ints) -> Floats:
        reach = np.maximum(self.k_distance_[neighbours], distances).mean(axis=1)
        # Among more than k identical rows the reach is 0: a tiny one keeps their ratio at 1, as in scikit-
        # learn.
        return 1.0 / (reach + 1e-10)

    def _score(self, X: Floats) -> Floats:
        distances, neighbours = nearest(X, self.reference_, min(self.n_neighbors, len(self.reference_) - 1))
        return self.density_[neighbours].mean(axis=1) / self._reach_density(distances, neighbours)
