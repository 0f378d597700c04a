"""Rarity: the radius of the smallest k-nearest-neighbour ball that holds an auxiliary row.

In: labelled rows (n, d), standardised by the caller; auxiliary rows (l, d). Out: one radius a row, >= 0, in
the unit of the features; 0 outside every ball.

Row i owns the open ball of radius r_i, the distance to its k-th other row, and rarity(x) = min r_i over the
balls with d(x_i, x) < r_i, strictly (Han et al.). As a rival of EAP (Perini et al.) it is read as it stands:
sparse regions of the domain are "better", what lies outside is worst. The balls are those of all labelled
rows, anomalies included, and k is fixed; `RarityDensity`, half of EAP, has balls of the normals alone, chooses
k, and inverts.

Default k = 10 (Perini et al.). With fewer rows k is the number of other rows. Departure: a row with k or more
duplicates, whose ball would be empty, reaches to its nearest row that differs. Time O(n² d + l n d), memory
O(block · n).
"""

from __future__ import annotations

import numpy as np

from assay.base import QualityScore
from assay.core.validation import Floats, Ints, check_number, normals_and_anomalies
from assay.kernels.balls import smallest_balls
from assay.kernels.distances import squared_distances

#: Bytes that the distances of one block of rows take.
BLOCK_BYTES = 32 * 2**20


def squared_radii(X: Floats, k: int) -> Floats:
    """Return each row's squared distance to its `k`-th other row, or where that is 0 to the nearest that differs."""
    radii = np.empty(len(X))
    step = max(1, BLOCK_BYTES // (8 * len(X)))
    for first in range(0, len(X), step):
        d2 = squared_distances(X[first : first + step], X)
        kth = np.partition(d2, k, axis=1)[:, k]
        differing = np.where(d2 > 0, d2, np.inf).min(axis=1)
        radii[first : first + step] = np.where((kth > 0) | np.isinf(differing), kth, differing)
    return radii


class Rarity(QualityScore):
    """Rarity score of each auxiliary row among all labelled rows, higher read as better.

    Parameters
    ----------
    n_neighbors : int, default 10
        Neighbour that sets the radii (Perini et al.).

    Attributes
    ----------
    X_ : array of shape (n, d)
        The labelled rows: the centres of the balls.
    radii_ : array of shape (n,)
        Their squared radii.

    References
    ----------
    Han, Choi, Choi, Kim and Lee: Rarity Score. ICLR 2023. As a baseline: Perini, Rudolph, Schmedding and Qiu.
    TMLR 2024.

    Examples
    --------
    >>> from assay import Rarity
    >>> rarity = Rarity(n_neighbors=1).fit([[0.0], [1.0], [3.0], [7.0]], [0, 0, 0, 1])
    >>> rarity.quality([[0.5], [2.0], [8.0], [20.0]]).tolist()
    [1.0, 2.0, 4.0, 0.0]
    """

    def __init__(self, n_neighbors: int = 10) -> None:
        self.n_neighbors = n_neighbors

    def _check_parameters(self) -> None:
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        normals_and_anomalies(y, min_normals=1, min_anomalies=1)
        self.X_ = X
        self.radii_ = squared_radii(X, min(int(self.n_neighbors), len(X) - 1))

    def _quality(self, X_aux: Floats) -> Floats:
        radii = smallest_balls(X_aux, self.X_, self.radii_[:, None])[:, 0]
        return np.where(np.isfinite(radii), np.sqrt(radii), 0.0)
